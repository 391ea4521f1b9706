//! Writes a sheet of generated images: a row for each shape, plain on the left and striped on the right.
//!
//! usage: cargo run -p cil-data --example samples -- docs/images/procedural.png

use anyhow::{Context, Result};
use cil_data::dataset::Dataset;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::Images;
use image::{Rgb, RgbImage};

const CLASSES: usize = 24;
const SHAPES: usize = 12;
const PER_CLASS: usize = 4;
const SIDE: usize = 32;
/// Side and the line between two images.
const STEP: usize = SIDE + 2;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("name the file to write, such as samples.png")?;
    let config = ProceduralConfig { classes: CLASSES, train_per_class: PER_CLASS, test_per_class: 1 };
    let data = Dataset::procedural(&config, 1)?;
    let columns = CLASSES / SHAPES * PER_CLASS;
    let white = Rgb([255; 3]);
    let mut sheet = RgbImage::from_pixel((columns * STEP - 2) as u32, (SHAPES * STEP - 2) as u32, white);
    for index in 0..data.train().len() {
        let (class, copy) = (data.train().label(index), index % PER_CLASS);
        let (row, column) = (class % SHAPES, class / SHAPES * PER_CLASS + copy);
        paste(&mut sheet, data.train(), index, (column * STEP, row * STEP));
    }
    sheet.save(&path).with_context(|| format!("cannot write {path}"))
}

/// Copies an image to the sheet, its corner at `at` (column and row).
fn paste(sheet: &mut RgbImage, images: &Images, index: usize, at: (usize, usize)) {
    let planes = images.image(index);
    for place in 0..SIDE * SIDE {
        let colour = [0, 1, 2].map(|channel| planes[channel * SIDE * SIDE + place]);
        sheet.put_pixel((at.0 + place % SIDE) as u32, (at.1 + place / SIDE) as u32, Rgb(colour));
    }
}
