//! Old and new classes, forgetting, and curves of losses.
//!
//! Each loss has a chart of its own, since losses differ by orders of magnitude; runs of a group share it.

use std::collections::BTreeMap;

use cil_train::event::{Event, PhaseKind};
use maud::{Markup, html};

use super::chart::{Chart, Point, Series};
use super::overview::{group_heading, over_classes};
use super::{cell, colour_of, mean, run_name, scrolling};
use crate::folder::log::Line;
use crate::results::figure::{Figure, Unit};
use crate::results::summary::{Group, Summary};

/// Accuracy on old and on new classes after each task.
pub(super) fn old_and_new(summary: &Summary) -> Markup {
    let several = |group: &&Group| {
        group.runs.iter().any(|run| summary.runs[*run].result.as_ref().is_some_and(|it| it.tasks.len() > 1))
    };
    let groups: Vec<&Group> = summary.groups.iter().filter(several).collect();
    if groups.is_empty() {
        return html! {};
    }
    let keys = [("old", "old_accuracy"), ("new", "new_accuracy")];
    let all = summary.tasks();
    let figure = |task: usize, key: &str| Figure::new(key, format!("/tasks/{task}/{key}"), Unit::Percent);
    let table = html! {
        table {
            thead {
                tr { th rowspan="2" { "run" } @for task in 1..all { th colspan="2" { "task " (task + 1) } } }
                tr { @for _ in 1..all { th { "old" } th { "new" } } }
            }
            tbody {
                @for run in 0..summary.runs.len() {
                    tr {
                        th scope="row" { (run_name(summary, run)) }
                        @for task in 1..all { @for (_, key) in keys { (cell(summary, run, &figure(task, key))) } }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Accuracy on old and new classes" }
            div.plots {
                @for group in groups {
                    div {
                        h3 { (group.label) }
                        (over_classes(&format!("accuracy of {} on old and new classes", group.label), &keys, summary, std::slice::from_ref(group)))
                    }
                }
            }
            (scrolling(&table))
            p.note { "In percent, all classes seen competing: old are the classes of earlier tasks, new those of the task." }
        }
    }
}

/// Forms of forgetting, and the accuracy on each task's classes after each task.
pub(super) fn forgetting(summary: &Summary) -> Markup {
    if summary.runs.iter().all(|run| run.result.as_ref().is_none_or(|it| it.forgetting.is_none())) {
        return html! {};
    }
    let forms = [
        ("Chaudhry", "chaudhry"),
        ("best, last included", "best_including_last"),
        ("minus backward transfer", "minus_backward_transfer"),
        ("PODNet's repository", "podnet_repository"),
    ];
    let forms = forms.map(|(name, key)| Figure::new(name, format!("/forgetting_forms/{key}"), Unit::Percent));
    let table = html! {
        table {
            thead { tr { th { "run" } @for form in &forms { th { (form.name) } } } }
            tbody {
                @for group in &summary.groups {
                    @for run in &group.runs {
                        tr {
                            th scope="row" { (run_name(summary, *run)) }
                            @for form in &forms { (cell(summary, *run, form)) }
                        }
                    }
                    @if group.counted.len() > 1 {
                        tr.mean {
                            th scope="row" { (group.label) ", mean" }
                            @for form in &forms { (mean(summary, group, form)) }
                        }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Forgetting" }
            (scrolling(&table))
            p.note {
                "In points; larger is worse. Toolboxes call different numbers forgetting: best earlier accuracy minus the "
                "last (Chaudhry; FACIL), the same with the last in the maximum (PyCIL, Mammoth), accuracy right after "
                "learning minus the last (Avalanche), and the number that PODNet's repository logs."
            }
            h3 { "Accuracy on the classes of each task" }
            div.plots { @for run in 0..summary.runs.len() { (matrix(summary, run)) } }
        }
    }
}

fn matrix(summary: &Summary, run: usize) -> Markup {
    let recorded = &summary.runs[run];
    let tasks = recorded.tasks().0;
    if tasks == 0 {
        return html! {};
    }
    let figure = |after: usize, of: usize| {
        Figure::new("accuracy", format!("/accuracy_matrix/{after}/{of}"), Unit::Percent)
    };
    let shade = |it: &Figure| (summary.figure(run, it).unwrap_or(0.0) * 100.0).round() as u32;
    let table = html! {
        table.matrix {
            caption { (run_name(summary, run)) }
            thead { tr { th { "after task" } @for of in 0..tasks { th { "on task " (of + 1) } } } }
            tbody {
                @for after in 0..tasks {
                    tr {
                        th scope="row" { (after + 1) }
                        @for of in 0..=after {
                            @let figure = figure(after, of);
                            td data-run=(recorded.name) data-at=(figure.at) data-unit=(figure.unit.name())
                                style=(format!("--share:{}%", shade(&figure))) {
                                (figure.unit.text(summary.figure(run, &figure).unwrap_or(0.0)))
                            }
                        }
                    }
                }
            }
        }
    };
    html! { div { (scrolling(&table)) } }
}

/// Every part of the loss, as it went.
pub(super) fn losses(summary: &Summary) -> Markup {
    let charts: Vec<(&Group, Vec<(String, Chart)>)> =
        summary.groups.iter().map(|group| (group, charts(summary, group))).collect();
    html! {
        section {
            h2 { "Losses" }
            p.note {
                "Mean of each part over an epoch, or over a slice of an inversion, unweighted. A thin line is where a task "
                "begins; one line for each run, the second and further ones paler."
            }
            @for (group, charts) in charts.into_iter().filter(|it| !it.1.is_empty()) {
                (group_heading(summary, group))
                div.plots.small {
                    @for (title, chart) in charts {
                        figure.plot { figcaption { (title) } (chart.draw()) }
                    }
                }
            }
        }
    }
}

/// Units of a phase that were counted before, where tasks began, and the points of each part.
#[derive(Default)]
struct Course {
    units: usize,
    task: Option<usize>,
    borders: Vec<f64>,
    parts: BTreeMap<String, Vec<Point>>,
}

fn charts(summary: &Summary, group: &Group) -> Vec<(String, Chart)> {
    let runs = group.runs.iter().map(|run| Trained {
        name: super::short_name(summary, *run),
        style: colour_of(summary, *run),
        lines: &summary.runs[*run].lines,
    });
    loss_charts(&group.label, runs)
}

/// A training whose losses are drawn.
pub(crate) struct Trained<'a> {
    /// The text shown when a reader points at its line.
    pub(crate) name: String,
    /// Its colour, counted from 0.
    pub(crate) style: usize,
    /// Its events.
    pub(crate) lines: &'a [Line],
}

/// A chart with its title for each phase and part of the loss; `label` names the trainings to screen readers.
pub(crate) fn loss_charts<'a>(
    label: &str,
    trainings: impl Iterator<Item = Trained<'a>>,
) -> Vec<(String, Chart)> {
    let mut charts: BTreeMap<(PhaseKind, String), Chart> = BTreeMap::new();
    for Trained { name, style, lines } in trainings {
        for (phase, course) in courses(lines.iter().map(|line| &line.event)) {
            let units = match phase {
                PhaseKind::Inversion | PhaseKind::NewInversion => "slices",
                _ => "epochs",
            };
            for (part, points) in course.parts {
                let title = format!("{}: {part}", phase.name());
                let chart = charts.entry((phase, part)).or_insert_with(|| Chart {
                    about: format!("loss of {label}, {title}"),
                    x: units.to_owned(),
                    y: "loss".to_owned(),
                    range: None,
                    ticks: None,
                    borders: course.borders.clone(),
                    markers: false,
                    size: (300.0, 180.0),
                    series: Vec::new(),
                });
                chart.series.push(Series { name: name.clone(), style, dashed: false, points });
            }
        }
    }
    charts.into_iter().map(|((phase, part), chart)| (format!("{}: {part}", phase.name()), chart)).collect()
}

fn courses<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<PhaseKind, Course> {
    let mut courses: BTreeMap<PhaseKind, Course> = BTreeMap::new();
    for event in events {
        let Event::Progress { task, phase, losses, .. } = event else { continue };
        let course = courses.entry(*phase).or_default();
        if course.task.is_some_and(|before| before != *task) {
            course.borders.push(course.units as f64 + 0.5);
        }
        course.task = Some(*task);
        course.units += 1;
        for (part, value) in losses {
            let point = Point { x: course.units as f64, y: *value, spread: 0.0 };
            course.parts.entry(part.clone()).or_default().push(point);
        }
    }
    courses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_counted_over_tasks_and_their_borders_are_known() {
        let progress = |task, value| Event::Progress {
            task,
            phase: PhaseKind::Student,
            done: 1,
            total: 2,
            learning_rate: 0.1,
            images: 1,
            losses: [("total".to_owned(), value)].into(),
        };
        let events = [progress(0, 3.0), progress(0, 2.0), Event::RunEnd, progress(1, 4.0)];
        let courses = courses(events.iter());
        let course = &courses[&PhaseKind::Student];
        assert_eq!((course.units, &course.borders[..]), (3, &[2.5][..]));
        let points: Vec<_> = course.parts["total"].iter().map(|it| (it.x, it.y)).collect();
        assert_eq!(points, [(1.0, 3.0), (2.0, 2.0), (3.0, 4.0)]);
    }
}
