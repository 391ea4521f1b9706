//! The report of an extension: one HTML file that needs nothing beside it.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cil_random::Draw;
use dfgr::Replay;
use maud::{DOCTYPE, Markup, html};

use super::extend::report::Report;
use crate::models::Opened;
use crate::models::measure::Accuracies;
use crate::render::pictures;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}\
td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child\
{text-align:left}img{image-rendering:pixelated;max-width:100%}.warning{background:#fff3cd;padding:.5rem 1rem}\
@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}td,th{border-color:#333}\
.warning{background:#4d3c00}}";

/// Images in the picture, of which each class shows the first.
const PICTURED: (usize, usize) = (400, 10);

/// The page.
///
/// # Errors
/// If the generator fails.
pub(super) fn page(report: &Report, replay: Option<&Replay>, opened: &Opened) -> Result<String> {
    let picture = replay.map(|replay| picture(replay, opened)).transpose()?;
    let names: Vec<&String> = report.old_classes.iter().chain(&report.new_classes).collect();
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "New classes: " (report.new_classes.join(", ")) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { (report.new_classes.len()) " new classes, " (report.old_classes.len()) " old ones" }
                p {
                    (opened.path.display()) " learned " (report.new_classes.join(", ")) " from " (report.images)
                    " images by the method " code { (report.method) } "; the result is " (report.model) "."
                }
                @for warning in &report.warnings { p.warning { (warning) } }
                h2 { "Accuracy" }
                p { "Measured on " (report.measured_on) "." }
                (summary(report))
                @if !report.confusion.is_empty() {
                    h2 { "Confusions between old and new classes" }
                    (between(report, &names))
                }
                h2 { "What was kept" }
                p {
                    (format!("{:.2} MB", report.bytes as f64 / 1e6)) ", of which statistics of features are "
                    (format!("{:.2} MB", report.statistics_bytes as f64 / 1e6)) ". No image is kept."
                }
                @if let Some(picture) = picture {
                    h2 { "Generated images of the old classes" }
                    p { "A row for each class that the old model sees, in the order " (report.old_classes.join(", ")) "." }
                    img alt="generated images" src=(format!("data:image/png;base64,{picture}"));
                }
            }
        }
    }
    .into_string())
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |it| format!("{:.1} %", 100.0 * it))
}

fn summary(report: &Report) -> Markup {
    let of = |part: &Option<Accuracies>| percent(part.as_ref().map(|it| it.accuracy));
    html! {
        table {
            tr { th { "" } th { "right" } }
            tr { td { "old classes before, among themselves" } td { (of(&report.old_before)) } }
            tr { td { "old classes now, among all" } td { (of(&report.old_after)) } }
            tr { td { "new classes, among all" } td { (of(&report.new)) } }
            tr { td { "new images predicted as an old class" } td { (percent(report.new_taken_for_old)) } }
            tr {
                td { "agreement with the old model on generated images" }
                td { (percent(report.agreement_on_generated)) }
            }
        }
        @if let Some(new) = &report.new {
            table {
                tr { th { "class" } th { "images" } th { "right" } th { "mostly taken for" } }
                @for class in report.old_after.iter().chain([new]).flat_map(|it| &it.classes) {
                    @if class.images > 0 {
                        tr {
                            td { (class.class) }
                            td { (class.images) }
                            td { (percent(class.accuracy)) }
                            td { (class.mostly_taken_for.as_deref().unwrap_or("-")) }
                        }
                    }
                }
            }
        }
    }
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
    html! {
        table {
            tr { th { "images of" } th { "taken for" } th { "how many" } }
            @for (count, class, answer) in pairs.iter().take(10) {
                tr { td { (names[*class]) } td { (names[*answer]) } td { (count) } }
            }
        }
    }
}

fn picture(replay: &Replay, opened: &Opened) -> Result<String> {
    let images = replay.sample(PICTURED.0, Draw::new(1, "picture"))?;
    let rows = pictures::by_class(&images.labels.to_vec()?, replay.teacher().classes(), PICTURED.1);
    Ok(STANDARD.encode(pictures::grid(&images.images, &rows, &opened.normalisation)?))
}
