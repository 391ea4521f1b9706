//! Where points are missing: what an audit found of a run, beside what the run recorded and what joint training has.
//!
//! A number that an audit found carries the run's name and its place in `audit.json` (`data-audit`, `data-at`).

use cil_train::audit::findings::{Findings, Task};
use maud::{Markup, html};

use super::chart::{Chart, Point, Series, key};
use super::{cell, run_name, scrolling, short_name};
use crate::results::figure::{Figure, Unit};
use crate::results::summary::Summary;

/// A column that an audit found: its headings, its place in a task's findings, and its value.
struct Column {
    /// Over several columns.
    group: &'static str,
    name: &'static str,
    at: &'static str,
    unit: Option<Unit>,
    of: fn(&Task) -> Option<f64>,
}

const PERCENT: Option<Unit> = Some(Unit::Percent);

/// Behind the recorded accuracy.
const COLUMNS: [Column; 8] = [
    Column {
        group: "own task",
        name: "run",
        at: "run/own_task",
        unit: PERCENT,
        of: |it| Some(it.run.own_task),
    },
    Column {
        group: "own task",
        name: "true statistics",
        at: "true_statistics/own_task",
        unit: PERCENT,
        of: |it| Some(it.true_statistics.own_task),
    },
    Column {
        group: "with true",
        name: "means",
        at: "true_means/all",
        unit: PERCENT,
        of: |it| it.true_means.map(|it| it.all),
    },
    Column {
        group: "with true",
        name: "covariance",
        at: "true_covariance/all",
        unit: PERCENT,
        of: |it| it.true_covariance.map(|it| it.all),
    },
    Column {
        group: "with true",
        name: "both",
        at: "true_statistics/all",
        unit: PERCENT,
        of: |it| Some(it.true_statistics.all),
    },
    Column {
        group: "linear probe",
        name: "all",
        at: "probe/all",
        unit: PERCENT,
        of: |it| Some(it.probe.all),
    },
    Column {
        group: "linear probe",
        name: "own task",
        at: "probe/own_task",
        unit: PERCENT,
        of: |it| Some(it.probe.own_task),
    },
    Column { group: "drift", name: "of means", at: "mean_drift", unit: None, of: |it| it.mean_drift },
];

/// What audits found; nothing where no run was audited.
pub(super) fn section(summary: &Summary) -> Markup {
    let audited: Vec<(usize, &Findings)> = (0..summary.runs.len())
        .filter_map(|run| Some((run, summary.runs[run].found.as_ref()?)))
        .filter(|(run, _)| summary.runs[*run].finished)
        .collect();
    if audited.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Where points are missing" }
            p.note {
                "After the last task, in percent, on the classes of each task. Recorded: what the run answered, all classes "
                "competing. Own task: the classes of the image's own task compete. With true statistics: the run's features, "
                "classified by means, covariance or both of real training images of all classes (a discriminant where the run "
                "keeps no statistics). Linear probe: trained on these images. No run may read them; "
                code { "audit --oracle" } " does, after the run. Drift of means: distance of kept from true means, in "
                "deviations within a class."
            }
            @for (run, found) in audited { (of_run(summary, run, found)) }
        }
    }
}

fn of_run(summary: &Summary, run: usize, found: &Findings) -> Markup {
    let joint = summary.joint_runs_of(run);
    html! {
        h3 { (run_name(summary, run)) }
        @let chart = chart(summary, run, found, joint.first().copied());
        figure.plot.main {
            div.broad { (chart.draw()) }
            div.narrow { (Chart { size: (440.0, 280.0), ..chart.clone() }.draw()) }
            figcaption { @for it in &chart.series { (key(&it.name, it.style, it.dashed)) } }
        }
        (scrolling(&table(summary, run, found, &joint)))
        p { (sentence(summary, run, found)) }
        @if let Some(drift) = found.covariance_drift {
            p {
                "The kept covariance differs from the true one by "
                span data-audit=(summary.runs[run].name) data-at="/covariance_drift" data-unit="plain" { (plain(drift)) }
                " of it."
            }
        }
        @if found.probe.unsettled > 0 {
            p { "The probe ended after " (found.probe.steps) " steps before all its classes were settled: it may be better than shown." }
        }
        @match joint[..] {
            [] => p.note { "No joint training of these tasks, in this class order and with this seed, is among the reported runs." },
            _ => @for other in &joint {
                p {
                    (short_name(summary, *other)) ", trained on all images in every task"
                    @if other_network(summary, run, *other) { " (another network)" }
                    ": last accuracy " (figure_of(summary, *other, "/last_accuracy"))
                    " %, average " (figure_of(summary, *other, "/average_incremental_accuracy")) " %."
                }
            },
        }
    }
}

