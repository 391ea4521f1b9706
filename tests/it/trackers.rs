//! docs/follow.py hands a run on to experiment trackers, each point once. What a machine lacks is skipped and said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Place, json, python, small_run};

const RUN: &str = "runs/demo-fine-tune-s3";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// The script on a run of this place, offline.
fn follow(place: &Place, python: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.current_dir(place.path()).arg(script("docs/follow.py")).args(arguments);
    command.env("WANDB_MODE", "offline").env("WANDB_SILENT", "true");
    command.env("MLFLOW_TRACKING_URI", format!("file://{}/mlruns", place.path().display()));
    // MLflow 3 asks for this where its file store is used.
    command.env("MLFLOW_ALLOW_FILE_STORE", "true");
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Steps of each tag in what the script printed.
fn printed(text: &str) -> BTreeMap<String, Vec<u64>> {
    let mut steps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut words = line.splitn(3, ' ').skip(1);
        let step = words.next().expect("a step").parse().expect("a number");
        let values: BTreeMap<String, f64> =
            serde_json::from_str(words.next().expect("values")).expect("JSON");
        values.into_keys().for_each(|tag| steps.entry(tag).or_default().push(step));
    }
    steps
}

#[test]
fn a_run_that_is_done_is_handed_on() {
    let Some(python) = python("import tomllib") else { return };
    let place = Place::new();
    place.ok(&small_run("demo-fine-tune", &[]));
    // A run may have ended since it was named.
    let output =
        follow(&place, &python, &[&format!("{RUN}.partial"), "runs/none"]).output().expect("Python runs");
    let steps = printed(&text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "left out: runs/none is not a run folder\n");
    assert_eq!(steps["learning-rate/student"], [1, 2, 3], "two epochs of the base, one of the increment");
    assert_eq!(steps["accuracy/all"], [1, 2]);

    let result = json(place.path().join(RUN).join("result.json"));
    let accuracies: Vec<f64> = result["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|it| it["accuracy"].as_f64().expect("one"))
        .collect();
    for tracker in ["wandb", "mlflow"] {
        let Some(python) = crate::python(&format!("import {tracker}")) else { continue };
        text(
            &follow(&place, &python, &["--to", tracker, "--project", "continual", RUN])
                .output()
                .expect("Python runs"),
        );
        let mut read = Command::new(&python);
        read.env("MLFLOW_ALLOW_FILE_STORE", "true");
        let read = read.arg(script("tests/it/read_trackers.py")).arg(tracker).arg(place.path()).output();
        let held: Value = serde_json::from_str(&text(&read.expect("Python runs"))).expect("JSON");
        let points = |tag: &str| -> Vec<(u64, f64)> {
            let points = held["points"][tag].clone();
            serde_json::from_value(points).unwrap_or_else(|_| panic!("{tracker} has no {tag}: {held}"))
        };
        let expected: Vec<(u64, f64)> = (1..).zip(accuracies.iter().copied()).collect();
        assert_eq!(points("accuracy/all"), expected, "{tracker}");
        let steps: Vec<u64> = points("learning-rate/student").iter().map(|it| it.0).collect();
        assert_eq!(steps, [1, 2, 3], "{tracker}");
        assert!(held["settings"].as_u64().is_some_and(|it| it > 40), "{tracker}: {held}");
    }
}

#[test]
fn a_run_that_goes_is_followed_through_a_kill_to_its_end() {
    let Some(python) = python("import tomllib") else { return };
    let place = Place::new();
    let mut arguments = small_run("demo-fine-tune", &["recipe.increment.training.epochs=60"]);
    arguments.extend(["--checkpoint-every", "1000"]);
    let mut command = place.program(&arguments);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
    let log = place.path().join(format!("{RUN}.partial/events.jsonl"));
    let epochs = || fs::read_to_string(&log).unwrap_or_default().matches("\"progress\"").count();
    let start = Instant::now();
    while epochs() < 6 {
        assert!(start.elapsed() < Duration::from_secs(120), "no six epochs in two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut follow = follow(&place, &python, &["--wait", &format!("{RUN}.partial")]);
    let follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("Python runs");
    // Long enough for it to have read what is there.
    std::thread::sleep(Duration::from_secs(3));
    run.kill().expect("a kill");
    run.wait().expect("an end");
    place.ok(&["resume", RUN]);
    let steps = printed(&text(&follow.wait_with_output().expect("an end")));
    assert_eq!(steps["learning-rate/student"], (1..=62).collect::<Vec<u64>>());
    assert_eq!(steps["accuracy/all"], [1, 2]);
}
