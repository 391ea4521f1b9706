//! The reports of `train` and `extend`: one HTML file that needs nothing beside it.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cil_random::Draw;
use dfgr::Replay;
use maud::{Markup, html};

use super::extend::report::Report;
use crate::folder::log::Line;
use crate::models::Opened;
use crate::models::measure::{Accuracies, OfClass};
use crate::render::page::learning::{Trained, loss_charts};
use crate::render::page::{document, scrolling};
use crate::render::pictures;

/// Images in the picture, of which each class shows the first.
const PICTURED: (usize, usize) = (400, 10);

/// What `train` reports.
pub(super) struct First<'a> {
    /// The model file that was written.
    pub(super) model: &'a str,
    /// Its classes.
    pub(super) classes: &'a [String],
    /// Images that they were learned from.
    pub(super) images: usize,
    /// Accuracies on the folder's images to evaluate on, if it has some.
    pub(super) measured: Option<&'a Accuracies>,
    /// Size of the file, and of the statistics in it, in bytes.
    pub(super) bytes: (usize, usize),
    /// Seconds of the whole command.
    pub(super) seconds: f64,
    /// The events of the training.
    pub(super) lines: &'a [Line],
}

/// The page of a first model.
pub(super) fn of_training(first: &First<'_>) -> String {
    let heading = format!("{} classes", first.classes.len());
    let body = html! {
        header {
            h1 { (heading) }
            p {
                (first.model) " was trained on " (first.images) " images of " (first.classes.join(", ")) "."
            }
        }
        section {
            h2 { "Accuracy" }
            @match first.measured {
                Some(measured) => {
                    p {
                        (percent(Some(measured.accuracy))) " of " (measured.images)
                        " images to evaluate on are classified correctly."
                    }
                    (by_class(&measured.classes))
                }
                None => p { "The folder has no part `val` or `test`, so the accuracy was not measured." },
            }
        }
        (losses(first.lines))
        (cost(first.bytes, first.seconds, first.lines))
    };
    document(&heading, &body)
}

/// The page of an extension.
///
/// # Errors
/// If the generator fails.
pub(super) fn of_extension(
    report: &Report,
    replay: Option<&Replay>,
    opened: &Opened,
    lines: &[Line],
) -> Result<String> {
    let picture = replay.map(|replay| picture(replay, opened)).transpose()?;
    let names: Vec<&String> = report.old_classes.iter().chain(&report.new_classes).collect();
    let body = html! {
        header {
            h1 { (report.new_classes.len()) " new classes, " (report.old_classes.len()) " old ones" }
            p {
                (opened.path.display()) " learned " (report.new_classes.join(", ")) " from " (report.images)
                " images by the method " code { (report.method) } "; the result is " (report.model) "."
            }
            @for warning in &report.warnings { p.notice { (warning) } }
        }
        section {
            h2 { "Accuracy" }
            p { "Measured on " (report.measured_on) "." }
            (summary(report))
        }
        @if !report.confusion.is_empty() {
            section {
                h2 { "Confusions between old and new classes" }
                (between(report, &names))
            }
        }
        (losses(lines))
        @if let Some(picture) = picture {
            section {
                h2 { "Generated images of the old classes" }
                p { "A row for each class that the old model predicts, in the order " (report.old_classes.join(", ")) "." }
                div.generated {
                    figure { img alt="generated images" src=(format!("data:image/png;base64,{picture}")); }
                }
            }
        }
        (cost((report.bytes, report.statistics_bytes), report.seconds, lines))
    };
    Ok(document(&format!("New classes: {}", report.new_classes.join(", ")), &body))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |it| format!("{:.1} %", 100.0 * it))
}

fn summary(report: &Report) -> Markup {
    let of = |part: &Option<Accuracies>| part.as_ref().map(|it| it.accuracy);
    let rows = [
        ("old classes before, among themselves", of(&report.old_before)),
        ("old classes now, among all", of(&report.old_after)),
        ("new classes, among all", of(&report.new)),
        ("new images predicted as an old class", report.new_taken_for_old),
        ("agreement with the old model on generated images", report.agreement_on_generated),
    ];
    let table = html! {
        table {
            thead { tr { th { "" } th { "share" } } }
            tbody {
                @for (what, share) in rows.iter().filter(|row| row.1.is_some()) {
                    tr { th scope="row" { (what) } td { (percent(*share)) } }
                }
            }
        }
    };
    let classes: Vec<OfClass> =
        report.old_after.iter().chain(&report.new).flat_map(|it| it.classes.clone()).collect();
    html! { (scrolling(&table)) (by_class(&classes)) }
}

/// Accuracies of the classes that have images.
fn by_class(classes: &[OfClass]) -> Markup {
    if classes.iter().all(|class| class.images == 0) {
        return html! {};
    }
    scrolling(&html! {
        table {
            thead { tr { th { "class" } th { "images" } th { "accuracy" } th.text { "most often mistaken for" } } }
            tbody {
                @for class in classes.iter().filter(|class| class.images > 0) {
                    tr {
                        th scope="row" { (class.class) }
                        td { (class.images) }
                        td { (percent(class.accuracy)) }
                        td.text { (class.mostly_taken_for.as_deref().unwrap_or("-")) }
                    }
                }
            }
        }
    })
}

/// The ten commonest confusions between an old and a new class.
fn between(report: &Report, names: &[&String]) -> Markup {
    let n_old = report.old_classes.len();
    let mut pairs = Vec::new();
    for (class, row) in report.confusion.iter().enumerate() {
        for (answer, count) in row.iter().enumerate() {
            if *count > 0 && (class < n_old) != (answer < n_old) {
                pairs.push((*count, class, answer));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    scrolling(&html! {
        table {
            thead { tr { th { "images of" } th.text { "predicted as" } th { "images" } } }
            tbody {
                @for (count, class, answer) in pairs.iter().take(10) {
                    tr { th scope="row" { (names[*class]) } td.text { (names[*answer]) } td { (count) } }
                }
            }
        }
    })
}

/// A curve for each phase and part of the loss, where something was trained.
fn losses(lines: &[Line]) -> Markup {
    let training = Trained { name: "this training".to_owned(), style: 0, lines };
    let charts = loss_charts("the training", std::iter::once(training));
    html! {
        @if !charts.is_empty() {
            section {
                h2 { "Losses" }
                p.note { "Mean of each part over an epoch, or over a slice of an inversion, unweighted." }
                div.plots.small {
                    @for (title, chart) in &charts {
                        figure.plot { figcaption { (title) } (chart.draw()) }
                    }
                }
            }
        }
    }
}

fn cost((bytes, statistics): (usize, usize), seconds: f64, lines: &[Line]) -> Markup {
    let megabytes = |bytes: usize| format!("{:.2} MB", bytes as f64 / 1e6);
    let memory = lines.iter().filter_map(|line| line.peak_memory_bytes).max();
    html! {
        section {
            h2 { "Size and cost" }
            p {
                "The file has " (megabytes(bytes)) ", of which statistics of features are " (megabytes(statistics))
                ". No image is kept."
            }
            p {
                "The command took " (format!("{seconds:.0} s"))
                @if let Some(memory) = memory { ", and the training at most " (memory >> 20) " MiB of memory" }
                "."
            }
        }
    }
}

fn picture(replay: &Replay, opened: &Opened) -> Result<String> {
    let images = replay.sample(PICTURED.0, Draw::new(1, "picture"))?;
    let rows = pictures::by_class(&images.labels.to_vec()?, replay.teacher().classes(), PICTURED.1);
    Ok(STANDARD.encode(pictures::grid(&images.images, &rows, &opened.normalisation)?))
}
