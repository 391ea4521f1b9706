//! `inspect`: what a model file holds.

use anyhow::Result;
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::Inspect;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::models::Opened;
use crate::models::record::{Answers, Task};

/// The description of a model, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    sha256: &'a str,
    bytes: usize,
    classes: &'a [String],
    architecture: &'a cil_backbone::Backbone,
    architecture_name: String,
    parameters: usize,
    head: &'a cil_backbone::Head,
    image: [usize; 2],
    resize_shorter_side: usize,
    mean: &'a [f32],
    deviation: &'a [f32],
    answers_by: &'static str,
    statistics_bytes: usize,
    tasks: &'a [Task],
}

/// Does what `inspect` says.
///
/// # Errors
/// If the file is no model.
pub(super) fn inspect(arguments: &Inspect, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let engine = Engine::new(global)?;
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    // Not shown before it is known to answer.
    opened.classifier(&engine)?;
    let snapshot = &opened.model.snapshot;
    let size = |tensor: &candle_core::Tensor| tensor.elem_count();
    let attached = opened.model.attached.iter();
    let report = Report {
        file: opened.path.display().to_string(),
        sha256: &opened.sha256,
        bytes: opened.bytes,
        classes: opened.class_names(),
        architecture: &snapshot.backbone,
        architecture_name: snapshot.backbone.to_string(),
        parameters: snapshot.parameters.iter().map(|(_, tensor)| size(tensor)).sum(),
        head: &snapshot.head,
        image: [opened.fit.side, opened.fit.side],
        resize_shorter_side: opened.fit.shorter,
        mean: &opened.model.card.mean,
        deviation: &opened.model.card.deviation,
        answers_by: match opened.record.answers {
            Answers::Statistics => "statistics of features",
            Answers::Head => "the head that was trained",
        },
        statistics_bytes: attached.map(|(_, it)| size(it) * it.dtype().size_in_bytes()).sum(),
        tasks: &opened.record.tasks,
    };
    if output.json {
        return output.value(&report);
    }
    output.text(&text(&report))
}

fn text(report: &Report<'_>) -> String {
    let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    let [height, width] = report.image;
    let mut text = format!(
        "{}\n  sha256        {}\n  network       {}, {} values, {:.1} MB\n  images        RGB {height}x{width}, shorter \
         side first resized to {}; mean {}; deviation {}\n  classifier    {}\n  statistics    {}\n  classes       {}\n",
        report.file,
        report.sha256,
        report.architecture_name,
        report.parameters,
        report.bytes as f64 / 1e6,
        report.resize_shorter_side,
        list(report.mean),
        list(report.deviation),
        report.answers_by,
        match report.statistics_bytes {
            0 => "none".to_owned(),
            bytes => format!("{:.2} MB", bytes as f64 / 1e6),
        },
        report.classes.join(", "),
    );
    for (number, task) in report.tasks.iter().enumerate() {
        let images = task.images.map_or(String::new(), |it| format!(" from {it} images"));
        let from = task.from.as_ref().map_or(String::new(), |it| format!(", from {}", it.file));
        let code = task.code_version.as_ref().map_or(String::new(), |it| format!(", code {it}"));
        text.push_str(&format!(
            "  task {}        {} classes{images}: {}{from}{code}\n",
            number + 1,
            task.classes.len(),
            task.method,
        ));
    }
    text
}
