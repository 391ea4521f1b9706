//! `bench`: the race's protocol, its table and JSON, and what it refuses.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::Place;

/// What `bench` with those arguments makes of those lines.
fn serve(arguments: &[&str], lines: &str) -> Output {
    let place = Place::new();
    let mut program = place.program(&[&["bench", "--serve"], arguments].concat());
    let streams = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().expect("the program runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(lines.as_bytes()).expect("lines");
    drop(input);
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(place.list("."), Vec::<String>::new(), "something was left behind");
    output
}

#[test]
fn every_line_is_answered_by_two_times() {
    let output = serve(&["--batch", "2"], "train\neval\ninvert\nstep\nstep\ntrain\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 6, "{text}");
    for line in text.lines() {
        let times: Vec<f64> = line.split(' ').map(|time| time.parse().expect("a number")).collect();
        assert!(times.len() == 2 && times[0] > 0.0, "{line}");
    }
}

#[test]
fn a_line_that_names_no_work_ends_it_with_one_sentence() {
    let message = |arguments: &[&str], lines: &str| {
        let output = serve(arguments, lines);
        assert_eq!(output.status.code(), Some(2));
        (output.stdout, String::from_utf8(output.stderr).expect("text"))
    };
    let (answers, text) = message(&["--batch", "2"], "eval\ntrian\n");
    assert_eq!(answers.iter().filter(|byte| **byte == b'\n').count(), 1);
    let sentence = "error: line 2 of standard input is \"trian\"; write train, eval, invert or step\n";
    assert_eq!(text, sentence);
    let (_, text) = message(&["--batch", "2", "--model", "resnet18"], "step\n");
    assert!(text.starts_with("error: --model resnet18 cannot step") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_table_and_json_tell_every_work() {
    let place = Place::new();
    let text = place.ok(&["bench", "--batch", "2", "--rounds", "1", "--work", "eval"]);
    assert!(text.contains("\neval ") && text.contains("Peak: "), "{text}");
    let text = place.ok(&["bench", "--batch", "2", "--rounds", "2", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let works = report["works"].as_array().expect("a list");
    let names: Vec<_> = works.iter().filter_map(|it| it["work"].as_str()).collect();
    assert_eq!(names, ["train", "eval", "invert", "step"]);
    for work in works {
        let number = |key: &str| work[key].as_f64().expect("a number");
        let rate = number("gflop") / number("milliseconds") * 1e3;
        assert!((number("gflops") - rate).abs() < 1e-6 * rate, "{work}");
        let share = rate / report["matrix_product_gflops"].as_f64().expect("a number");
        assert!((number("share_of_peak") - share).abs() < 1e-6, "{work}");
    }
    assert_eq!(place.list("."), Vec::<String>::new());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    let message = place.message(2, &["bench", "--work", "invert", "--model", "resnet18"]);
    assert!(message.contains("--model resnet18 cannot invert"), "{message}");
    for wrong in [["--batch", "1"], ["--rounds", "0"], ["--work", "tarin"]] {
        place.message(2, &["bench", wrong[0], wrong[1]]);
    }
}
