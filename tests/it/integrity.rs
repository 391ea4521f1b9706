//! A record that rots is found, in whatever file and bit, and a run that was killed before it began stops nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cil_runner::folder::integrity::{Verdict, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{Place, json, small_run};

const METHOD: &str = "demo-lucir-e0-dfgr-dtidkl";

/// A run that was killed in its second task, with two checkpoints.
fn half_done(place: &Place) -> PathBuf {
    let slow = ["recipe.increment.training.epochs=200"];
    let mut arguments = small_run(METHOD, &slow);
    arguments.extend(["--name", "half", "--checkpoint-every", "0"]);
    let mut program = place.program(&arguments);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let folder = place.path().join("runs/half.partial");
    let start = Instant::now();
    let is_there = |name: &str| folder.join(name).exists();
    let is_far = || is_there("generated-1.json") && is_there("base.safetensors");
    while !(is_far() && lines(&folder) > 12) {
        assert!(start.elapsed() < Duration::from_secs(120) && child.try_wait().expect("a status").is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
    folder
}

fn lines(folder: &Path) -> usize {
    fs::read_to_string(folder.join("events.jsonl")).map_or(0, |log| log.lines().count())
}

/// Files of a folder that hold something.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| fs::metadata(path).expect("a file").len() > 0).collect();
    files.sort();
    files
}

/// Flips single bits of every file, and sees each found and named.
fn every_bit_counts(folder: &Path) {
    let Verdict::Intact { files: held } = verify(folder) else { panic!("{:?}", verify(folder)) };
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).expect("digests");
    // A run that was killed may have written a file whose digest it had no time to write.
    let is_known = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        ["SHA256SUMS", "events.jsonl"].contains(&name.as_str())
            || name.ends_with("checkpoint")
            || sums.contains(&name)
    };
    let files: Vec<PathBuf> = files(folder).into_iter().filter(is_known).collect();
    assert!(files.len() > 6, "{files:?}");
    assert_eq!(held, files.len() - 1, "every file but SHA256SUMS itself: {files:?} of {sums}");
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 40, ..Config::default() });
    for path in &files {
        // The end of a log that was cut off holds nothing yet.
        let bytes = fs::read(path).expect("a file");
        let whole = match path.ends_with("events.jsonl") {
            true => bytes.iter().rposition(|byte| *byte == b'\n').expect("a line") + 1,
            false => bytes.len(),
        };
        let flipped = runner.run(&(0..8 * whole), |bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, flipped).expect("it can be damaged");
            let verdict = verify(folder);
            fs::write(path, &bytes).expect("it can be mended");
            prop_assert!(
                matches!(verdict, Verdict::Damaged { .. }),
                "bit {bit} of {}: {verdict:?}",
                path.display()
            );
            Ok(())
        });
        flipped.expect("every bit counts");
    }
    assert!(matches!(verify(folder), Verdict::Intact { .. }));
}

#[test]
fn every_bit_of_a_finished_run_counts() {
    let place = Place::new();
    place.ok(&small_run(METHOD, &[]));
    every_bit_counts(&place.path().join(format!("runs/{METHOD}-s3")));
}

#[test]
fn every_bit_of_a_run_that_is_half_done_counts() {
    let place = Place::new();
    let folder = half_done(&place);
    every_bit_counts(&folder);
    // A resumed run is compared with the digests, too.
    let path = folder.join("base.safetensors");
    damage(&path);
    let message = place.message(1, &["resume", "runs/half"]);
    assert!(message.contains("runs/half.partial/base.safetensors is not what the run wrote"), "{message}");
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it can be damaged");
}

