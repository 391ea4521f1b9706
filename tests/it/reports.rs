//! Reports of runs, and what other programs make of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Place, json, python, small_run};

const REPLAY: &str = "demo-lucir-e0-dfgr-dtidkl";

/// Two seeds of one method, and a run with generated images.
fn runs(place: &Place) -> [String; 3] {
    place.ok(&small_run("demo-fine-tune", &[]));
    place.ok(&small_run("demo-fine-tune", &["seed=4"]));
    place.ok(&small_run(REPLAY, &[]));
    ["demo-fine-tune-s3", "demo-fine-tune-s4", &format!("{REPLAY}-s3")].map(|name| format!("runs/{name}"))
}

fn report(place: &Place, runs: &[String], more: &[&str]) -> String {
    let runs = runs.iter().map(String::as_str);
    place.ok(&["report"].into_iter().chain(runs).chain(more.iter().copied()).collect::<Vec<_>>())
}

/// The first of these programs that does what `probe` asks.
fn first_that_works(programs: &[&'static str], probe: &[&str]) -> Option<&'static str> {
    let works =
        |program: &&str| Command::new(program).args(probe).output().is_ok_and(|it| it.status.success());
    programs.iter().copied().find(|program| works(program))
}

#[test]
fn runs_are_compared_and_exported() {
    let place = Place::new();
    let runs = runs(&place);
    let result = |at: usize| json(place.path().join(&runs[at]).join("result.json"));
    let before = result(0);
    let flags = ["--html", "page.html", "--csv", "numbers.csv", "--tensorboard", "logs"];
    let text = report(&place, &runs, &flags);
    assert_eq!(result(0), before);
    assert!(
        text.contains("mean ± sample standard deviation") && text.contains("demo-fine-tune-s4"),
        "{text}"
    );
    // Accuracies are of images that were changed so.
    assert!(text.contains("\ntraining images: crop with 2 pixels of padding\n"), "{text}");

    let page = fs::read_to_string(place.path().join("page.html")).expect("a page");
    assert_eq!(page.matches("alt=\"generated images of ").count(), 2, "two old classes");
    assert!(page.contains("confidence ") && page.contains("recipe.<wbr>replay.<wbr>batch"));

    let table = fs::read_to_string(place.path().join("numbers.csv")).expect("a table");
    assert!(table.starts_with("run,method,dataset,split,class_order,seed,task,class,metric,value\n"));
    let accuracy = result(1)["tasks"][1]["accuracy"].to_string();
    assert!(
        table.contains(&format!(
            "demo-fine-tune-s4,fine-tune,procedural,2+2,drawn from 1,4,1,,accuracy,{accuracy}\n"
        )),
        "{table}"
    );

    // Classes by name, in each task: their mean, all classes having as many images, is the task's accuracy.
    let of_class: Vec<f64> = table
        .lines()
        .filter(|line| {
            line.starts_with("demo-fine-tune-s4,")
                && line.contains(",4,1,")
                && line.contains(",accuracy_of_class,")
        })
        .map(|line| line.rsplit(',').next().expect("a value").parse().expect("a number"))
        .collect();
    let mean = of_class.iter().sum::<f64>() / of_class.len() as f64;
    assert!(
        of_class.len() == 4 && (mean - accuracy.parse::<f64>().expect("a number")).abs() < 1e-9,
        "{of_class:?}"
    );
    files_of_a_paper(&place, &runs);

    let compared: Value = serde_json::from_str(&report(&place, &runs, &["--json"])).expect("JSON");
    let figures = &compared["groups"][0]["figures"]["/last_accuracy"];
    let last = [0, 1].map(|at| result(at)["last_accuracy"].as_f64().expect("a number"));
    assert!((figures["mean"].as_f64().expect("a mean") - (last[0] + last[1]) / 2.0).abs() < 1e-12);
    assert_eq!(compared["groups"][1]["runs"], serde_json::json!([format!("{REPLAY}-s3")]));

    let message = place.message(2, &["report", "runs/none"]);
    assert_eq!(message, "error: runs/none is not a run folder; there is no such folder");
    let message = place.message(2, &["report", &runs[0], &runs[0]]);
    assert_eq!(message, format!("error: the run folder {} is named twice", runs[0]));
    let message = place.message(2, &["report", &runs[0], "--html", "runs"]);
    assert_eq!(message, "error: --html runs: it is a folder; name a file in it");

    if let Some(python) = python("import tensorboard") {
        tensorboard_reads(&python, &place, &result(0));
    }
    match first_that_works(&["chromium", "chromium-browser", "google-chrome"], &["--version"]) {
        Some(browser) => [390, 1280].iter().for_each(|width| fits(browser, &place, &page, *width)),
        None => eprintln!("skipped: a browser shows the page; there is no Chromium here"),
    }
}

/// Tables and figures are files of their own, two forms never share one, and their names are printed.
fn files_of_a_paper(place: &Place, runs: &[String]) {
    let mut arguments = vec!["report"];
    arguments.extend(runs.iter().map(String::as_str));
    let named = ["--latex", "t.tex", "--markdown", "t.md", "--figures", "figures", "--baseline", "fine-tune"];
    arguments.extend(named.iter().chain(&["--columns", "last,tasks"]));
    let output = place.output(&arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("wrote t.tex\n") && message.contains("wrote figures (4 figures"), "{message}");
    let read = |name: &str| fs::read_to_string(place.path().join(name)).expect("a file");
    assert!(
        read("t.tex").contains("\\begin{tabular}{lrrrrr}")
            && read("t.md").contains("last accuracy minus fine-tune, points")
    );
    let names = place.list("figures");
    assert!(names.contains(&"accuracy.svg".to_owned()) && names.len() == 8, "{names:?}");
    assert!(read("figures/accuracy.svg").starts_with("<?xml"));
    let message = place.message(2, &["report", &runs[0], "--html", "x", "--csv", "./x"]);
    assert_eq!(message, "error: --html and --csv both name ./x; give each a place of its own");
    let message = place.message(2, &["report", &runs[0], "--baseline", "fine-tun"]);
    assert!(message.ends_with("did you mean \"fine-tune\"?"), "{message}");
}

/// What TensorBoard reads is what the run recorded.
fn tensorboard_reads(python: &str, place: &Place, result: &Value) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/read_events.py");
    let output =
        Command::new(python).arg(script).arg(place.path().join("logs")).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, BTreeMap<String, Vec<(i64, f64)>>> =
        serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(read.len(), 3);
    let tags = &read["demo-fine-tune-s3"];
    let accuracies: Vec<f64> = tags["accuracy/all"].iter().map(|it| it.1).collect();
    let tasks = result["tasks"].as_array().expect("tasks");
    let expected = tasks.iter().map(|task| task["accuracy"].as_f64().expect("a number"));
    for (got, expected) in accuracies.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-6, "{accuracies:?}");
    }
    assert_eq!(accuracies.len(), tasks.len());
    // Of no images of old classes right is a value too.
    assert_eq!(tags["accuracy/old"].len(), 1);
    let steps: Vec<i64> = tags["learning-rate/student"].iter().map(|it| it.0).collect();
    assert_eq!(steps, [1, 2, 3], "two epochs of the base, one of the increment");
    assert!(read[&format!("{REPLAY}-s3")].keys().any(|tag| tag.starts_with("loss/inversion/")));
}

/// A browser shows the page without a complaint, and nothing is wider than the window.
fn fits(browser: &str, place: &Place, page: &str, width: usize) {
    let probe = "<script>addEventListener('load', () => { document.title = \
                 [document.documentElement.scrollWidth, innerWidth].join(' of '); })</script>";
    // A frame has the width that is asked for, where a window may not be so narrow.
    let framed = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!(
        "<!doctype html><body style='margin:0'><iframe style='border:0;height:800px;width:{width}px' \
         srcdoc=\"{framed}{}\"></iframe><script>addEventListener('load', () => {{ document.title = 'width ' + \
         document.querySelector('iframe').contentDocument.title; }})</script>",
        probe.replace('"', "&quot;")
    );
    let path = place.path().join(format!("frame-{width}.html"));
    fs::write(&path, frame).expect("a file");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", place.path().join("browser").display()))
        .arg(format!("--window-size={},900", width.max(800)))
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("the browser runs");
    let (shown, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let title = shown.split("<title>").nth(1).and_then(|it| it.split("</title>").next()).unwrap_or_default();
    assert_eq!(title, format!("width {width} of {width}"), "{message}");
    assert!(!message.contains("CONSOLE"), "{message}");
}
