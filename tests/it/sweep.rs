//! Many runs from one file.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::{Place, SMALL, SMALL_REPLAY, json};

/// Settings that make a run a matter of a second.
fn small() -> String {
    let changes = SMALL.iter().filter(|change| !change.starts_with("seed"));
    format!("set = [{}]\n", changes.map(|change| format!("{change:?}")).collect::<Vec<_>>().join(", "))
}

fn method(preset: &str, more: &[&str]) -> String {
    let replay: &[&str] = if preset.contains("dfgr") { &SMALL_REPLAY } else { &[] };
    let changes: Vec<String> = replay.iter().chain(more).map(|change| format!("{change:?}")).collect();
    format!("[[method]]\npreset = \"demo-{preset}\"\nset = [{}]\n", changes.join(", "))
}

fn write(place: &Place, text: &str) {
    fs::write(place.path().join("s.toml"), text).expect("a file");
}

/// Folders of runs that are whole or not, by the beginning of their names.
fn folders(place: &Place, beginning: &str) -> Vec<PathBuf> {
    let names = place.list("runs/s").into_iter().filter(|name| name.starts_with(beginning));
    names.map(|name| place.path().join("runs/s").join(name)).collect()
}

fn read(path: impl AsRef<std::path::Path>) -> Vec<u8> {
    fs::read(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn a_sweep_shares_its_base_gives_the_same_bits_and_does_only_what_is_missing() {
    let place = Place::new();
    let methods = method("lucir-e0", &[]) + &method("lucir-e0-dfgr-dtidkl", &[]);
    let file = |seeds: &str| format!("seeds = {seeds}\nbaseline = \"lucir-e0\"\n{}{methods}", small());
    write(&place, &file("[3]"));
    let plan = place.ok(&["sweep", "plan", "s.toml", "--no-estimate"]);
    assert!(plan.contains("2 runs in runs/s, 0 of them done; 2 of them share 1 base models"), "{plan}");
    assert_eq!(place.list("runs"), Vec::<String>::new(), "a plan writes nothing");
    let message = place.message(2, &["sweep", "report", "s.toml", "--html", "s.html"]);
    assert_eq!(message, "error: --html s.html: no run of the sweep is done yet");

    let table = place.ok(&["sweep", "run", "s.toml", "--threads", "2"]);
    assert!(table.contains("| lucir-e0-dfgr-dtidkl | 1 |"), "{table}");
    place.ok(&["sweep", "report", "s.toml", "--html", "s.html", "--csv", "s.csv", "--figures", "figures"]);
    assert!(
        place.list("figures").contains(&"accuracy.svg".to_owned()) && place.path().join("s.csv").is_file()
    );
    let page = fs::read_to_string(place.path().join("s.html")).expect("a page");
    assert!(page.contains("2 runs of 2 methods") && page.contains("for task 2"));
    let bases = place.list("runs/s/bases");
    assert_eq!(bases.len(), 1);
    let base = place.path().join("runs/s/bases").join(&bases[0]);
    let both = folders(&place, "lucir-e0-dfgr-dtidkl-s3-").remove(0);
    let record = &json(both.join("env.json"))["base_model"];
    assert!(record["file"].as_str().expect("a file").contains(&bases[0]), "{record}");

    // The same configuration, which trains its own base, by hand.
    let config = both.join("config.toml");
    place.ok(&["run", config.to_str().expect("text"), "--out", "own", "--name", "own"]);
    let own = place.path().join("own/own");
    assert_eq!(read(own.join("base.safetensors")), read(base.join("base.safetensors")));
    assert_eq!(read(own.join("model.safetensors")), read(both.join("model.safetensors")));
    let tasks = |folder: &PathBuf| json(folder.join("result.json"))["tasks"].clone();
    assert_eq!(tasks(&own), tasks(&both));

    // Once more with a comment and a seed more: what is done stays as it is.
    let written =
        |path: &PathBuf| fs::metadata(path.join("result.json")).expect("a file").modified().expect("a time");
    let before = (written(&both), written(&base));
    write(&place, &format!("# more\n{}", file("[4, 3]")));
    let mut output = place.output(&["sweep", "run", "s.toml", "--jobs", "2", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["done"], serde_json::json!([4, 4]));
    assert_eq!(report["folders"].as_array().map(Vec::len), Some(4));
    assert_eq!(report["rows"][1]["last_difference"]["count"], 2);
    assert_eq!((written(&both), written(&base)), before);
    output = place.output(&["sweep", "run", "s.toml"]);
    assert!(output.stderr.is_empty(), "nothing is begun: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_run_that_diverges_stops_no_other_and_is_tried_again_only_if_that_is_asked_for() {
    let place = Place::new();
    // So high a rate makes the loss infinite.
    let fails = "[[method]]\nname = \"fails\"\npreset = \"demo-lwf\"\n\
                 set = [\"recipe.increment.training.learning-rate=1e6\", \"recipe.increment.training.epochs=3\"]\n";
    write(&place, &format!("seeds = [3]\n{}{fails}{}", small(), method("lwf", &[])));
    let message = place.message(1, &["sweep", "run", "s.toml"]);
    let end = "error: 1 of 2 runs failed; their logs are in runs/s/logs; 1 diverged and will not be tried again, \
               since the same settings would diverge again: change them, or use --retry-failed";
    assert_eq!(message, end);
    let status = place.ok(&["sweep", "status", "s.toml", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let row = |name: &str| {
        let is_it = |row: &&serde_json::Value| row["name"].as_str().is_some_and(|it| it.starts_with(name));
        rows.as_array().expect("a list").iter().find(is_it).expect("a row").clone()
    };
    assert_eq!(
        (row("lwf-s3")["state"].as_str(), row("fails")["state"].as_str()),
        (Some("done"), Some("diverged"))
    );
    assert!(row("lwf-s3")["last_accuracy"].is_number());
    let reason = row("fails")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("recipe.increment.training.learning-rate is 1000000.0"), "{reason}");

    let name = row("fails")["name"].as_str().expect("a name").to_owned();
    let log = place.path().join("runs/s/logs").join(format!("{name}.log"));
    let tries = || String::from_utf8_lossy(&read(log.clone())).matches("sweep: begun").count();
    assert_eq!((place.message(1, &["sweep", "run", "s.toml"]), tries()), (end.to_owned(), 1));
    let index = row("fails")["index"].to_string();
    let message = place.message(1, &["sweep", "task", "s.toml", "--index", &index]);
    assert!(message.contains(&format!("{name} diverged and is not tried again")), "{message}");
    assert!(message.contains("use --retry-failed") && tries() == 1, "{message}");
    let partial = format!("runs/s/{name}.partial");
    let message = place.message(2, &["resume", &partial]);
    assert!(
        message.starts_with(&format!("error: {partial} is kept for inspection; resuming it")),
        "{message}"
    );
    assert_eq!(
        (place.message(1, &["sweep", "run", "s.toml", "--retry-failed"]), tries()),
        (end.to_owned(), 2)
    );
    place.message(1, &["sweep", "task", "s.toml", "--index", &index, "--retry-failed"]);
    assert_eq!(tries(), 3);
}

/// Starts the sweep and waits until a run has learned its first task.
fn begun(place: &Place, jobs: &str) -> Child {
    let mut command = place.program(&["sweep", "run", "s.toml", "--jobs", jobs]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
    let start = Instant::now();
    let learned = |folder: &PathBuf| {
        fs::read_to_string(folder.join("events.jsonl")).is_ok_and(|log| log.contains("task-end"))
    };
    while !folders(place, "lwf-s").iter().any(learned) {
        assert!(start.elapsed() < Duration::from_secs(60), "no run came to its first task's end");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn long_sweep() -> String {
    let long = method("lwf", &["recipe.increment.training.epochs=150"]);
    format!("seeds = [3, 4, 5]\n{}{long}{}", small(), method("fine-tune", &[]))
}

#[test]
fn a_killed_sweep_goes_on_and_a_second_one_is_refused() {
    let place = Place::new();
    write(&place, &long_sweep());
    let mut child = begun(&place, "2");
    let message = place.message(1, &["sweep", "run", "s.toml"]);
    assert!(message.contains("another process runs the sweep in runs/s"), "{message}");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    // Its children stop by themselves; the next sweep waits for them.
    let whole = |place: &Place| {
        let is_whole = |path: &PathBuf| path.join("result.json").exists();
        folders(place, "").into_iter().filter(is_whole).collect::<Vec<_>>()
    };
    let before = whole(&place);
    let log = |path: &PathBuf| read(path.join("events.jsonl"));
    let logs: Vec<_> = before.iter().map(log).collect();
    place.ok(&["sweep", "run", "s.toml", "--jobs", "2"]);
    assert_eq!(whole(&place).len(), 6);
    assert_eq!(before.iter().map(log).collect::<Vec<_>>(), logs, "a run that was done was done again");
    assert!(place.list("runs/s").iter().all(|name| !name.ends_with(".partial")));
    assert_eq!(place.list("runs/s/bases").len(), 3);
}

#[cfg(unix)]
#[test]
fn a_signal_reaches_the_runs_and_the_sweep_leaves_with_75() {
    let place = Place::new();
    write(&place, &long_sweep());
    let mut child = begun(&place, "1");
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
    assert!(sent.success());
    assert_eq!(child.wait().expect("an end").code(), Some(75));
    // Nobody is at a run any more: its log says that it was stopped.
    let status = place.ok(&["sweep", "status", "s.toml"]);
    assert!(status.contains("0 going, 1 interrupted, 0 failed"), "{status}");
}

#[test]
fn a_mistake_in_a_file_is_refused_before_anything_is_written() {
    let place = Place::new();
    write(&place, "seeds = []\n[[method]]\npreset = \"demo-lwf\"\n");
    let message = place.message(2, &["sweep", "run", "s.toml"]);
    assert_eq!(message, "error: s.toml: seeds is empty; a sweep needs at least one, such as [1, 2, 3]");
    write(&place, "seeds = [1]\n[[method]]\npreset = \"demo-lvf\"\n");
    let message = place.message(2, &["sweep", "plan", "s.toml"]);
    assert_eq!(message, "error: s.toml: there is no preset \"demo-lvf\"; did you mean \"demo-lwf\"?");
    let message = place.message(2, &["sweep", "run", "none.toml"]);
    assert!(message.starts_with("error: cannot read none.toml"), "{message}");
    let message = place.message(2, &["sweep", "run", "s.toml", "--seed", "3"]);
    assert_eq!(
        message,
        "error: `sweep run` has no use for --seed; leave it out; the seeds of a sweep are in its file"
    );
    assert_eq!(place.list("."), ["s.toml"]);
}
