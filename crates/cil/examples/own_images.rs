//! A folder of one's own images: `cargo run -p cil --example own_images`.
//!
//! A folder has a folder a class, with pictures of any size in JPEG, PNG, WebP, BMP or GIF. This example draws such a
//! folder in a temporary place, so that it runs anywhere; name yours in its stead. Two classes are learned first, then
//! two more, without the images of the first two.

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::fs;
use std::path::Path;

use cil::prelude::*;

/// A picture's colour at a point, by class; `turn` differs from picture to picture.
fn colour(class: &str, x: u32, y: u32, turn: u32) -> [u8; 3] {
    let at = |value: u32, period: u32| ((value + turn) / period).is_multiple_of(2);
    let (from_left, from_top) = (x.abs_diff(24 + turn % 5), y.abs_diff(20 + turn % 3));
    let inside = match class {
        "circles" => from_left.pow(2) + from_top.pow(2) < 196,
        "crosses" => from_left < 5 || from_top < 5,
        "stripes" => at(y, 6),
        _ => at(x, 8) == at(y, 8),
    };
    let bright = 150 + (turn * 7 % 100) as u8;
    if inside { [bright, 60, 40] } else { [30, bright / 2, 90] }
}

/// Forty pictures of each of four classes, 48 pixels wide and 40 high.
fn draw(folder: &Path) -> cil::Result<()> {
    for class in ["circles", "crosses", "stripes", "tiles"] {
        fs::create_dir_all(folder.join(class))?;
        for turn in 0..40 {
            let picture = image::RgbImage::from_fn(48, 40, |x, y| image::Rgb(colour(class, x, y, turn)));
            picture.save(folder.join(class).join(format!("{turn}.png")))?;
        }
    }
    Ok(())
}

fn learn(folder: &Path) -> cil::Result<f64> {
    let data = Dataset::folder(folder, 32)?;
    let (train, test) = data.in_order(ClassOrder::as_labelled()).split()?;
    let method = lucir(Sgd::epochs(20).batch(16))
        .later_tasks(Sgd::epochs(15).batch(16).rate(0.02))
        .with(DfGr::iterations(60).batch(16).channels(16))
        .with(DtId::logits());
    let network = Resnet::lucir(8).width(8);
    let mut learner = Learner::builder(method).network(network).tasks([2, 2]).build()?;
    let mut accuracy = 0.0;
    for task in learner.tasks(&train) {
        let learned = task?;
        accuracy = learned.evaluate(&test)?.accuracy();
        println!("task {}: {:.1} %", learned.task, 100.0 * accuracy);
    }
    println!("classes: {}", data.class_names().join(", "));
    Ok(accuracy)
}

fn main() -> cil::Result<()> {
    let folder = std::env::temp_dir().join(format!("cil-own-images-{}", std::process::id()));
    let learned = draw(&folder).and_then(|()| learn(&folder));
    fs::remove_dir_all(&folder)?;
    learned.map(|_| ())
}

#[test]
fn four_classes_are_learned_two_by_two() -> cil::Result<()> {
    let folder = std::env::temp_dir().join(format!("cil-own-images-test-{}", std::process::id()));
    let learned = draw(&folder).and_then(|()| learn(&folder));
    fs::remove_dir_all(&folder)?;
    let accuracy = learned?;
    assert!(accuracy > 0.4, "four classes by chance are 0.25, these {accuracy}");
    Ok(())
}
