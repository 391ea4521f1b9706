//! TensorBoard's files while a run goes, and after it was killed and resumed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;

use crate::{Place, SMALL, python, small_run};

const NAME: &str = "demo-fine-tune-s3";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
}

/// Steps of each tag in the event files of a run's folder, in the order in which they stand there.
fn steps(folder: &Path) -> BTreeMap<String, Vec<i64>> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|it| it.expect("an entry").path()).collect();
    paths.sort();
    let mut steps: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(path).expect("a file");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("a length")) as usize;
            let event = Event::decode(&rest[12..12 + length]).expect("an event");
            for value in event.summary.into_iter().flat_map(|it| it.value) {
                steps.entry(value.tag).or_default().push(event.step);
            }
            rest = &rest[16 + length..];
        }
    }
    steps
}

/// Epochs of students in a run's log.
fn epochs(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches("\"phase\":\"student\"").count()
}

#[test]
fn what_a_run_writes_while_it_goes_is_what_a_report_writes_of_it() {
    let place = Place::new();
    let mut arguments = small_run("demo-fine-tune", &[]);
    arguments.extend(["--tensorboard", "logs"]);
    place.ok(&arguments);
    let file = |folder: &str| {
        let names = place.list(&format!("{folder}/{NAME}"));
        assert_eq!(names.len(), 1, "{names:?}");
        fs::read(place.path().join(folder).join(NAME).join(&names[0])).expect("a file")
    };
    let live = file("logs");
    place.ok(&["report", &format!("runs/{NAME}"), "--tensorboard", "after"]);
    assert_eq!(live, file("after"));
    place.ok(&["report", &format!("runs/{NAME}"), "--tensorboard", "logs"]);
    assert_eq!(live, file("logs"), "nothing is new");
    let steps = steps(&place.path().join("logs").join(NAME));
    assert_eq!(steps["learning-rate/student"], [1, 2, 3]);
    assert_eq!((&steps["accuracy/all"][..], &steps["accuracy/old"][..]), (&[1, 2][..], &[2][..]));

    // Where nothing can be written, nothing is run.
    fs::write(place.path().join("file"), "").expect("a file");
    let mut wrong = small_run("demo-fine-tune", &[]);
    wrong.extend(["--name", "other", "--tensorboard", "file"]);
    let message = place.message(2, &wrong);
    assert!(message.contains("--tensorboard file: "), "{message}");
    assert_eq!(place.list("runs"), [NAME]);
}

#[test]
fn a_run_that_is_killed_and_resumed_has_each_point_once() {
    let place = Place::new();
    let mut arguments = small_run("demo-fine-tune", &["recipe.increment.training.epochs=60"]);
    // No checkpoint but the first, so that what was done is done again.
    arguments.extend(["--tensorboard", "logs", "--checkpoint-every", "1000"]);
    let mut command = place.program(&arguments);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
    let log = place.path().join("runs").join(format!("{NAME}.partial/events.jsonl"));
    let events = place.path().join("logs").join(NAME);
    let start = Instant::now();
    while epochs(&log) < 8 {
        assert!(start.elapsed() < Duration::from_secs(120), "no eight epochs in two minutes");
        assert!(process.try_wait().expect("a status").is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill().expect("a kill");
    process.wait().expect("an end");
    // TensorBoard's own reader, which is open from now to the end, where there is one.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/read_events.py");
    let mut reader = python("import tensorboard").map(|python| {
        let mut command = Command::new(python);
        command.arg(script).arg("--watch").arg(&events).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        // It has read the points of before the kill.
        said.read_line(&mut String::new()).expect("a line");
        (child, said)
    });
    // Points are there while the run goes.
    let before = steps(&events)["learning-rate/student"].len();
    assert!(before >= 7, "{before} points");

    place.ok(&["resume", &format!("runs/{NAME}"), "--tensorboard", "logs"]);
    // A reader that is open holds on to a file by its name, so the one of before stays, without its points.
    assert_eq!(place.list(&format!("logs/{NAME}")).len(), 2);
    for (tag, found) in steps(&events) {
        let first = found[0];
        let expected: Vec<i64> = (first..first + found.len() as i64).collect();
        assert_eq!(found, expected, "{tag}");
    }
    assert_eq!(steps(&events)["learning-rate/student"].len(), 62);
    if let Some((mut child, mut said)) = reader.take() {
        drop(child.stdin.take());
        let mut text = String::new();
        said.read_to_string(&mut text).expect("what it read");
        let read: BTreeMap<String, Vec<(i64, f64)>> = serde_json::from_str(&text).expect("JSON");
        let of = |tag: &str| read[tag].iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(of("learning-rate/student"), (1..=62).collect::<Vec<_>>());
        assert_eq!((of("accuracy/all"), of("accuracy/old")), (vec![1, 2], vec![2]));
        assert!(child.wait().expect("an end").success());
    }
}

#[test]
fn a_sweep_hands_it_on() {
    let place = Place::new();
    let changes = SMALL.iter().filter(|it| !it.starts_with("seed"));
    let set: Vec<String> = changes.map(|change| format!("{change:?}")).collect();
    let methods = "[[method]]\npreset = \"demo-fine-tune\"\n[[method]]\npreset = \"demo-lwf\"\n";
    let text = format!("seeds = [3]\nset = [{}]\n{methods}", set.join(", "));
    fs::write(place.path().join("s.toml"), text).expect("a file");
    place.ok(&["sweep", "run", "s.toml", "--tensorboard", "logs"]);
    assert_eq!(place.list("logs").len(), 3, "two runs and their base models: {:?}", place.list("logs"));
    let base = place.list("logs/bases");
    assert_eq!(steps(&place.path().join("logs/bases").join(&base[0]))["accuracy/all"], [1]);
    let run = place.list("logs").into_iter().find(|it| it.starts_with("lwf")).expect("a run");
    assert_eq!(steps(&place.path().join("logs").join(run))["accuracy/old"], [2]);
}
