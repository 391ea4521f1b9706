//! `evaluate`: a model's accuracy on a folder of images.

use anyhow::Result;
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::EvaluateModel;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::models::measure::{Accuracies, accuracies, confusion};
use crate::models::{Opened, folders};
use crate::render::progress::Progress;
use crate::render::table;

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    folder: String,
    #[serde(flatten)]
    accuracies: Accuracies,
}

/// Does what `evaluate` says.
///
/// # Errors
/// If the model or the folder cannot be read, or the folder has a class that the model lacks.
pub(super) fn evaluate(arguments: &EvaluateModel, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let engine = Engine::new(global)?;
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("evaluate"),
    };
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    let names = opened.class_names();
    let folder = &arguments.folder;
    let images = folders::to_evaluate(folder, names, opened.fit, arguments.skip_broken, &progress)?;
    let classifier = opened.classifier(&engine)?;
    let what = format!("evaluating {} images", images.len());
    let (counts, top5) =
        progress.during(&what, || confusion(&classifier, &images, &opened.normalisation, &engine.device))?;
    progress.finish();
    let accuracies = accuracies(&counts, &top5, names);
    if output.json {
        let (model, folder) = (arguments.model.display().to_string(), folder.display().to_string());
        return output.value(&Report { model, folder, accuracies });
    }
    output.text(&text(&accuracies))
}

fn text(measured: &Accuracies) -> String {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let mut rows = vec![["class", "images", "right, %", "mostly taken for"].map(str::to_owned).to_vec()];
    for class in measured.classes.iter().filter(|class| class.images > 0) {
        rows.push(vec![
            class.class.clone(),
            class.images.to_string(),
            class.accuracy.map_or("-".to_owned(), percent),
            class.mostly_taken_for.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let absent = measured.classes.iter().filter(|class| class.images == 0).count();
    let absent = match absent {
        0 => String::new(),
        count => format!("; {count} of the model's classes have no image here, and compete all the same"),
    };
    table::layout(&rows)
        + &format!(
            "{} % of {} images right, {} % among the five likeliest, {} % as the mean of classes{absent}\n",
            percent(measured.accuracy),
            measured.images,
            percent(measured.top5),
            percent(measured.mean_class_accuracy)
        )
}
