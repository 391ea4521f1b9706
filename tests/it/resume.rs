//! A run that is stopped, killed or damaged and then resumed ends like an uninterrupted one, bit for bit.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Place, json, small_run};

/// A method with every phase: inversion, new teacher, student with maps, balance on exemplars,
/// and kept statistics.
const EVERYTHING: &str = "demo-podnet-e20-dfgr-dtid";
const MORE: [&str; 9] = [
    "classes=6",
    "increments=[2, 2, 2]",
    "procedural.config.classes=6",
    "recipe.exemplars.per-class=2",
    "recipe.increment.training.epochs=3",
    "recipe.new-teacher.training.epochs=2",
    "recipe.replay.inversion.iterations=110",
    "recipe.balance.training.epochs=3",
    "recipe.discriminant.shrinkage=0.01",
];

fn started(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.program(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

fn run(name: &str) -> Vec<&str> {
    let mut arguments = small_run(EVERYTHING, &MORE);
    arguments.extend(["--name", name, "--checkpoint-every", "0"]);
    arguments
}

fn lines(log: &Path) -> usize {
    fs::read(log).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// Waits until a log has that many lines, or the process has ended.
fn wait_for(log: &Path, count: usize, process: &mut Child) {
    let start = Instant::now();
    while lines(log) < count && process.try_wait().expect("a status").is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} does not grow", log.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &process.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// A run's result without what depends on the clock and the machine.
fn result(place: &Place, name: &str) -> serde_json::Value {
    let mut result = json(place.path().join("runs").join(name).join("result.json"));
    let table = result.as_object_mut().expect("a table");
    let measured = ["wall_seconds", "phase_seconds", "peak_memory_bytes", "images_per_second"];
    for key in measured.into_iter().chain(["phase_images_per_second"]) {
        assert!(table.remove(key).is_some(), "{key}");
    }
    result
}

#[track_caller]
fn assert_same(place: &Place, name: &str) {
    for file in ["model.safetensors", "base.safetensors", "generated-2.png"] {
        let read = |name: &str| fs::read(place.path().join("runs").join(name).join(file)).expect("a file");
        assert!(read(name) == read("straight"), "{file} of {name} differs");
    }
    assert_eq!(result(place, name), result(place, "straight"));
    let left = place.list(&format!("runs/{name}"));
    assert_eq!(left, place.list("runs/straight"), "nothing is left over");
}

fn resumes(place: &Place, name: &str) -> usize {
    json(place.path().join("runs").join(name).join("env.json"))["resumes"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_in_the_bits_of_a_straight_one() {
    let place = Place::new();
    place.ok(&run("straight"));
    let log = place.path().join("runs/killed.partial/events.jsonl");
    let mut process = started(&place, &run("killed"));
    let (mut kills, mut phases) = (0, std::collections::BTreeSet::new());
    while kills < 20 {
        // After at least one more unit of work, at a moment of its own.
        wait_for(&log, lines(&log).max(2) + 1, &mut process);
        std::thread::sleep(Duration::from_millis(kills * 13 % 29));
        process.kill().expect("it can be killed");
        process.wait().expect("a status");
        assert!(log.exists(), "it was whole after {kills} kills");
        let last = fs::read_to_string(&log).expect("a log");
        let phase = last.lines().rev().find_map(|line| line.split_once("\"phase\":\"")).expect("a phase");
        phases.insert(phase.1.split('"').next().map(str::to_owned));
        kills += 1;
        // Another number of threads gives the same bits.
        let threads = if kills % 2 == 0 { "1" } else { "2" };
        let arguments = ["resume", "runs/killed", "--checkpoint-every", "0", "--threads", threads];
        process = started(&place, &arguments);
    }
    assert!(process.wait().expect("a status").success());
    assert_same(&place, "killed");
    assert!(phases.len() >= 3, "killed in {phases:?}");
    assert!(resumes(&place, "killed") > 10);
}

#[test]
fn a_run_that_is_asked_to_stop_saves_and_a_second_process_is_refused() {
    let place = Place::new();
    place.ok(&run("straight"));
    let mut process = started(&place, &[&run("a")[..], &["--threads", "1"]].concat());
    wait_for(&place.path().join("runs/a.partial/events.jsonl"), 4, &mut process);
    signal(&process, "-STOP");
    let message = place.message(2, &["resume", "runs/a"]);
    assert!(message.contains("another process works on runs/a.partial"), "{message}");
    let message = place.message(2, &run("a"));
    assert!(message.contains("`cil-runner resume runs/a.partial` resumes it"), "{message}");
    signal(&process, "-TERM");
    signal(&process, "-CONT");
    assert_eq!(process.wait().expect("a status").code(), Some(75));
    place.ok(&["resume", "runs/a.partial", "--threads", "2"]);
    assert_same(&place, "a");
    assert_eq!(resumes(&place, "a"), 1);
    assert!(place.ok(&["resume", "runs/a"]).contains("runs/a is already finished"));
    assert!(place.message(2, &["resume", "runs/b"]).contains("there is no run folder runs/b.partial"));
}

#[test]
fn an_interrupt_saves_and_a_second_signal_ends_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    place.ok(&run("straight"));
    let log = place.path().join("runs/a.partial/events.jsonl");
    let mut process = started(&place, &run("a"));
    wait_for(&log, 3, &mut process);
    signal(&process, "-INT");
    assert_eq!(process.wait().expect("a status").code(), Some(75));
    // Both signals wait until it continues, and it ends by the one that comes second, without a status of its own; but
    // two threads may take one each at the same instant, and then neither comes second.
    let ended_at_once = (0..5).any(|_| {
        let mut process = started(&place, &["resume", "runs/a", "--checkpoint-every", "0"]);
        wait_for(&log, lines(&log) + 2, &mut process);
        for name in ["-STOP", "-INT", "-TERM", "-CONT"] {
            signal(&process, name);
        }
        let status = process.wait().expect("a status");
        assert!(matches!(status.signal(), Some(2 | 15)) || status.code() == Some(75), "{status}");
        status.signal().is_some()
    });
    assert!(ended_at_once, "five times a second signal only asked again");
    place.ok(&["resume", "runs/a"]);
    assert_same(&place, "a");
}

#[test]
fn a_terminal_that_goes_away_saves_and_one_that_was_let_go_of_does_nothing() {
    let place = Place::new();
    place.ok(&run("straight"));
    let mut process = started(&place, &run("a"));
    wait_for(&place.path().join("runs/a.partial/events.jsonl"), 3, &mut process);
    signal(&process, "-HUP");
    assert_eq!(process.wait().expect("a status").code(), Some(75));
    place.ok(&["resume", "runs/a"]);
    assert_same(&place, "a");
    // As `nohup` starts it.
    let program = place.program(&run("b"));
    let mut ignoring = Command::new("bash");
    ignoring.current_dir(place.path()).args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    ignoring.arg(program.get_program()).args(program.get_args());
    let mut process = ignoring.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash");
    wait_for(&place.path().join("runs/b.partial/events.jsonl"), 3, &mut process);
    signal(&process, "-HUP");
    assert!(process.wait().expect("a status").success());
    assert_same(&place, "b");
}

/// Leaves a run in the midst, at least `count` lines on.
fn left(place: &Place, name: &str, count: usize) {
    let mut process = started(place, &run(name));
    wait_for(&place.path().join(format!("runs/{name}.partial/events.jsonl")), count, &mut process);
    process.kill().expect("it can be killed");
    process.wait().expect("a status");
}

fn checkpoints(place: &Place, name: &str) -> Vec<std::path::PathBuf> {
    let folder = format!("runs/{name}.partial");
    let names = place.list(&folder).into_iter().filter(|it| it.ends_with(".checkpoint"));
    names.map(|it| place.path().join(&folder).join(it)).collect()
}

#[test]
fn what_is_damaged_is_passed_over_aloud() {
    let place = Place::new();
    place.ok(&run("straight"));
    left(&place, "a", 12);
    let found = checkpoints(&place, "a");
    assert_eq!(found.len(), 2, "the two newest are kept");
    let mut bytes = fs::read(&found[1]).expect("a checkpoint");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&found[1], &bytes).expect("it can be damaged");
    // A torn line, as a power cut leaves it.
    let log = place.path().join("runs/a.partial/events.jsonl");
    let mut text = fs::read(&log).expect("a log");
    text.extend(b"{\"seconds\":1.0,\"ev");
    fs::write(&log, text).expect("it can be torn");
    let output = place.output(&["resume", "runs/a"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(
        message.contains("it is damaged") && message.contains("the checkpoint before it is used"),
        "{message}"
    );
    assert_same(&place, "a");
}

#[test]
fn a_configuration_that_was_edited_is_refused_by_its_key() {
    let place = Place::new();
    left(&place, "a", 8);
    let config = place.path().join("runs/a.partial/config.toml");
    let begun = fs::read_to_string(&config).expect("a configuration");
    let edits = [
        (
            "learning-rate = 0.05",
            "learning-rate = 0.01",
            "training.learning-rate is 0.01, and the run began with 0.05",
        ),
        ("epochs = 3", "epochs = 4", "training.epochs is 4, and the run began with 3"),
        ("learning-rate = 0.05", "learning-rate = 1e30", "training.learning-rate is 1e30; use"),
        ("seed = 3\n", "seed = 4\n", "seed is 4, and the run began with 3"),
        ("method = \"podnet", "method = \"other", "method is \"other"),
    ];
    for (from, to, part) in edits {
        assert!(begun.contains(from), "{from} is not in {begun}");
        fs::write(&config, begun.replace(from, to)).expect("it can be edited");
        let before = place.list("runs/a.partial");
        let message = place.message(2, &["resume", "runs/a"]);
        assert!(message.contains("runs/a.partial/config.toml: ") && message.contains(part), "{message}");
        assert_eq!(place.list("runs/a.partial"), before);
    }
    fs::write(&config, begun).expect("it can be put back");
    place.ok(&["resume", "runs/a"]);
}

#[test]
fn without_a_whole_checkpoint_nothing_is_begun() {
    let place = Place::new();
    left(&place, "a", 8);
    let found = checkpoints(&place, "a");
    let huge = [&u64::MAX.to_le_bytes()[..], &[b'{'; 64]].concat();
    for (path, bytes) in found.iter().zip([&fs::read(&found[0]).expect("a file")[..99], &huge]) {
        fs::write(path, bytes).expect("it can be damaged");
    }
    let before = place.list("runs/a.partial");
    let message = place.message(1, &["resume", "runs/a"]);
    assert!(message.contains("no checkpoint in runs/a.partial is whole"), "{message}");
    assert_eq!(place.list("runs/a.partial"), before);
    let message = place.message(2, &["resume", "runs/a", "--kernels", "reference"]);
    assert!(message.contains("--kernels"), "{message}");
    assert!(place.message(2, &["resume", "runs/a", "--seed", "4"]).contains("no use for --seed"));
}

#[test]
fn a_full_disk_loses_nothing_and_a_base_model_may_go() {
    let place = Place::new();
    place.ok(&run("other"));
    let base = ["--base-model", "base.safetensors"];
    let from_base = |name: &'static str| [&run(name)[..], &base].concat();
    fs::copy(place.path().join("runs/other/base.safetensors"), place.path().join("base.safetensors"))
        .expect("a base model");
    place.ok(&from_base("straight"));
    // No file may have more than 64 KiB: the first checkpoint of a phase fits not.
    let program = place.program(&from_base("full"));
    let mut limited = Command::new("bash");
    limited.current_dir(place.path()).arg("-c").arg("trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"");
    let output = limited.arg(program.get_program()).args(program.get_args()).output().expect("bash");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let last = message.lines().last().unwrap_or_default();
    assert!(last.contains("cannot write") && last.contains("resume runs/full.partial"), "{message}");
    fs::remove_file(place.path().join("base.safetensors")).expect("a base model");
    place.ok(&["resume", "runs/full"]);
    assert_same(&place, "full");
}
