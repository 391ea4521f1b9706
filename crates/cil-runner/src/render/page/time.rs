//! The resources of a run: time, throughput, memory.
//!
//! A phase's throughput is its own images over its own seconds, as in `result.json`.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{cell, run_name, scrolling, short_name};
use crate::results::figure::{Figure, Unit};
use crate::results::summary::Summary;

/// The phases of a task in their order, each with its colour.
const PHASES: [(&str, usize); 8] = [
    ("preparation", 6),
    ("inversion", 1),
    ("new-teacher", 2),
    ("new-inversion", 1),
    ("student", 0),
    ("balance", 3),
    ("memory", 5),
    ("evaluation", 4),
];

/// Seconds, images per second and peak memory of each run.
pub(super) fn section(summary: &Summary) -> Markup {
    let results = || summary.runs.iter().filter_map(|run| run.result.as_ref());
    if results().next().is_none() {
        return html! {};
    }
    let phases = in_order(&results().flat_map(|it| it.phase_seconds.keys()).collect());
    let trained = in_order(&results().flat_map(|it| it.phase_images_per_second.keys()).collect());
    let seconds = phases.iter().map(|it| Figure::new(*it, format!("/phase_seconds/{it}"), Unit::Seconds));
    let seconds: Vec<Figure> =
        std::iter::once(Figure::new("in all", "/wall_seconds", Unit::Seconds)).chain(seconds).collect();
    let rate = |it: &&str| Figure::new(*it, format!("/phase_images_per_second/{it}"), Unit::Rate);
    let mut rates = vec![Figure::new("in all", "/images_per_second", Unit::Rate)];
    rates.extend(trained.iter().map(rate));
    let memory = [
        Figure::new("peak memory, MiB", "/peak_memory_bytes", Unit::Mebibytes),
        Figure::new("kept between tasks", "/stored_bytes", Unit::Bytes),
    ];
    html! {
        section {
            h2 { "Time and memory" }
            (bars(summary, &seconds[1..]))
            h3 { "Seconds" }
            (table(summary, &seconds))
            h3 { "Images per second of training" }
            (table(summary, &rates))
            h3 { "Memory" }
            (scrolling(&html! {
                table {
                    thead { tr { th { "run" } @for figure in &memory { th { (figure.name) } } th.text { "of what" } } }
                    tbody {
                        @for run in 0..summary.runs.len() {
                            tr {
                                th scope="row" { (run_name(summary, run)) }
                                @for figure in &memory { (cell(summary, run, figure)) }
                                td.text { (kept(summary, run)) }
                            }
                        }
                    }
                }
            }))
            p.note {
                "Images are those that went through student, teacher or generator. A run that took its base model from a "
                "file did not train it, and its seconds leave that out."
            }
        }
    }
}

/// The data that a run keeps between tasks beside its model.
fn kept(summary: &Summary, run: usize) -> String {
    let recipe = &summary.runs[run].checked.config().recipe;
    if recipe.joint {
        return "all images (not counted)".to_owned();
    }
    let kept =
        [(!recipe.exemplars.is_none(), "images"), (recipe.discriminant.is_some(), "statistics of features")];
    let kept: Vec<&str> = kept.into_iter().filter_map(|(is_kept, what)| is_kept.then_some(what)).collect();
    if kept.is_empty() { "nothing".to_owned() } else { kept.join(" and ") }
}

/// These phases in the order of a task.
fn in_order(phases: &BTreeSet<&String>) -> Vec<&'static str> {
    let names = PHASES.iter().map(|(name, _)| *name);
    names.filter(|name| phases.iter().any(|it| it.as_str() == *name)).collect()
}

/// The class of a phase's colour.
fn colour(phase: &Figure) -> String {
    let colour = PHASES.iter().find(|(name, _)| *name == phase.name).map_or(6, |(_, colour)| *colour);
    format!("b{colour}")
}

fn table(summary: &Summary, figures: &[Figure]) -> Markup {
    scrolling(&html! {
        table {
            thead { tr { th { "run" } @for figure in figures { th { (figure.name) } } } }
            tbody {
                @for run in 0..summary.runs.len() {
                    tr {
                        th scope="row" { (run_name(summary, run)) }
                        @for figure in figures { (cell(summary, run, figure)) }
                    }
                }
            }
        }
    })
}

/// A bar for each run, divided by phases.
fn bars(summary: &Summary, phases: &[Figure]) -> Markup {
    let of = |run: usize| phases.iter().map(move |phase| summary.figure(run, phase).unwrap_or(0.0).max(0.0));
    let longest = (0..summary.runs.len()).map(|run| of(run).sum::<f64>()).fold(0.0, f64::max);
    if longest <= 0.0 {
        return html! {};
    }
    html! {
        figure.bars {
            @for (run, recorded) in summary.runs.iter().enumerate() {
                div.bar {
                    span { (short_name(summary, run)) }
                    div role="img" aria-label=(format!("seconds of {} by phase", recorded.name)) {
                        @for (phase, seconds) in phases.iter().zip(of(run)) {
                            @if seconds > 0.0 {
                                i.(colour(phase)) title=(format!("{}: {seconds:.1} s", phase.name))
                                    style=(format!("width:{:.3}%", 100.0 * seconds / longest)) {}
                            }
                        }
                    }
                }
            }
            figcaption {
                @for phase in phases {
                    span.key { i.(colour(phase)) {} (phase.name) }
                }
            }
        }
    }
}