fn other_network(summary: &Summary, run: usize, other: usize) -> bool {
    let network = |run: usize| &summary.runs[run].checked.config().architecture;
    network(run) != network(other)
}

/// A figure of a run in a sentence.
fn figure_of(summary: &Summary, run: usize, at: &str) -> Markup {
    let figure = Figure::new("", at, Unit::Percent);
    html! {
        @match summary.figure(run, &figure) {
            Some(value) => span data-run=(summary.runs[run].name) data-at=(at) data-unit=(figure.unit.name()) {
                (figure.unit.text(value))
            },
            None => "–",
        }
    }
}

fn plain(value: f64) -> String {
    format!("{value:.3}")
}

/// How much each remedy would add, of all classes.
fn sentence(summary: &Summary, run: usize, found: &Findings) -> String {
    let Some(recorded) = summary.runs[run].result.as_ref().map(|it| it.last_accuracy) else {
        return String::new();
    };
    let points = |value: f64| format!("{:+.1}", (value - recorded) * 100.0).replace('-', "−");
    let all = &found.all;
    let mut more = vec![("true statistics of the same features", all.true_statistics.all)];
    more.extend(all.true_means.map(|it| ("true means alone", it.all)));
    more.extend(all.true_covariance.map(|it| ("true covariance alone", it.all)));
    more.push(("a linear probe", all.probe.all));
    more.push(("knowing each image's task", all.run.own_task));
    let more: Vec<String> =
        more.into_iter().map(|(what, value)| format!("{what} {}", points(value))).collect();
    format!("Of all classes, in points from the recorded accuracy: {}.", more.join(", "))
}

fn table(summary: &Summary, run: usize, found: &Findings, joint: &[usize]) -> Markup {
    let last = found.tasks.len().saturating_sub(1);
    let on_task = |task: usize| Figure::new("", format!("/accuracy_matrix/{last}/{task}"), Unit::Percent);
    let of_all = Figure::new("", "/last_accuracy", Unit::Percent);
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for column in &COLUMNS {
        match groups.last_mut() {
            Some((name, count)) if *name == column.group => *count += 1,
            _ => groups.push((column.group, 1)),
        }
    }
    let row = |name: String, place: String, task: &Task, recorded: &Figure| {
        html! {
            tr {
                th scope="row" { (name) }
                td { (task.classes) }
                (cell(summary, run, recorded))
                @for column in &COLUMNS { (audited(summary, run, &place, column, task)) }
                @for other in joint { (cell(summary, *other, recorded)) }
            }
        }
    };
    html! {
        table {
            thead {
                tr {
                    th rowspan="2" { "classes of" }
                    th rowspan="2" { "classes" }
                    th rowspan="2" { "recorded" }
                    @for (name, count) in groups { th colspan=(count) { (name) } }
                    @for other in joint { th rowspan="2" { (short_name(summary, *other)) } }
                }
                tr { @for column in &COLUMNS { th { (column.name) } } }
            }
            tbody {
                @for (at, task) in found.tasks.iter().enumerate() {
                    (row(format!("task {}", at + 1), format!("/tasks/{at}"), task, &on_task(at)))
                }
                tr.mean {
                    th scope="row" { "all" }
                    td { (found.all.classes) }
                    (cell(summary, run, &of_all))
                    @for column in &COLUMNS { (audited(summary, run, "/all", column, &found.all)) }
                    @for other in joint { (cell(summary, *other, &of_all)) }
                }
            }
        }
    }
}

/// A cell with a number that an audit found; a dash where there is none.
fn audited(summary: &Summary, run: usize, place: &str, column: &Column, task: &Task) -> Markup {
    let name = &summary.runs[run].name;
    match (column.of)(task) {
        Some(value) => html! {
            td data-audit=(name) data-at=(format!("{place}/{}", column.at)) data-unit=(column.unit.map_or("plain", Unit::name)) {
                (column.unit.map_or_else(|| plain(value), |unit| unit.text(value)))
            }
        },
        None => html! { td.none { "–" } },
    }
}

