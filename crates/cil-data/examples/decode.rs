//! Decodes a folder of classes on a number of threads and prints images, seconds and the training images' digest.
//!
//! usage: cargo run -p cil-data --example decode -- FOLDER [SIDE] [THREADS]

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use cil_data::fit::Fit;
use cil_data::folder::{self, Decode};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().context("name the folder")?);
    let side = arguments.next().map_or(Ok(224), |side| side.parse()).context("the side is no number")?;
    let threads =
        arguments.next().map_or(Ok(1), |count| count.parse()).context("the threads are no number")?;
    let folder = folder::scan(&root)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let by = Decode { fit: Fit::of(side), skip_broken: false };
    let begun = Instant::now();
    let decoded = pool.install(|| folder.decode(&by, &|_| {}))?;
    // The digest over all pixels is part of loading.
    let seconds = begun.elapsed().as_secs_f64();
    let images = folder.train.len() + folder.test.len();
    let digest = &decoded.dataset.digests().train;
    writeln!(
        std::io::stdout(),
        "{{\"images\": {images}, \"seconds\": {seconds:.3}, \"per_second\": {:.1}, \"train\": \"{digest}\"}}",
        images as f64 / seconds
    )?;
    Ok(())
}
