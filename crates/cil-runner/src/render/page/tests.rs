//! Pages of runs that are written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cil_train::event::{Confusion, Evaluation, Event, PhaseKind};
use serde_json::Value;

use super::*;
use crate::folder::log::Line;
use crate::presets;
use crate::results::comparison::Choice;
use crate::results::summary::Orders;

/// Classes by label; the demo's order is another.
const NAMES: [&str; 4] = ["<script>alert(1)</script>", "a & b", "c_d", "\"e\" {f}"];

fn evaluation(classes: usize, right: u32) -> Evaluation {
    // Ten images of each class; those that are not right are taken for the last class, of the last class for the first.
    let row = |class: usize| {
        let mut row = vec![0; classes];
        row[class] = right;
        row[if class + 1 == classes { 0 } else { classes - 1 }] += 10 - right;
        row
    };
    let counts = vec![10; classes];
    Evaluation {
        classifier: Confusion { rows: (0..classes).map(row).collect() },
        top5: counts.clone(),
        task_aware: counts,
        trained_head: None,
        nearest_mean: None,
        nearest_mean_source: "none".into(),
    }
}

fn lines(right: u32) -> Vec<Line> {
    let progress = |task, phase, loss: f64| Event::Progress {
        task,
        phase,
        done: 1,
        total: 1,
        learning_rate: 0.1,
        images: 50,
        losses: BTreeMap::from([("<b>".to_owned(), loss), ("none".to_owned(), 0.0)]),
    };
    let events = vec![
        Event::TaskStart { task: 0, new_classes: 2, classes_seen: 2 },
        progress(0, PhaseKind::Student, 2.0),
        Event::TaskLearned { task: 0, stored_bytes: 0, exemplars: None },
        Event::TaskEnd { task: 0, evaluation: evaluation(2, 9) },
        Event::TaskStart { task: 1, new_classes: 2, classes_seen: 4 },
        progress(1, PhaseKind::Inversion, 7.0),
        progress(1, PhaseKind::Student, 1.0),
        Event::TaskLearned { task: 1, stored_bytes: 3 << 20, exemplars: None },
        Event::TaskEnd { task: 1, evaluation: evaluation(4, right) },
        Event::RunEnd,
    ];
    let line = |(at, event)| Line { seconds: at as f64 * 1.25, peak_memory_bytes: Some(200 << 20), event };
    events.into_iter().enumerate().map(line).collect()
}

/// Writes a run folder with the first `events` of its log.
pub(crate) fn write(place: &Path, preset: &str, seed: u64, right: u32, events: usize) -> PathBuf {
    let changes = ["classes=4", "increments=[2, 2]", "procedural.config.classes=4"].map(str::to_owned);
    let mut config = presets::find(preset).unwrap().config.with_changes(&changes, "test").unwrap();
    config.seed = seed;
    let suffix = if events < lines(right).len() { ".partial" } else { "" };
    let folder = place.join(format!("{preset}-s{seed}{suffix}"));
    fs::create_dir_all(&folder).unwrap();
    let environment = serde_json::json!({
        "code_version": "1", "candle_version": "0", "kernels": "portable", "threads": 1, "processor": null,
        "train_digest": "0123456789abcdef", "test_digest": "0", "base_model": null, "class_names": NAMES,
    });
    let mut log = "{\"format\":1}\n".to_owned();
    for line in lines(right).into_iter().take(events) {
        log.push_str(&serde_json::to_string(&line).unwrap());
        log.push('\n');
    }
    fs::write(folder.join("config.toml"), config.check().unwrap().text()).unwrap();
    fs::write(folder.join("env.json"), environment.to_string()).unwrap();
    fs::write(folder.join("events.jsonl"), log).unwrap();
    folder
}

/// When pages are written.
const WRITTEN: &str = "2026-02-03T04:05:06Z";

/// The page of these runs without a choice.
pub(super) fn shown(summary: &Summary) -> String {
    page(summary, &Comparison::new(summary, &Choice::default()).unwrap(), WRITTEN).unwrap()
}

/// Two seeds of one method, a run of another, and one that still goes.
fn four(place: &Path) -> Summary {
    let folders = [
        write(place, "demo-lwf", 1, 5, 10),
        write(place, "demo-lwf", 2, 7, 10),
        write(place, "demo-joint", 1, 8, 10),
        write(place, "demo-fine-tune", 1, 8, 5),
    ];
    Summary::load(&folders, Orders::Apart).unwrap()
}

