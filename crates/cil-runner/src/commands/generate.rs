//! `generate`: images that a model's own knowledge makes.

use std::fs;

use anyhow::{Context, Result};
use cil_data::normalise::Normalisation;
use cil_random::Draw;
use cil_train::audit::invert;
use cil_train::learner::Plan;
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::{Generate, Method};
use crate::cli::failure::Interrupted;
use crate::cli::failure::bad_input;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::engine::machine;
use crate::folder::files::write_atomic;
use crate::folder::log::Line;
use crate::models::{Opened, recipes};
use crate::render::pictures;
use crate::render::progress::Progress;

/// Images that are made at a time.
const BATCH: usize = 250;

#[derive(Debug, Serialize)]
struct Report {
    out: String,
    images: usize,
    /// Images by the class that the model sees in them.
    classes: Vec<OfClass>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct OfClass {
    class: String,
    images: usize,
}

/// Does what `generate` says.
///
/// # Errors
/// If the model cannot be read, or the place of the images is taken.
pub(super) fn generate(
    arguments: &Generate,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let started = std::time::Instant::now();
    let is_picture = arguments.out.extension().is_some_and(|it| it.eq_ignore_ascii_case("png"));
    if !is_picture && arguments.out.exists() {
        return Err(bad_input(format!(
            "--out {}: it exists already; name a new folder, or a file that ends in .png",
            arguments.out.display()
        )));
    }
    let engine = Engine::new(global)?;
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("generate"),
    };
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    let teacher = opened.trained(&engine)?;
    let plan = plan(arguments, &opened, global, &engine)?;
    let replay = invert(&plan, &teacher, None, &mut |event| {
        if interrupt.is_asked() {
            return Err(Interrupted("interrupted; no image was written".to_owned()).into());
        }
        let (seconds, peak_memory_bytes) = (started.elapsed().as_secs_f64(), machine::peak_memory_bytes());
        progress.show(&Line { seconds, peak_memory_bytes, event: event.clone() });
        Ok(())
    })?;
    let mut by_class = vec![Vec::new(); teacher.classes()];
    let count = arguments.images as usize;
    for position in 0..count.div_ceil(BATCH) {
        let draw = Draw { position: position as u64, ..Draw::new(plan.seed, "generate") };
        let rows = BATCH.min(count - position * BATCH);
        let made = replay.sample(rows, draw)?;
        for (row, label) in made.labels.to_vec()?.into_iter().enumerate() {
            by_class[label as usize].push(made.images.get(row)?);
        }
    }
    match is_picture {
        true => picture(arguments, &by_class, &opened.normalisation)?,
        false => folder(arguments, &by_class, &opened)?,
    }
    progress.finish();
    let of = |(class, images): (&String, &Vec<_>)| OfClass { class: class.clone(), images: images.len() };
    let report = Report {
        out: arguments.out.display().to_string(),
        images: count,
        classes: opened.class_names().iter().zip(&by_class).map(of).collect(),
        seconds: started.elapsed().as_secs_f64(),
    };
    if output.json {
        return output.value(&report);
    }
    let classes: Vec<String> =
        report.classes.iter().map(|it| format!("{} {}", it.images, it.class)).collect();
    output.text(&format!(
        "{}: {} images, as the model sees them: {}\n",
        report.out,
        count,
        classes.join(", ")
    ))
}

fn plan(arguments: &Generate, opened: &Opened, global: &Global, engine: &Engine) -> Result<Plan> {
    let beginning = recipes::Beginning {
        head: opened.model.snapshot.head.kind,
        backbone: opened.model.snapshot.backbone.clone(),
        statistics: None,
        appended: None,
        images: 2000,
        side: opened.fit.side,
    };
    let mut recipe = recipes::extension(Method::Head, &beginning);
    if let Some(replay) = &mut recipe.replay {
        replay.inversion.iterations = arguments.iterations as usize;
    }
    let mut sizes = opened.model.snapshot.head.blocks.clone();
    sizes.push(1);
    let classes = sizes.iter().sum();
    Ok(Plan {
        recipe,
        backbone: opened.model.snapshot.backbone.clone(),
        increments: cil_data::split::Increments::new(sizes, classes)?,
        preparation: crate::models::measure::preparation(&opened.normalisation),
        seed: global.seed.unwrap_or(super::train::SEED),
        executors: engine.executors.clone(),
        device: engine.device.clone(),
    })
}

/// One row of images for each class.
fn picture(
    arguments: &Generate,
    by_class: &[Vec<candle_core::Tensor>],
    normalisation: &Normalisation,
) -> Result<()> {
    let (mut images, mut rows) = (Vec::new(), Vec::new());
    for of_class in by_class {
        let shown = of_class.iter().take(20);
        rows.push((images.len()..images.len() + shown.len()).collect());
        images.extend(shown.cloned());
    }
    let png = pictures::grid(&candle_core::Tensor::stack(&images, 0)?, &rows, normalisation)?;
    write_atomic(&arguments.out, &png)
}

/// A folder a class, which is there whole or not at all.
fn folder(arguments: &Generate, by_class: &[Vec<candle_core::Tensor>], opened: &Opened) -> Result<()> {
    let partial = arguments.out.with_extension("partial");
    let place = || format!("cannot write {}", partial.display());
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(place)?;
    }
    for (class, images) in opened.class_names().iter().zip(by_class) {
        let folder = partial.join(plain(class));
        fs::create_dir_all(&folder).with_context(place)?;
        for (number, image) in images.iter().enumerate() {
            let png = pictures::single(image, &opened.normalisation)?;
            fs::write(folder.join(format!("{number:05}.png")), png).with_context(place)?;
        }
    }
    fs::rename(&partial, &arguments.out).with_context(|| format!("cannot write {}", arguments.out.display()))
}

/// A class name as a folder's.
fn plain(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|it| if it.is_control() || r#"/\:*?"<>|"#.contains(it) { '_' } else { it })
        .collect();
    match plain.trim_matches('.').trim() {
        "" => "_".to_owned(),
        name => name.to_owned(),
    }
}
