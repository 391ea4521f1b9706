//! The beginning of the page: what was run, and how accurate it is.
//!
//! Means over seeds come first, and every run stands below them.

use maud::{Markup, html};

use super::chart::{Chart, Point, Series, key, number};
use super::{cell, colour_of, count, mean, run_name, scrolling};
use crate::results::comparison::{Column, Comparison};
use crate::results::figure::{self, Figure, Unit, summary as figures};
use crate::results::summary::{Group, Orders, Summary};

/// Name of the page, what it is about and of when.
pub(super) fn header(title: &str, summary: &Summary, written: &str) -> Markup {
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
            @for sentence in came_out(summary) { p.result { (sentence) } }
            @if generated {
                p { "Images of the procedural set are synthetic; accuracies say nothing about real photographs." }
            }
            p { "Report of " (written) @if let Some(sentence) = made(summary) { "; " (sentence) } "." }
            @for run in (0..summary.runs.len()).filter(|run| !summary.runs[*run].finished) { p.notice { (run_name(summary, run)) } }
        }
    }
}

/// On which days the runs were begun and where, as far as that was recorded.
fn made(summary: &Summary) -> Option<String> {
    let made = || summary.runs.iter().filter_map(|run| run.environment.made.as_ref());
    let day = |started: &str| started.split('T').next().unwrap_or_default().to_owned();
    let first = made().map(|it| day(&it.started)).min()?;
    let last = made().map(|it| day(&it.started)).max()?;
    let days = if first == last { format!("on {first}") } else { format!("from {first} to {last}") };
    let hosts = distinct(made().filter_map(|it| it.host.clone()));
    let hosts = if hosts.is_empty() { String::new() } else { format!(" on {}", hosts.join(", ")) };
    let runs = if summary.runs.len() == 1 { "the run was begun" } else { "the runs were begun" };
    Some(format!("{runs} {days}{hosts}"))
}

/// The conclusions: for each set of classes that was learned, a sentence with the best method of each kind.
fn came_out(summary: &Summary) -> Vec<String> {
    let figure = Figure::new("last accuracy", "/last_accuracy", Unit::Percent);
    let tasks = distinct(summary.groups.iter().map(|group| summary.task_of(group)));
    let kinds = [
        ("without images", Keeps::Nothing),
        ("with exemplars", Keeps::Exemplars),
        ("with all images", Keeps::All),
    ];
    let mut sentences = Vec::new();
    for task in &tasks {
        let here: Vec<&Group> =
            summary.groups.iter().filter(|group| summary.task_of(group) == *task).collect();
        let best = |kind: Keeps| {
            let of = here.iter().filter(|group| keeps(summary, group) == kind);
            let all = of.filter_map(|group| Some((summary.spread(group, &figure)?, *group)));
            all.max_by(|left, right| left.0.mean.total_cmp(&right.0.mean))
        };
        let accuracies = kinds.iter().filter_map(|(name, kind)| {
            let (spread, group) = best(*kind)?;
            Some(format!("best {name}: {} ({} %)", group.label, figure::text(&spread, Unit::Percent)))
        });
        let accuracies = accuracies.collect::<Vec<_>>().join("; ");
        if here.len() > 1 && !accuracies.is_empty() {
            sentences.push(format!("Accuracy after the last task, {accuracies}."));
        }
    }
    sentences.truncate(SENTENCES);
    sentences
}

/// Most sentences of what came out.
const SENTENCES: usize = 4;

/// The data that a method keeps of old classes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    Exemplars,
    All,
}

