//! Decodes a folder of classes on a number of threads, then makes training batches of its images, and prints what
//! came out: images, seconds, the digest of the training images, and batches made a second from memory and from a
//! packed file.
//!
//! usage: cargo run -p cil-data --example decode -- FOLDER [SIDE] [THREADS]

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::batches::shuffled_batches;
use cil_data::dataset::Dataset;
use cil_data::dataset::Evaluate;
use cil_data::fit::Fit;
use cil_data::folder::{self, Decode};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::resized_crop::ResizedCrop;
use cil_random::Draw;

/// Images of a training batch.
const BATCH: usize = 64;

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
    let digest = decoded.dataset.digests().train.clone();

    let padded = Augmentation { crop_padding: side / 8, flip: true, ..Augmentation::none() };
    let from_memory = pool.install(|| made(&decoded.dataset, padded))?;
    let cache = std::env::temp_dir().join(format!("decode-example-{}", std::process::id()));
    let packed = pool.install(|| folder.packed(&by, &cache, &|_| {}))?;
    let cut =
        Augmentation { flip: true, resized_crop: Some(ResizedCrop::imagenet()), ..Augmentation::none() };
    let from_file = pool.install(|| made(&packed.dataset, cut))?;
    std::fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))?;
    writeln!(
        std::io::stdout(),
        "{{\"images\": {images}, \"seconds\": {seconds:.3}, \"per_second\": {:.1}, \"train\": \"{digest}\", \
         \"made_from_memory\": {from_memory:.1}, \"made_from_packed\": {from_file:.1}}}",
        images as f64 / seconds
    )?;
    Ok(())
}

/// Training images made a second (augmented, normalised, one tensor a batch) over three passes.
fn made(dataset: &Dataset, augmentation: Augmentation) -> Result<f64> {
    let classes = dataset.class_names().len();
    let order = ClassOrder::from_labels((0..classes).collect(), classes)?;
    let (train, _) = dataset.split(&order, 0, Evaluate::Test)?;
    let preparation = Preparation { augmentation, normalisation: Normalisation::half() };
    let samples = train.samples(0..classes);
    let begun = Instant::now();
    for pass in 0..3 {
        let draw = Draw { position: pass, ..Draw::new(1, "example") };
        for batch in shuffled_batches(samples.clone(), BATCH, draw) {
            train.images(&batch, &preparation, Some(draw), &Device::Cpu)?;
        }
    }
    Ok(3.0 * samples.len() as f64 / begun.elapsed().as_secs_f64())
}