#[test]
fn a_page_says_when_it_was_written_and_when_and_where_its_runs_were_begun() {
    let place = tempfile::tempdir().unwrap();
    let summary = four(place.path());
    assert!(shown(&summary).contains("<p>Report of 2026-02-03T04:05:06Z.</p>"), "older runs do not tell");
    for (run, started, host) in [(0, "2026-01-30T23:59:59Z", "one"), (2, "2026-02-01T00:00:00Z", "two")] {
        let path = summary.runs[run].folder.join("env.json");
        let mut environment: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let made = serde_json::json!({ "started": started, "finished": null, "host": host, "command": [] });
        environment["made"] = made;
        fs::write(path, environment.to_string()).unwrap();
    }
    let folders: Vec<PathBuf> = summary.runs.iter().map(|run| run.folder.clone()).collect();
    let page = shown(&Summary::load(&folders, Orders::Apart).unwrap());
    let sentence =
        "Report of 2026-02-03T04:05:06Z; the runs were begun from 2026-01-30 to 2026-02-01 on one, two.";
    assert!(page.contains(sentence), "{page}");
    assert!(page.contains("<td class=\"text\">2026-01-30T23:59:59Z</td><td class=\"text\">one</td>"));
}

#[test]
fn seeds_with_an_order_each_have_one_mean_and_tell_their_orders() {
    let place = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> =
        [(1, 5), (2, 7)].map(|(seed, right)| write(place.path(), "demo-lwf", seed, right, 10)).into();
    let config = folders[1].join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let drawn = |seed: u64| format!("[class-order]\nseed = {seed}\n");
    let before = (0..100).map(drawn).find(|it| text.contains(it.as_str())).unwrap();
    fs::write(&config, text.replace(&before, &drawn(4711))).unwrap();
    let groups = |orders| {
        let summary = Summary::load(&folders, orders).unwrap();
        (summary.groups.len(), shown(&summary))
    };
    let ((apart, _), (paired, page)) = (groups(Orders::Apart), groups(Orders::WithSeeds));
    assert_eq!((apart, paired), (2, 1));
    assert!(page.contains("2, drawn from 4711") && page.contains("seed and class order"));
    assert!(!page.contains("class-order"), "it is no setting");
}

/// Every number that is marked with its place: who it is of, where it is, its unit, and how it is shown.
pub(super) fn marked(page: &str, mark: &str) -> Vec<[String; 4]> {
    let attribute = |text: &str, name: &str| {
        let from = text.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        text[from..from + text[from..].find('"').unwrap()].to_owned()
    };
    let cell = |text: &str| {
        let (tag, rest) = text.split_once('>').unwrap();
        let tag = format!("{mark}=\"{tag}");
        let shown = rest.split('<').next().unwrap().to_owned();
        [attribute(&tag, mark), attribute(&tag, "data-at"), attribute(&tag, "data-unit"), shown]
    };
    page.split(&format!("{mark}=\"")).skip(1).map(cell).collect()
}

#[test]
fn every_figure_of_the_page_is_the_one_of_the_result() {
    let place = tempfile::tempdir().unwrap();
    let summary = four(place.path());
    let page = shown(&summary);
    let results: BTreeMap<&str, Value> = summary
        .runs
        .iter()
        .map(|run| (run.name.as_str(), serde_json::to_value(&run.result).unwrap()))
        .collect();
    let mut seen = BTreeSet::new();
    for [run, at, unit, shown] in marked(&page, "data-run") {
        let value = results[run.as_str()].pointer(&at).unwrap_or_else(|| panic!("{run} has no {at}"));
        let value = value.as_f64().unwrap();
        let expected = match unit.as_str() {
            "percent" => format!("{:.1}", value * 100.0),
            "seconds" => format!("{value:.1}"),
            "mebibytes" => format!("{:.1}", value / 1_048_576.0),
            "bytes" if value == 0.0 => "0 B".to_owned(),
            "bytes" => format!("{:.1} MiB", value / 1_048_576.0),
            _ => format!("{value:.0}"),
        };
        assert_eq!(shown, expected, "{run} {at}");
        seen.insert((run, at));
    }
    let keys = "/last_accuracy /average_incremental_accuracy /forgetting /tasks/0/accuracy /tasks/1/accuracy \
                /tasks/1/old_accuracy /tasks/1/new_accuracy /accuracy_matrix/0/0 /accuracy_matrix/1/0 \
                /accuracy_matrix/1/1 /forgetting_forms/chaudhry /forgetting_forms/podnet_repository /wall_seconds \
                /phase_seconds/student /phase_seconds/inversion /images_per_second \
                /phase_images_per_second/student /peak_memory_bytes /stored_bytes";
    for run in ["demo-lwf-s1", "demo-lwf-s2", "demo-joint-s1"] {
        for key in keys.split_whitespace() {
            assert!(seen.contains(&(run.to_owned(), key.to_owned())), "{run} {key} is not shown");
        }
    }
}

