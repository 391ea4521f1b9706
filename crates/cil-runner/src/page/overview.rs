//! The beginning of the page: what was run, and how accurate it is.
//!
//! One decision: means over seeds come first, and every run stands below them.

use maud::{Markup, html};

use super::chart::{Chart, Point, Series, key};
use super::{cell, colour_of, count, mean, run_name, scrolling};
use crate::figure::{Figure, Unit, summary as figures};
use crate::summary::{Group, Orders, Summary};

/// Name of the page and what it is about.
pub(super) fn header(title: &str, summary: &Summary) -> Markup {
    let facts: Vec<String> = distinct(summary.runs.iter().map(|run| {
        let config = run.checked.config();
        let split = config.increments.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
        let images = run.result.as_ref().map_or("test", |it| it.facts.evaluated_on.as_str());
        format!(
            "{}: {} classes in tasks of {split}; accuracies on {images} images",
            config.dataset.name(),
            config.classes
        )
    }));
    let generated = summary.runs.iter().any(|run| run.checked.config().procedural.is_some());
    html! {
        header {
            h1 { (title) }
            @for fact in facts { p { (fact) } }
            @if generated { p { "Images of the procedural set are generated; they stand for no real data." } }
            @for run in summary.runs.iter().filter(|run| !run.finished) { p.notice { (run_name(run)) } }
        }
    }
}

/// Each once, in order.
fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// Means over seeds, and the figures of each run.
pub(super) fn section(summary: &Summary) -> Markup {
    let columns = figures(summary.tasks());
    let paired = summary.orders == Orders::WithSeeds;
    let head = |first: &str, second: &str| {
        html! { thead { tr { th { (first) } th { (second) } @for it in &columns { th { (it.name) ", %" } } } } }
    };
    let means = html! {
        table {
            (head("method", "seeds"))
            tbody {
                @for group in &summary.groups {
                    tr {
                        th scope="row" { (group.label) }
                        td { (group.counted.len()) }
                        @for figure in summary.figures(group) { (mean(summary, group, &figure)) }
                    }
                }
            }
        }
    };
    let runs = html! {
        table {
            (head("run", if paired { "seed and class order" } else { "seed" }))
            tbody {
                @for group in &summary.groups {
                    @for run in &group.runs {
                        tr {
                            th scope="row" { (run_name(&summary.runs[*run])) }
                            @let config = summary.runs[*run].checked.config();
                            td { (config.seed) @if paired { ", " (config.class_order) } }
                            @for figure in of_run(summary, *run) { (cell(summary, *run, &figure)) }
                        }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Summary" }
            @if summary.runs.len() > 1 {
                (scrolling(&means))
                p.note {
                    "Mean ± sample standard deviation over the seeds of whole runs, each seed once. Runs whose settings "
                    @match summary.orders {
                        Orders::Apart => { "differ in nothing but the seed are one method; another class order makes another." }
                        Orders::WithSeeds => { "differ in nothing but the seed and the class order that goes with it are one method." }
                    }
                }
                h3 { "Each run" }
            }
            (scrolling(&runs))
            p.note {
                "Last accuracy and average incremental accuracy are over all classes seen; old and new are the classes of "
                "earlier tasks and of the last one, after the last task; forgetting is Chaudhry's, larger is worse."
            }
        }
    }
}

/// The summary's figures; `old` and `new` of a run that still goes are of the last task that it has.
fn of_run(summary: &Summary, run: usize) -> Vec<Figure> {
    figures(summary.runs[run].tasks().0)
}

/// Accuracy after each task.
pub(super) fn tasks(summary: &Summary) -> Markup {
    let any = summary.runs.iter().any(|run| run.result.is_some());
    if !any {
        return html! {};
    }
    let all = summary.tasks();
    let accuracy = |task: usize| Figure::new("accuracy", format!("/tasks/{task}/accuracy"), Unit::Percent);
    let table = html! {
        table {
            thead { tr { th { "run" } @for task in 0..all { th { "task " (task + 1) } } } }
            tbody {
                @for group in &summary.groups {
                    @for run in &group.runs {
                        tr {
                            th scope="row" { (run_name(&summary.runs[*run])) }
                            @for task in 0..all { (cell(summary, *run, &accuracy(task))) }
                        }
                    }
                    @if group.counted.len() > 1 {
                        tr.mean {
                            th scope="row" { (group.label) ", mean" }
                            @for task in 0..all { (mean(summary, group, &accuracy(task))) }
                        }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Accuracy after each task" }
            (over_classes("accuracy over the classes seen", &[("", "accuracy")], summary, &summary.groups))
            (scrolling(&table))
            p.note { "In percent, over all classes seen after the task. Bands: one standard deviation over seeds." }
        }
    }
}

/// A chart of figures of tasks against the classes seen; the second of `keys` is dashed. Groups without a whole run are
/// drawn by their first run.
pub(super) fn over_classes(
    about: &str,
    keys: &[(&str, &str)],
    summary: &Summary,
    groups: &[Group],
) -> Markup {
    let mut series = Vec::new();
    for group in groups {
        let style = group.runs.first().map_or(0, |run| colour_of(summary, *run));
        for (at, (suffix, name)) in keys.iter().enumerate() {
            let name = format!("{} {suffix}", group.label).trim().to_owned() + if at < 2 { "" } else { name };
            let points = points(summary, group, keys[at].1);
            series.push(Series { name, style, dashed: at == 1, points });
        }
    }
    let seen = |it: &Series| it.points.iter().map(|point| point.x).collect::<Vec<_>>();
    let mut ticks: Vec<f64> = series.iter().flat_map(seen).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let legend: Vec<_> = series.iter().map(|it| key(&it.name, it.style, it.dashed)).collect();
    let chart = Chart {
        about: about.to_owned(),
        x: "classes seen".to_owned(),
        y: "accuracy, %".to_owned(),
        range: Some((0.0, 100.0)),
        ticks: (ticks.len() <= 12).then_some(ticks),
        borders: Vec::new(),
        markers: true,
        size: (440.0, 280.0),
        series,
    };
    html! {
        figure.plot {
            (chart.draw())
            figcaption { @for key in legend { (key) } }
        }
    }
}

/// A figure of tasks: a group's mean, with its spread.
fn points(summary: &Summary, group: &Group, key: &str) -> Vec<Point> {
    let Some(first) = group.counted.first().or(group.runs.first()) else { return Vec::new() };
    let tasks = summary.runs[*first].result.iter().flat_map(|it| &it.tasks);
    tasks
        .filter_map(|task| {
            let figure = Figure::new(key, format!("/tasks/{}/{key}", task.task), Unit::Percent);
            let (y, spread) = match summary.spread(group, &figure) {
                Some(it) => (it.mean, it.deviation.unwrap_or(0.0)),
                None => (summary.figure(*first, &figure)?, 0.0),
            };
            Some(Point { x: task.classes_seen as f64, y: y * 100.0, spread: spread * 100.0 })
        })
        .collect()
}

/// What a section of a group is headed by.
pub(super) fn group_heading(summary: &Summary, group: &Group) -> Markup {
    html! {
        @if summary.groups.len() > 1 { h3 { (group.label) " (" (count(group.runs.len(), "run")) ")" } }
    }
}
