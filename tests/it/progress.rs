//! Progress: shown wherever somebody can read it, dropped where nobody does, and never the reason why a run ends.

use std::fs;
use std::process::{Command, Stdio};

use crate::{Place, small_run};

/// Ends of a run whose progress and results go into pipes that nobody reads.
fn status_without_readers(place: &Place, arguments: &[&str]) -> Option<i32> {
    let mut child = place
        .program(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Closed at once: the first line that is written meets a broken pipe.
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().expect("a status").code()
}

#[test]
fn a_run_whose_progress_nobody_reads_is_done_all_the_same() {
    let place = Place::new();
    assert_eq!(status_without_readers(&place, &small_run("demo-lwf", &[])), Some(0));
    assert_eq!(place.list("runs"), ["demo-lwf-s3"]);
    place.ok(&["report", "runs/demo-lwf-s3"]);
    // Other commands say what they do by another way.
    let export = ["report", "runs/demo-lwf-s3", "--csv", "numbers.csv"];
    assert_eq!(status_without_readers(&place, &export), Some(0));
    assert!(place.path().join("numbers.csv").exists());
    // A failure stays one.
    let wrong = ["recipe.increment.training.learning-rate=1e6", "recipe.increment.training.epochs=3"];
    let wrong = [&small_run("demo-lwf", &wrong)[..], &["--name", "wrong"]].concat();
    assert_eq!(status_without_readers(&place, &wrong), Some(1));
}

#[test]
fn a_sweep_that_nobody_watches_is_done_and_its_status_is_that_of_its_runs() {
    let place = Place::new();
    let small = crate::SMALL.iter().filter(|change| !change.starts_with("seed"));
    let small = small.map(|change| format!("{change:?}")).collect::<Vec<_>>().join(", ");
    let file = format!("seeds = [3]\nset = [{small}]\n[[method]]\npreset = \"demo-lwf\"\n");
    fs::write(place.path().join("s.toml"), &file).expect("a file");
    assert_eq!(status_without_readers(&place, &["sweep", "run", "s.toml"]), Some(0));
    let fails = "[[method]]\nname = \"fails\"\npreset = \"demo-fine-tune\"\n\
                 set = [\"recipe.increment.training.learning-rate=1e6\", \"recipe.increment.training.epochs=3\"]\n";
    fs::write(place.path().join("s.toml"), file + fails).expect("a file");
    assert_eq!(status_without_readers(&place, &["sweep", "run", "s.toml"]), Some(1), "a run failed");
}

/// What a terminal of that kind shows of a run, if this machine can make one.
fn on_a_terminal(place: &Place, term: &str, name: &str) -> Option<String> {
    let arguments = [&small_run("demo-lwf", &[])[..], &["--name", name]].concat();
    let quoted: Vec<String> = arguments.iter().map(|it| format!("'{it}'")).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_cil-runner"), quoted.join(" "));
    let mut script = Command::new("script");
    script.current_dir(place.path()).env("TERM", term).args(["-qec", &line, "/dev/null"]);
    let output = script.stdin(Stdio::null()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_that_can_draw_no_bar_shows_lines() {
    let place = Place::new();
    let Some(plain) = on_a_terminal(&place, "dumb", "plain") else {
        eprintln!("skipped: progress on a terminal; there is no `script` here");
        return;
    };
    assert!(plain.contains("plain: task 1/2 base classes 1/2"), "{plain}");
    assert!(plain.contains("plain: task 2/2 done: "), "{plain}");
    let bar = on_a_terminal(&place, "xterm", "bar").expect("a terminal");
    assert!(bar.contains("bar ["), "{bar}");
}