fn keeps(summary: &Summary, group: &Group) -> Keeps {
    let recipe = group.runs.first().map(|run| &summary.runs[*run].checked.config().recipe);
    match recipe {
        Some(recipe) if recipe.joint => Keeps::All,
        Some(recipe) if !recipe.exemplars.is_none() => Keeps::Exemplars,
        _ => Keeps::Nothing,
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

/// Means over seeds, and the figures of each run; one table where every method has one run.
pub(super) fn section(summary: &Summary, compared: &Comparison) -> Markup {
    let columns = figures(summary.tasks());
    let paired = summary.orders == Orders::WithSeeds;
    let runs = html! {
        table {
            thead { tr {
                th { "run" } th { @if paired { "seed and class order" } @else { "seed" } }
                @for it in &columns { th { (it.name) ", %" } }
            } }
            tbody {
                @for group in &summary.groups {
                    @for run in &group.runs {
                        tr {
                            th scope="row" { (run_name(summary, *run)) }
                            @let config = summary.runs[*run].checked.config();
                            td { (config.seed) @if paired { ", " (config.class_order) } }
                            @for figure in of_run(summary, *run) { (cell(summary, *run, &figure)) }
                        }
                    }
                }
            }
        }
    };
    let has_seeds = summary.groups.iter().any(|group| group.runs.len() > 1);
    let has_differences = compared.columns.iter().any(|it| it.is_difference);
    html! {
        section {
            h2 { "Summary" }
            @if has_seeds || has_differences {
                (scrolling(&methods(summary, compared)))
                p.note {
                    "Mean ± sample standard deviation over the seeds of whole runs, each seed once. Runs whose settings "
                    @match summary.orders {
                        Orders::Apart => { "differ in nothing but the seed are one method; a different class order counts as a different method." }
                        Orders::WithSeeds => { "differ in nothing but the seed and the class order that goes with it are one method." }
                    }
                    " The best value of a column is bold, training on all images left out."
                    @if has_differences { " Differences are of runs with the same seed, in points." }
                }
                @for warning in summary.warnings() { p.notice { "Warning: " (warning) "." } }
                h3 { "Each run" }
            } @else {
                @for warning in summary.warnings() { p.notice { "Warning: " (warning) "." } }
            }
            (scrolling(&runs))
            p.note {
                "Last accuracy and average incremental accuracy are over all classes seen; old and new are the classes of "
                "earlier tasks and of the last one, after the last task; forgetting is Chaudhry's, larger is worse."
            }
        }
    }
}

/// The table of methods that every report shows.
fn methods(summary: &Summary, compared: &Comparison) -> Markup {
    let blocks = compared.has_blocks();
    // Planned rows of a sweep have no group.
    let group =
        |label: &str, block: &str| summary.groups.iter().find(|it| it.label == label && it.block == block);
    html! {
        table {
            thead { tr {
                @if blocks { th { "split and order" } }
                th { "method" } th { "seeds" }
                @for it in &compared.columns { th { (Comparison::heading(it)) } }
            } }
            tbody {
                @for row in &compared.rows {
                    tr {
                        @if blocks { th scope="row" { (row.block) } }
                        th scope="row" { (row.method) }
                        td { (Comparison::seeds(row)) }
                        @for (at, column) in compared.columns.iter().enumerate() {
                            @match (Comparison::text(column, row.cells[at], " ± "), place(summary, group(&row.method, &row.block), column)) {
                                (None, _) => td.none { "–" },
                                (Some(text), Some(place)) => {
                                    td.best[row.best[at]] data-group=(row.method) data-at=(place) data-unit=(column.unit.name()) { (text) }
                                }
                                (Some(text), None) => td.best[row.best[at]] { (text) },
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where a column's figure of a group is; `None` of a difference.
fn place(summary: &Summary, group: Option<&Group>, column: &Column) -> Option<String> {
    let figures =
        figure::columns(&figure::DEFAULT_COLUMNS, figure::Metric::Accuracy, summary.tasks_of(group?));
    figures.into_iter().find(|it| !column.is_difference && it.name == column.name).map(|it| it.at)
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
                            th scope="row" { (run_name(summary, *run)) }
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
            @let about = "accuracy over the classes seen";
            @let chart = chart_over_classes(
                about, "accuracy, %", &[("", "accuracy")], summary, &summary.groups, (700.0, 320.0),
            );
            figure.plot.main {
                div.broad { (chart.draw()) }
                div.narrow { (Chart { size: (440.0, 280.0), ..chart.clone() }.draw()) }
                figcaption { @for it in &chart.series { (key(&it.name, it.style, it.dashed)) } }
            }
            (scrolling(&table))
            p.note { "In percent, over all classes seen after the task. Bands: one standard deviation over seeds." }
        }
    }
}

/// A chart of figures of tasks against the classes seen, with its key; the second of `keys` is dashed. Groups without a
/// whole run are drawn by their first run.
pub(super) fn over_classes(
    about: &str,
    keys: &[(&str, &str)],
    summary: &Summary,
    groups: &[Group],
) -> Markup {
    let chart = chart_over_classes(about, "accuracy, %", keys, summary, groups, (440.0, 280.0));
    let legend: Vec<_> = chart.series.iter().map(|it| key(&it.name, it.style, it.dashed)).collect();
    html! {
        figure.plot {
            (chart.draw())
            figcaption { @for key in legend { (key) } }
        }
    }
}

/// The chart alone; see [`over_classes`].
pub(crate) fn chart_over_classes(
    about: &str,
    y: &str,
    keys: &[(&str, &str)],
    summary: &Summary,
    groups: &[Group],
    size: (f64, f64),
) -> Chart {
    let mut series = Vec::new();
    for group in groups {
        let style = group.runs.first().map_or(0, |run| colour_of(summary, *run));
        for (at, (suffix, key)) in keys.iter().enumerate() {
            let name = format!("{} {suffix}", group.label).trim().to_owned();
            let points = points(summary, group, key);
            series.push(Series { name, style, dashed: at == 1, points });
        }
    }
    let seen = |it: &Series| it.points.iter().map(|point| point.x).collect::<Vec<_>>();
    let mut ticks: Vec<f64> = series.iter().flat_map(seen).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    Chart {
        about: about.to_owned(),
        x: "classes seen".to_owned(),
        y: y.to_owned(),
        range: Some((0.0, 100.0)),
        ticks: (ticks.len() <= 12).then(|| ticks.into_iter().map(|x| (x, number(x, 1.0))).collect()),
        borders: Vec::new(),
        markers: true,
        size,
        series,
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

/// The heading of a group's section.
pub(super) fn group_heading(summary: &Summary, group: &Group) -> Markup {
    html! {
        @if summary.groups.len() > 1 { h3 { (group.label) " (" (count(group.runs.len(), "run")) ")" } }
    }
}
