//! `train`: a first model from a folder of images.

use anyhow::{Context, Result};
use cil_backbone::Backbone;
use cil_backbone::file::{Model, ModelCard};
use cil_data::augment::Preparation;
use cil_data::fit::Fit;
use cil_data::normalise::Normalisation;
use cil_data::split::Increments;
use cil_data::store::TrainSet;
use cil_train::learner::{Learner, Plan};
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::Train;
use crate::cli::failure::bad_input;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::commands::model_page::{self, First};
use crate::engine::Engine;
use crate::folder::files::{export, write_atomic};
use crate::models::attempt::{Attempt, Ended, Settings, learned};
use crate::models::measure::{accuracies, confusion};
use crate::models::record::{Answers, Measured, Record, Task};
use crate::models::{folders, recipes};
use crate::render::progress::Progress;

/// The seed where none is asked for.
pub(super) const SEED: u64 = 1;

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    bytes: usize,
    statistics_bytes: usize,
    classes: Vec<String>,
    images: usize,
    /// On the folder's part to evaluate on; null if it has none.
    accuracy: Option<f64>,
    seconds: f64,
}

/// Does what `train` says.
///
/// # Errors
/// If the folder cannot be read, a setting is wrong, or the training fails.
pub(super) fn train(
    arguments: &Train,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let started = std::time::Instant::now();
    super::check_out("--out", &arguments.out, &[])?;
    if let Some(report) = &arguments.report {
        super::check_out("--report", report, &[("the model file that is written", &arguments.out)])?;
    }
    let engine = Engine::new(global)?;
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("train"),
    };
    let folder = folders::scan(&arguments.folder)?;
    if folder.classes.len() < 2 {
        return Err(bad_input(format!(
            "{} has one class, {:?}; a first model learns to tell at least two apart",
            arguments.folder.display(),
            folder.classes[0]
        )));
    }
    let fit = Fit::of(arguments.image_side.into());
    let architecture = recipes::architecture(arguments.network, fit.side);
    let backbone = Backbone::from(architecture);
    let statistics = (!arguments.no_statistics).then(|| recipes::statistics(&backbone, fit.side));
    let recipe = recipes::first(&architecture, arguments.epochs, folder.train.len(), statistics);
    let recipe = recipes::changed(recipe, &arguments.set, &backbone)?;
    let dataset = engine.keep(folders::decode(&folder, fit, arguments.skip_broken, &progress)?)?;
    let images = dataset.train();
    let normalisation = Normalisation::measured(images);
    let classes = folder.classes.len();
    let augmentation = recipes::augmentation(fit.side);
    let plan = Plan {
        backbone,
        increments: Increments::new(vec![classes], classes)?,
        preparation: Preparation { augmentation, normalisation: normalisation.clone() },
        seed: global.seed.unwrap_or(SEED),
        executors: engine.executors.clone(),
        device: engine.device.clone(),
        recipe,
    };
    let recipe_text = toml::to_string(&plan.recipe).context("the recipe is not TOML")?;
    let (discriminant, seed) = (plan.recipe.discriminant.clone(), plan.seed);
    let train = TrainSet::after(images.clone(), classes, 0)?;
    let settings =
        Settings { images: vec![dataset.digests().train.clone()], ..Settings::new(&plan, fit.side, &engine) };
    let attempt = Attempt::new(&arguments.out, &settings, &plan, &train);
    let begun = || Learner::new(plan.clone()).map_err(|error| bad_input(format!("{error:#}")));
    let Ended { learner, lines } = attempt.run(begun, &mut progress, interrupt)?;
    let (trained, _) = learned(&learner)?;
    let measured = match dataset.test().is_empty() {
        true => None,
        false => {
            let measured = || confusion(&trained, dataset.test(), &normalisation, &engine.device);
            let (counts, top5) = progress.during("evaluating", measured)?;
            Some(accuracies(&counts, &top5, &folder.classes))
        }
    };
    let accuracy = measured.as_ref().map(|it| it.accuracy);
    let task = Task {
        classes: folder.classes.clone(),
        images: Some(images.len()),
        data_digest: Some(dataset.digests().train.clone()),
        method: "train".to_owned(),
        recipe: Some(recipe_text),
        seed: Some(seed),
        code_version: Some(env!("CIL_CODE_VERSION").to_owned()),
        from: None,
        measured: accuracy.map(|new| Measured {
            on: "the folder's images to evaluate on".to_owned(),
            new: Some(new),
            ..Measured::default()
        }),
    };
    // The trained head classifies its own classes better than statistics do; these are for later extensions.
    let record = Record { tasks: vec![task], discriminant, logistic: None, answers: Answers::Head };
    let card = ModelCard {
        class_names: folder.classes.clone(),
        mean: normalisation.mean.to_vec(),
        deviation: normalisation.deviation.to_vec(),
        // The record says it, by task.
        trained_on: None,
    };
    let model = Model {
        resize: Some(fit.shorter),
        record: Some(serde_json::to_value(&record)?),
        attached: learner.kept_statistics()?.unwrap_or_default(),
        ..Model::new(trained.snapshot().clone(), card)
    };
    let bytes = model.to_bytes()?;
    write_atomic(&arguments.out, &bytes)?;
    attempt.remove()?;
    progress.finish();
    let report = Report {
        model: arguments.out.display().to_string(),
        bytes: bytes.len(),
        statistics_bytes: super::attached_bytes(&model),
        classes: folder.classes,
        images: images.len(),
        accuracy,
        seconds: started.elapsed().as_secs_f64(),
    };
    if let Some(path) = &arguments.report {
        let page = model_page::of_training(&First {
            model: &report.model,
            classes: &report.classes,
            images: report.images,
            measured: measured.as_ref(),
            bytes: (report.bytes, report.statistics_bytes),
            seconds: report.seconds,
            lines: &lines,
        });
        export(path, page.as_bytes())?;
    }
    if output.json {
        return output.value(&report);
    }
    let accuracy =
        report.accuracy.map_or(String::new(), |it| format!(", {:.1} % of its test images right", 100.0 * it));
    output.text(&format!(
        "{}: {} classes from {} images{accuracy}; {:.2} MB, {:.2} MB of them statistics for later extensions\n",
        report.model,
        report.classes.len(),
        report.images,
        report.bytes as f64 / 1e6,
        report.statistics_bytes as f64 / 1e6,
    ))
}
