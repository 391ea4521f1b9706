//! `predict`: which classes a model sees in images.

use std::path::PathBuf;

use anyhow::Result;
use cil_data::fit::Fit;
use cil_data::folder::{decode_file, pictures};
use rayon::prelude::*;
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::Predict;
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::models::measure::{largest, probabilities};
use crate::models::{Opened, folders};
use crate::render::progress::Progress;

/// Images that are decoded and classified together.
const CHUNK: usize = 500;

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    predictions: Vec<Guess>,
}

#[derive(Debug, Serialize)]
struct Guess {
    class: String,
    probability: f32,
}

/// Does what `predict` says.
///
/// # Errors
/// If the model or an image cannot be read.
pub(super) fn predict(arguments: &Predict, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let engine = Engine::new(global)?;
    let quiet = global.json || arguments.csv;
    let mut progress = if quiet { Progress::silent() } else { Progress::on_standard_error("predict") };
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    let classifier = opened.classifier(&engine)?;
    let mut files = Vec::new();
    for path in &arguments.images {
        files.extend(pictures(path).map_err(|error| bad_input(format!("{error:#}")))?);
    }
    let mut reports = Vec::with_capacity(files.len());
    let mut broken = Vec::new();
    for chunk in files.chunks(CHUNK) {
        let what = format!("classifying image {} of {}", reports.len() + broken.len() + 1, files.len());
        let (whole, pixels) = progress.during(&what, || decoded(chunk, opened.fit, &mut broken));
        if whole.is_empty() || (!broken.is_empty() && !arguments.skip_broken) {
            continue;
        }
        let images = folders::unlabelled(opened.fit, pixels, whole.len())?;
        let rows = probabilities(&classifier, &images, &opened.normalisation, &engine.device)?;
        for (file, row) in whole.into_iter().zip(rows) {
            let guess =
                |class: usize| Guess { class: opened.class_names()[class].clone(), probability: row[class] };
            let predictions = largest(&row, arguments.top_k.into()).into_iter().map(guess).collect();
            reports.push(Report { file: file.display().to_string(), predictions });
        }
    }
    progress.finish();
    if !broken.is_empty() {
        let count = format!("{} of {} images cannot be read", broken.len(), files.len());
        if !arguments.skip_broken || reports.is_empty() {
            return Err(bad_input(format!(
                "{count}; repair or remove them, or leave them out with --skip-broken: {}",
                broken.join("; ")
            )));
        }
        progress.say(&format!("{count} and were left out: {}", broken.join("; ")));
    }
    if arguments.csv {
        return output.text(&csv(&reports)?);
    }
    if output.json {
        return output.value(&reports);
    }
    reports.iter().try_for_each(|it| output.text(&line(it)))
}

/// The images that can be decoded, and the bytes of all of them; the others are added to `broken`.
fn decoded(files: &[PathBuf], fit: Fit, broken: &mut Vec<String>) -> (Vec<PathBuf>, Vec<u8>) {
    let tried: Vec<_> = files.par_iter().map(|file| decode_file(file, &fit)).collect();
    let (mut whole, mut pixels) = (Vec::new(), Vec::new());
    for (file, tried) in files.iter().zip(tried) {
        match tried {
            Ok(bytes) => {
                pixels.extend(bytes);
                whole.push(file.clone());
            }
            Err(error) => broken.push(format!("{error:#}")),
        }
    }
    (whole, pixels)
}

fn line(report: &Report) -> String {
    let guesses = report.predictions.iter().map(|it| format!("{} {:.1} %", it.class, 100.0 * it.probability));
    format!("{}: {}\n", report.file, guesses.collect::<Vec<_>>().join(", "))
}

fn csv(reports: &[Report]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["file", "rank", "class", "probability"])?;
    for image in reports {
        for (rank, guess) in image.predictions.iter().enumerate() {
            let (rank, probability) = ((rank + 1).to_string(), format!("{:.6}", guess.probability));
            writer.write_record([image.file.as_str(), &rank, &guess.class, &probability])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