#[test]
fn means_and_spreads_are_those_of_whole_runs() {
    let place = tempfile::tempdir().unwrap();
    let summary = four(place.path());
    let page = shown(&summary);
    let cell = |group: &str, at: &str| {
        let cells = marked(&page, "data-group").into_iter();
        cells.filter(|it| it[0] == group && it[1] == at).map(|it| it[3].clone()).collect::<BTreeSet<_>>()
    };
    // 0.5 and 0.7: mean 0.6, squares 0.01 and 0.01, the sum over one less than two.
    assert_eq!(cell("lwf", "/last_accuracy"), ["60.0 ± 14.1".to_owned()].into());
    // (0.9 + 0.5) / 2 and (0.9 + 0.7) / 2.
    assert_eq!(cell("lwf", "/average_incremental_accuracy"), ["75.0 ± 7.1".to_owned()].into());
    assert_eq!(cell("joint", "/last_accuracy"), ["80.0".to_owned()].into());
    assert_eq!(cell("fine-tune", "/last_accuracy"), BTreeSet::new(), "it is not finished");
    assert!(page.contains(
        "| lwf | 2 | 60.0 ± 14.1 | 75.0 ± 7.1 | 60.0 ± 14.1 | 60.0 ± 14.1 | 30.0 ± 14.1 | 11.2 ± 0.0 |"
    ));
    assert!(page.contains("lwf &amp; 2 &amp; $60.0 \\pm 14.1$ &amp; $75.0 \\pm 7.1$"));
    assert!(page.contains("not finished: 1 of 2 tasks"));
}

#[test]
fn what_a_user_named_is_text_and_nothing_is_loaded() {
    let place = tempfile::tempdir().unwrap();
    let page = shown(&four(place.path()));
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    assert!(page.contains("student: &lt;b&gt;") && !page.contains("<b>:"));
    for outside in ["http:", "https:", "//", "url(", "@import", "<link", "<iframe"] {
        let found = page.find(outside).map(|at| page[at.saturating_sub(40)..at].to_owned());
        let found = found.filter(|before| !before.contains("base64"));
        assert_eq!(found, None, "{outside}");
    }
}

#[test]
fn a_run_before_its_first_task_has_a_page() {
    let place = tempfile::tempdir().unwrap();
    let folder = write(place.path(), "demo-lwf", 1, 5, 2);
    let page = shown(&Summary::load(&[folder], Orders::Apart).unwrap());
    assert!(page.contains("not finished: 0 of 2 tasks"));
    assert!(page.contains("student: none") && !page.contains("NaN"));
}

#[test]
fn the_page_begins_with_what_came_out_and_has_one_table_where_there_is_one_seed() {
    let place = tempfile::tempdir().unwrap();
    let page = shown(&four(place.path()));
    let sentence = "Accuracy after the last task, best without images: lwf (60.0 ± 14.1 %); best with all images: joint (80.0 %).";
    assert!(page.contains(sentence), "{}", &page[page.find("<header").unwrap()..][..900]);
    assert!(page.contains("Each run") && page.contains("lwf, seed 2"));
    let folders =
        [write(place.path(), "demo-lwf", 3, 5, 10), write(place.path(), "demo-lucir-e20", 3, 6, 10)];
    let page = shown(&Summary::load(&folders, Orders::Apart).unwrap());
    assert!(!page.contains("Each run"), "one seed, one table");
    assert!(page.contains("best without images: lwf (50.0 %); best with exemplars: lucir-e20 (60.0 %)"));
    // Kept bytes are shown in a unit in which they are not 0, with what they hold.
    assert!(page.contains("3.0 MiB") && page.contains("<td class=\"text\">images</td>"), "kept");
}
