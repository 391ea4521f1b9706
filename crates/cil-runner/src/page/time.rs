//! What a run took: time, throughput, memory.
//!
//! One decision: a phase's throughput is its own images over its own seconds, as in `result.json`.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{cell, run_name, scrolling};
use crate::figure::{Figure, Unit};
use crate::summary::Summary;

/// Seconds, images per second and peak memory of each run.
pub(super) fn section(summary: &Summary) -> Markup {
    let results = || summary.runs.iter().filter_map(|run| run.result.as_ref());
    let phases: BTreeSet<&String> = results().flat_map(|it| it.phase_seconds.keys()).collect();
    if phases.is_empty() {
        return html! {};
    }
    let trained: BTreeSet<&String> = results().flat_map(|it| it.phase_images_per_second.keys()).collect();
    let seconds =
        phases.iter().map(|it| Figure::new(it.as_str(), format!("/phase_seconds/{it}"), Unit::Seconds));
    let seconds: Vec<Figure> =
        std::iter::once(Figure::new("in all", "/wall_seconds", Unit::Seconds)).chain(seconds).collect();
    let rate = |it: &&String| Figure::new(it.as_str(), format!("/phase_images_per_second/{it}"), Unit::Rate);
    let mut rates = vec![Figure::new("in all", "/images_per_second", Unit::Rate)];
    rates.extend(trained.iter().map(rate));
    let memory = [
        Figure::new("peak memory, MiB", "/peak_memory_bytes", Unit::Mebibytes),
        Figure::new("images kept, MiB", "/stored_bytes", Unit::Mebibytes),
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
            (table(summary, &memory))
            p.note {
                "Images are those that went through student, teacher or generator. A run that took its base model from a "
                "file did not train it, and its seconds leave that out."
            }
        }
    }
}

fn table(summary: &Summary, figures: &[Figure]) -> Markup {
    scrolling(&html! {
        table {
            thead { tr { th { "run" } @for figure in figures { th { (figure.name) } } } }
            tbody {
                @for (run, recorded) in summary.runs.iter().enumerate() {
                    tr {
                        th scope="row" { (run_name(recorded)) }
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
                    span { (recorded.name) }
                    div role="img" aria-label=(format!("seconds of {} by phase", recorded.name)) {
                        @for (at, (phase, seconds)) in phases.iter().zip(of(run)).enumerate() {
                            @if seconds > 0.0 {
                                i.(format!("b{at}")) title=(format!("{}: {seconds:.1} s", phase.name))
                                    style=(format!("width:{:.3}%", 100.0 * seconds / longest)) {}
                            }
                        }
                    }
                }
            }
            figcaption {
                @for (at, phase) in phases.iter().enumerate() {
                    span.key { i.(format!("b{at}")) {} (phase.name) }
                }
            }
        }
    }
}