/// Accuracies by task.
fn chart(summary: &Summary, run: usize, found: &Findings, joint: Option<usize>) -> Chart {
    let last = found.tasks.len().saturating_sub(1);
    let recorded = |run: usize, task: usize| {
        summary.figure(run, &Figure::new("", format!("/accuracy_matrix/{last}/{task}"), Unit::Percent))
    };
    let series = |name: &str, style: usize, dashed: bool, of: &dyn Fn(usize) -> Option<f64>| {
        let point = |task: usize| Some(Point { x: (task + 1) as f64, y: of(task)? * 100.0, spread: 0.0 });
        let points = (0..found.tasks.len()).filter_map(point).collect();
        Series { name: name.to_owned(), style, dashed, points }
    };
    let mut all = vec![
        series("recorded", 0, false, &|task| recorded(run, task)),
        series("own task", 0, true, &|task| Some(found.tasks[task].run.own_task)),
        series("true statistics", 1, false, &|task| Some(found.tasks[task].true_statistics.all)),
        series("linear probe", 2, false, &|task| Some(found.tasks[task].probe.all)),
    ];
    if let Some(joint) = joint {
        all.push(series("joint training", 3, false, &|task| recorded(joint, task)));
    }
    let tasks = (1..=found.tasks.len()).map(|task| (task as f64, task.to_string()));
    Chart {
        about: format!(
            "accuracy of {} on the classes of each task, and what it could be",
            short_name(summary, run)
        ),
        x: "classes of task".to_owned(),
        y: "accuracy, %".to_owned(),
        range: Some((0.0, 100.0)),
        ticks: (found.tasks.len() <= 12).then(|| tasks.collect()),
        borders: Vec::new(),
        markers: true,
        size: (700.0, 320.0),
        series: all,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::render::page::tests::{marked, shown, write};
    use crate::results::found::{Found, sample::findings};
    use crate::results::summary::Orders;

    #[test]
    fn every_finding_stands_at_its_place_beside_joint_training_of_the_same() {
        let place = tempfile::tempdir().unwrap();
        let folders = [
            write(place.path(), "demo-lwf", 1, 5, 10),
            write(place.path(), "demo-lwf", 2, 6, 10),
            write(place.path(), "demo-joint", 1, 8, 10),
        ];
        let load = || Summary::load(&folders, Orders::Apart).unwrap();
        assert!(section(&load()).into_string().is_empty(), "no run was audited");
        for folder in &folders[..2] {
            Found::new(findings()).write(folder).unwrap();
        }
        let page = shown(&load());
        let values = serde_json::to_value(findings()).unwrap();
        let mut seen = Vec::new();
        for [run, at, unit, shown] in marked(&page, "data-audit") {
            let value = values.pointer(&at).and_then(Value::as_f64).unwrap_or_else(|| panic!("{at}"));
            let expected =
                if unit == "percent" { format!("{:.1}", value * 100.0) } else { format!("{value:.3}") };
            assert_eq!(shown, expected, "{at}");
            seen.push((run, at));
        }
        for run in ["demo-lwf-s1", "demo-lwf-s2"] {
            for at in
                ["/tasks/1/true_means/all", "/all/probe/own_task", "/tasks/0/mean_drift", "/covariance_drift"]
            {
                assert!(seen.contains(&(run.to_owned(), at.to_owned())), "{run} {at}");
            }
        }
        // Joint training has the seed of the first run alone.
        let section = section(&load()).into_string();
        let (first, second) = section.split_at(section.find("lwf, seed 2</h3>").unwrap());
        assert!(
            first.contains("joint, seed 1, trained on all images in every task: last accuracy"),
            "{first}"
        );
        assert!(!first.contains("another network"));
        assert!(second.contains("No joint training of these tasks"), "{second}");
        // Recorded are 0.5, so 0.65 of true statistics are 15 points more.
        assert!(
            first.contains("true statistics of the same features +15.0, true means alone +10.0"),
            "{first}"
        );
    }

    #[test]
    fn a_run_that_carries_nothing_has_dashes() {
        let place = tempfile::tempdir().unwrap();
        let folder = write(place.path(), "demo-lwf", 1, 5, 10);
        let mut found = findings();
        for task in found.tasks.iter_mut().chain([&mut found.all]) {
            (task.true_means, task.true_covariance, task.mean_drift) = (None, None, None);
        }
        (found.covariance_drift, found.probe.unsettled) = (None, 2);
        Found::new(found).write(&folder).unwrap();
        let text = section(&Summary::load(&[folder], Orders::Apart).unwrap()).into_string();
        assert_eq!(text.matches("<td class=\"none\">–</td>").count(), 9, "{text}");
        assert!(
            !text.contains("The kept covariance") && text.contains("before all its classes were settled")
        );
    }
}