#[test]
fn whoever_reads_a_damaged_run_says_so() {
    let place = Place::new();
    place.ok(&small_run("demo-lucir-e0", &[]));
    place.ok(&small_run("demo-lucir-e0", &["seed=4"]));
    let text = place.ok(&["report", ".", "--verify"]);
    assert_eq!(text.matches(": intact, ").count(), 2, "{text}");
    let base = "runs/demo-lucir-e0-s3/base.safetensors";
    damage(&place.path().join(base));
    let part = format!("{base} is not what the run wrote");
    let from_base = [&small_run("demo-lucir-e0", &[])[..], &["--name", "b", "--base-model", base]].concat();
    let audit = ["audit", METHOD, "--base-model", base, "--other-model", base];
    for (status, line) in [
        (1, &["report", "runs/demo-lucir-e0-s3"][..]),
        (1, &["resume", "runs/demo-lucir-e0-s3"]),
        (2, &from_base),
        (2, &audit),
    ] {
        let message = place.message(status, line);
        assert!(message.contains(&part), "{line:?}: {message}");
    }
    let output = place.output(&["report", "runs", "--verify"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("runs/demo-lucir-e0-s4: intact") && text.contains(&part), "{text}");
    let found: serde_json::Value =
        serde_json::from_slice(&place.output(&["report", "runs", "--verify", "--json"]).stdout)
            .expect("JSON");
    assert_eq!([&found[0]["state"], &found[1]["state"]], ["damaged", "intact"]);
}

#[test]
fn an_older_run_folder_without_digests_is_read_and_reported_as_unverified() {
    let place = Place::new();
    place.ok(&small_run("demo-fine-tune", &[]));
    let folder = place.path().join("runs/demo-fine-tune-s3");
    let shown = place.ok(&["report", "runs/demo-fine-tune-s3"]);
    fs::remove_file(folder.join("SHA256SUMS")).expect("digests");
    let message = place.message(1, &["report", "runs/demo-fine-tune-s3"]);
    assert!(message.contains("SHA256SUMS is missing"), "its events have checks: {message}");
    let log = fs::read_to_string(folder.join("events.jsonl")).expect("a log");
    let before =
        |line: &str| line.rsplit_once(",\"check\":").map(|(rest, _)| format!("{rest}}}\n")).expect("a check");
    fs::write(folder.join("events.jsonl"), log.lines().map(before).collect::<String>()).expect("a log");
    let output = place.output(&["report", "runs/demo-fine-tune-s3"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
    assert_eq!(message, "runs/demo-fine-tune-s3: unverified, it was written before digests were kept\n");
    let text = place.ok(&["report", "runs", "--verify"]);
    assert!(text.contains("runs/demo-fine-tune-s3: unverified"), "{text}");
}

#[test]
fn a_record_whose_models_were_taken_out_is_read_and_so_are_the_documents_own() {
    let place = Place::new();
    place.ok(&small_run("demo-fine-tune", &[]));
    let (run, folder) = ("runs/demo-fine-tune-s3", place.path().join("runs/demo-fine-tune-s3"));
    let shown = place.ok(&["report", run]);
    fs::remove_file(folder.join("base.safetensors")).expect("a model");
    assert_eq!(place.ok(&["report", run]), shown);
    let output = place.output(&["report", run, "--verify"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && printed.contains("base.safetensors is missing"), "{printed}");
    // What else is missing is missed.
    fs::remove_file(folder.join("env.json")).expect("a file");
    assert!(place.message(1, &["report", run]).contains("env.json is missing"));

    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runs");
    let mut names: Vec<_> =
        fs::read_dir(&records).expect("records").map(|it| it.expect("an entry").path()).collect();
    names.sort();
    assert!(names.len() > 4, "{names:?}");
    for record in names {
        let name = record.to_str().expect("text");
        let shown: serde_json::Value =
            serde_json::from_str(&place.ok(&["report", name, "--json"])).expect("JSON");
        assert_eq!(shown, json(record.join("result.json")), "{name}");
        assert!(matches!(verify(&record), Verdict::Intact { files: 4 } | Verdict::Unverified), "{name}");
    }
}

#[test]
fn a_kill_before_a_run_began_stops_nobody() {
    let place = Place::new();
    let partial = place.path().join("runs/demo-fine-tune-s3.partial");
    fs::create_dir_all(&partial).expect("a folder");
    fs::write(partial.join("lock"), "").expect("a file");
    fs::write(partial.join("events.jsonl"), "{\"format\":1,\"check\":\"").expect("a file");
    fs::write(partial.join("config.toml.tmp"), "preset = ").expect("a file");
    let arguments = small_run("demo-fine-tune", &[]);
    for line in [["resume", "runs/demo-fine-tune-s3"], ["report", "runs/demo-fine-tune-s3.partial"]] {
        let message = place.message(2, &line);
        assert!(message.contains("nothing of this run was begun"), "{message}");
    }
    place.ok(&arguments);
    assert_eq!(place.list("runs"), ["demo-fine-tune-s3"]);
    // Whenever it is killed, one of the two can be resumed.
    for moment in 0..12 {
        let name = String::leak(format!("killed-{moment}"));
        let line = [&arguments[..], &["--name", name]].concat();
        let mut program = place.program(&line);
        let mut child =
            program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        let start = Instant::now();
        while !place.path().join(format!("runs/{name}.partial")).exists() && start.elapsed().as_secs() < 20 {}
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        let output = place.output(&line);
        if !output.status.success() {
            place.ok(&["resume", &format!("runs/{name}")]);
        }
        assert!(json(place.path().join(format!("runs/{name}/result.json")))["last_accuracy"].is_number());
    }
}
