//! The report as one page.
//!
//! The page is a pure function of the runs and its date: one file, no script, nothing loaded. A number on it that is of
//! a run carries the run's name and its place in `result.json` (`data-run`, `data-at`), so that it can be looked up.

pub(crate) mod chart;
pub(crate) mod confusion;
mod generated;
pub(crate) mod kept;
pub(crate) mod learning;
mod missing;
pub(crate) mod overview;
mod settings;
mod time;

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::render::latex;
use crate::results::comparison::Comparison;
use crate::results::figure::{self, Figure};
use crate::results::images;
use crate::results::summary::{Group, Summary};

const STYLE: &str = include_str!("page/style.css");

/// Colours that there are; further groups take them again.
pub(crate) const COLOURS: usize = 7;

/// The page of these runs; `written` is when, in words.
///
/// # Errors
/// If a picture of a run is broken.
pub fn page(summary: &Summary, compared: &Comparison, written: &str) -> Result<String> {
    let title = title(summary);
    let body = html! {
        (overview::header(&title, summary, written))
        (overview::section(summary, compared))
        (overview::tasks(summary))
        (kept::section(summary))
        (learning::old_and_new(summary))
        (learning::forgetting(summary))
        (missing::section(summary))
        (confusion::section(summary)?)
        (generated::section(summary)?)
        (learning::losses(summary))
        (time::section(summary))
        (for_paper(summary, compared))
        (settings::section(summary))
    };
    Ok(document(&title, &body))
}

/// A page of one file: its title, and what stands on it.
pub(crate) fn document(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
    .into_string()
}

fn title(summary: &Summary) -> String {
    match &summary.runs[..] {
        [run] => run.name.clone(),
        runs => format!("{} runs of {}", runs.len(), count(summary.groups.len(), "method")),
    }
}

fn for_paper(summary: &Summary, compared: &Comparison) -> Markup {
    if compared.rows.iter().all(|row| row.seeds == 0) {
        return html! {};
    }
    html! {
        section {
            h2 { "For a paper" }
            p {
                "Accuracies in percent; mean and sample standard deviation over the seeds of whole runs. "
                code { "--latex" } ", " code { "--markdown" } " and " code { "--figures" } " write these, and charts, to files."
            }
            @for sentence in images::sentences(summary) { p { (sentence) "." } }
            h3 { "Markdown" }
            pre tabindex="0" { (latex::markdown(compared)) }
            h3 { "LaTeX" }
            pre tabindex="0" { (latex::latex(compared)) }
        }
    }
}

/// A cell with a figure of a run; a dash where the run has none.
fn cell(summary: &Summary, run: usize, figure: &Figure) -> Markup {
    match summary.figure(run, figure) {
        Some(value) => html! {
            td data-run=(summary.runs[run].name) data-at=(figure.at) data-unit=(figure.unit.name()) {
                (figure.unit.text(value))
            }
        },
        None => html! { td.none { "–" } },
    }
}

/// A cell with a figure's mean and spread over a group; a dash where there is none.
fn mean(summary: &Summary, group: &Group, figure: &Figure) -> Markup {
    match summary.spread(group, figure) {
        Some(spread) => html! {
            td data-group=(group.label) data-at=(figure.at) data-unit=(figure.unit.name()) {
                (figure::text(&spread, figure.unit))
            }
        },
        None => html! { td.none { "–" } },
    }
}

/// The label of a run: its method and seed, and whether it is finished; its folder is among the settings.
fn run_name(summary: &Summary, run: usize) -> Markup {
    let recorded = &summary.runs[run];
    let (done, all) = recorded.tasks();
    html! {
        (short_name(summary, run))
        @if !recorded.finished { " " span.unfinished { "not finished: " (done) " of " (all) " tasks" } }
    }
}

/// A run by its method and seed, and by its folder where that names another run too.
fn short_name(summary: &Summary, run: usize) -> String {
    let seed = |run: usize| summary.runs[run].checked.config().seed;
    let Some(group) = summary.groups.iter().find(|group| group.runs.contains(&run)) else {
        return summary.runs[run].name.clone();
    };
    let block = if group.block.is_empty() { String::new() } else { format!("{}, ", group.block) };
    let plain = format!("{block}{}, seed {}", group.label, seed(run));
    match group.runs.iter().filter(|other| seed(**other) == seed(run)).count() {
        1 => plain,
        _ => format!("{plain} ({})", summary.runs[run].name),
    }
}

/// A group's number among the colours, from 0.
fn colour_of(summary: &Summary, run: usize) -> usize {
    summary.groups.iter().position(|group| group.runs.contains(&run)).unwrap_or(0)
}

/// `1 seed`, `2 seeds`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A table that scrolls by itself where it is wider than the page.
pub(crate) fn scrolling(table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" { (table) } }
}

#[cfg(test)]
pub(crate) mod tests;
