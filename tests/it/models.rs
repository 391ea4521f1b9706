//! A user's images and a user's model: `train`, `extend`, `evaluate`, `predict`, `generate`, `inspect`, `export`, in
//! small.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::Place;

/// Side of the images.
const SIDE: u32 = 16;
/// What makes a training a matter of seconds.
pub(crate) const SHORT: [&str; 8] = [
    "--image-side",
    "16",
    "--network",
    "resnet20",
    "--epochs",
    "8",
    "--set",
    "base.training.learning-rate=0.05",
];
/// The same of a generator.
const SHORT_REPLAY: [&str; 6] = [
    "--set",
    "replay.inversion.iterations=60",
    "--set",
    "replay.inversion.generator.channels=16",
    "--set",
    "logistic.generated=300",
];
/// Classes by name, with their colour and the direction of their stripes.
const CLASSES: [(&str, [u8; 3], bool); 5] = [
    ("ash", [200, 40, 40], false),
    ("birch", [40, 200, 40], true),
    ("cedar", [60, 60, 220], false),
    ("écorce", [220, 200, 40], true),
    ("fir tree", [200, 60, 200], false),
];

/// A folder of striped images with noise, a folder a class.
pub(crate) fn images(place: &Place, folder: &str, classes: std::ops::Range<usize>, count: u32, seed: u32) {
    for (name, colour, upright) in &CLASSES[classes] {
        let folder = place.path().join(folder).join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0..count {
            let mut state = seed.wrapping_mul(977).wrapping_add(number * 131 + u32::from(colour[0])).max(1);
            let image = RgbImage::from_fn(SIDE, SIDE, |x, y| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 24) as i32 / 4 - 32;
                let on = (if *upright { x } else { y } + number) / 4 % 2 == 0;
                Rgb(colour.map(|it| (i32::from(it) / if on { 1 } else { 3 } + noise).clamp(0, 255) as u8))
            });
            image.save(folder.join(format!("{number:03}.png"))).expect("an image");
        }
    }
}

pub(crate) fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().chain(more).copied().collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn percent_text(share: &Value) -> String {
    format!("{:.1} %", 100.0 * share.as_f64().expect("a number"))
}

fn accuracy(place: &Place, model: &str, folder: &str) -> f64 {
    let report = json(&place.ok(&["evaluate", model, folder, "--json"]));
    let accuracy = report["accuracy"].as_f64().expect("a number");
    assert!((0.0..=1.0).contains(&accuracy));
    accuracy
}

#[test]
fn a_model_is_trained_extended_measured_and_exported() {
    let place = Place::new();
    images(&place, "photos", 0..3, 24, 1);
    images(&place, "more", 3..5, 24, 1);
    images(&place, "test", 0..5, 8, 7);
    images(&place, "test-new", 3..5, 8, 7);
    let printed =
        place.ok(&with(&["train", "photos", "--out", "first.safetensors", "--report", "first.html"], &SHORT));
    let page = fs::read_to_string(place.path().join("first.html")).expect("a page");
    assert!(page.contains("the accuracy was not measured") && page.contains("<h2>Losses</h2>"), "{page}");
    assert!(printed.contains("3 classes from 72 images"), "{printed}");
    let before = fs::read(place.path().join("first.safetensors")).expect("a model");
    fs::remove_dir_all(place.path().join("photos")).expect("the images are gone");

    let extend = ["extend", "first.safetensors", "more", "--out", "second.safetensors", "--eval", "test"];
    let report = json(&place.ok(&with(&extend, &["--effort", "quick", "--report", "page.html", "--json"])));
    assert_eq!(fs::read(place.path().join("first.safetensors")).expect("a model"), before);
    assert_eq!(report["method"], "statistics");
    assert_eq!(report["new_classes"], serde_json::json!(["fir tree", "écorce"]));
    assert_eq!(report["all"]["images"], 40);
    for part in ["old_before", "old_after", "new"] {
        let accuracy = report[part]["accuracy"].as_f64().expect("a number");
        assert!(accuracy > 0.6, "{part}: {accuracy}");
    }
    let page = fs::read_to_string(place.path().join("page.html")).expect("a page");
    assert!(page.contains("fir tree, écorce") && page.contains("old classes now, among all"), "{page}");

    // Without images of old classes and without a generator nothing is said of them.
    let alone = ["extend", "first.safetensors", "more", "--out", "third.safetensors", "--json"];
    assert_eq!(
        json(&place.ok(&alone))["measured_on"],
        "new images that were held out; old classes were not measured (give --eval)"
    );
    // Statistics in the file are of the features that they are of.
    let other = ["extend", "first.safetensors", "more", "--out", "x.safetensors", "--set"];
    let said = place.message(2, &with(&other, &["discriminant.random-features=8"]));
    assert!(said.contains("leave discriminant.random-features out of --set"), "{said}");

    assert_eq!(accuracy(&place, "second.safetensors", "test"), report["all"]["accuracy"].as_f64().unwrap());
    // Some of the classes; all compete.
    let some = json(&place.ok(&["evaluate", "second.safetensors", "test-new", "--json"]));
    assert_eq!(some["accuracy"], report["new"]["accuracy"]);
    assert_eq!(some["classes"][0]["accuracy"], Value::Null);

    let file = "test/birch/003.png";
    let guess = json(&place.ok(&["predict", "second.safetensors", file, "--top-k", "2", "--json"]));
    assert_eq!(guess[0]["file"], file);
    assert_eq!(guess[0]["predictions"].as_array().map(Vec::len), Some(2));
    let csv = place.ok(&["predict", "second.safetensors", "test/ash", file, "--csv"]);
    assert_eq!(csv.lines().count(), 1 + 9, "{csv}");
    assert!(csv.starts_with("file,rank,class,probability\n"), "{csv}");

    let inspected = json(&place.ok(&["inspect", "second.safetensors", "--json"]));
    assert_eq!(inspected["tasks"].as_array().map(Vec::len), Some(2));
    assert_eq!(inspected["tasks"][1]["images"], 48);
    assert!(inspected["tasks"][1]["from"]["sha256"].is_string());
    assert!(inspected["statistics_bytes"].as_u64().is_some_and(|it| it > 0));
    let card = place.ok(&["push", "second.safetensors", "hf://somebody/trees", "--dry-run"]);
    let new = percent_text(&report["new"]["accuracy"]);
    for part in ["| 2 | fir tree, écorce | 48 | extend, statistics |", &new, "hf://somebody/trees photo.jpg"]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
    let text = place.ok(&["inspect", "second.safetensors"]);
    assert!(text.contains("LUCIR's ResNet-20 of width 16") && text.contains("extend, statistics"), "{text}");

    for (model, more) in [("first", &[][..]), ("second", &[][..]), ("second", &["--keep-batch-norms"][..])] {
        let onnx = format!("{model}{}.onnx", more.len());
        let model = format!("{model}.safetensors");
        let printed = place.ok(&with(&["export", &model, "--onnx", &onnx], more));
        assert!(printed.contains("opset 17"), "{printed}");
        onnx_runtime_agrees(&place, &model, &onnx);
    }
    let message = place.message(2, &["export", "second.safetensors", "--torch", "torch.safetensors"]);
    assert!(message.contains("no counterpart in torchvision"), "{message}");
}

/// Compares probabilities of `predict` with those of ONNX Runtime's logits, where a Python has it.
#[expect(clippy::print_stderr, reason = "a test says where it skips")]
fn onnx_runtime_agrees(place: &Place, model: &str, onnx: &str) {
    let wanted = std::env::var("CIL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&wanted).args(["-c", "import onnxruntime, numpy, PIL"]).output();
    if !probe.is_ok_and(|it| it.status.success()) {
        eprintln!(
            "skipped: {wanted} has no onnxruntime, numpy and Pillow; name a Python with CIL_TEST_PYTHON"
        );
        return;
    }
    let report = json(&place.ok(&["predict", model, "test", "--top-k", "9", "--json"]));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/run_onnx.py");
    let mut command = Command::new(&wanted);
    command.arg(script).arg(onnx).current_dir(place.path());
    for image in report.as_array().expect("images") {
        command.arg(image["file"].as_str().expect("a name"));
    }
    let output = command.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&String::from_utf8(output.stdout).expect("text"));
    let images = report.as_array().expect("images");
    assert_eq!(found.as_object().map(serde_json::Map::len), Some(images.len()));
    for image in images {
        let own = &found[image["file"].as_str().expect("a name")];
        for guess in image["predictions"].as_array().expect("guesses") {
            let expected = own[guess["class"].as_str().expect("a name")].as_f64().expect("a number");
            let probability = guess["probability"].as_f64().expect("a number");
            assert!((probability - expected).abs() < 1e-5, "{image}: {probability}, ONNX Runtime {expected}");
        }
    }
}

#[test]
fn a_model_without_statistics_is_extended_by_generated_images() {
    let place = Place::new();
    images(&place, "photos", 0..2, 24, 1);
    images(&place, "more", 2..4, 24, 1);
    let network = ["--network", "cifar-20", "--no-statistics"];
    let short =
        SHORT.iter().filter(|it| !["--network", "resnet20"].contains(it)).copied().collect::<Vec<_>>();
    place.ok(&with(&with(&["train", "photos", "--out", "own.safetensors"], &short), &network));
    let inspected = json(&place.ok(&["inspect", "own.safetensors", "--json"]));
    assert_eq!(inspected["statistics_bytes"], 0);

    // The same network as another program would have it.
    place.ok(&["export", "own.safetensors", "--torch", "torch.safetensors"]);
    let test = |model: &str| {
        images(&place, "test", 0..2, 8, 7);
        accuracy(&place, model, "test")
    };
    assert_eq!(test("own.safetensors"), test("torch.safetensors"));
    let foreign = json(&place.ok(&["inspect", "torch.safetensors", "--json"]));
    assert_eq!(foreign["classes"], serde_json::json!(["ash", "birch"]));
    assert_eq!(foreign["architecture_name"], "He's ResNet-20 of width 16");

    let to = ["--out", "second.safetensors", "--effort", "quick", "--json"];
    let extend = with(&with(&["extend", "torch.safetensors", "more"], &to), &SHORT_REPLAY);
    let report = json(&place.ok(&extend));
    assert_eq!(report["old_classes"], serde_json::json!(["ash", "birch"]));
    assert!(report["agreement_on_generated"].as_f64().is_some_and(|it| it > 0.5), "{report}");
    assert!(report["new"]["accuracy"].as_f64().is_some_and(|it| it > 0.5), "{report}");
    assert_eq!(report["method"], "logistic");
    appended_once_more(&place);

    let generate = ["generate", "own.safetensors", "--iterations", "20", "--images", "40"];
    place.ok(&with(&generate, &["--out", "picture.png"]));
    assert!(image::open(place.path().join("picture.png")).is_ok());
    let made = json(&place.ok(&with(&generate, &["--out", "made", "--json"])));
    let count: u64 =
        made["classes"].as_array().unwrap().iter().map(|it| it["images"].as_u64().unwrap()).sum();
    assert_eq!(count, 40);
    assert_eq!(place.list("made"), ["ash", "birch"]);
    let message = place.message(2, &with(&generate, &["--out", "made"]));
    assert!(message.contains("it exists already"), "{message}");
}

/// A model whose head reads several stages goes on, answers, and is exported; what cannot go on from it is refused.
fn appended_once_more(place: &Place) {
    let second = json(&place.ok(&["inspect", "second.safetensors", "--json"]));
    assert_eq!(second["head"]["stages"].as_array().map(Vec::len), Some(2));
    assert!(second["statistics_bytes"].as_u64().is_some_and(|it| it > 0), "{second}");
    images(place, "last", 4..5, 24, 1);
    let extend = ["extend", "second.safetensors", "last", "--out", "third.safetensors"];
    let report = json(&place.ok(&with(&with(&extend, &["--json"]), &SHORT_REPLAY)));
    assert_eq!(report["method"], "logistic");
    assert_eq!(report["old_classes"], serde_json::json!(["ash", "birch", "cedar", "écorce"]));
    images(place, "all", 0..5, 8, 7);
    assert!(accuracy(place, "third.safetensors", "all") > 0.5);
    for more in [&[][..], &["--keep-batch-norms"]] {
        place.ok(&with(&["export", "third.safetensors", "--onnx", "third.onnx"], more));
        onnx_runtime_agrees(place, "third.safetensors", "third.onnx");
    }
    for (arguments, part) in [
        (with(&extend, &["--method", "dfgr"]), "the head reads several stages"),
        (with(&extend, &["--set", "logistic.stages=[]"]), "leave logistic.stages out of --set"),
        (with(&extend, &["--set", "logistic.given-up=1"]), "logistic.given-up is 1"),
        (vec!["export", "third.safetensors", "--torch", "third-torch.safetensors"], "use --onnx"),
    ] {
        let output = place.output(&arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(part), "{arguments:?}: {message}");
    }
}

/// Starts the program, asks it to stop once it trains, and gives its status and the last line that it wrote.
fn stopped(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = place.program(arguments);
    let mut process =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let stderr = BufReader::new(process.stderr.take().expect("standard error"));
    let (mut last, mut asked) = (String::new(), false);
    for line in stderr.lines() {
        last = line.expect("text");
        if !asked && last.contains(": task ") {
            asked = true;
            let sent =
                Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("kill");
            assert!(sent.success());
        }
    }
    (process.wait().expect("a status").code(), last)
}

#[test]
fn a_stopped_command_is_resumed_by_the_same_command_to_the_same_bits() {
    let place = Place::new();
    images(&place, "photos", 0..2, 24, 1);
    images(&place, "more", 2..3, 24, 1);
    let mut long = SHORT;
    (long[3], long[5]) = ("cifar-20", "16");
    // The curves of a page are those of the whole training.
    let losses = |page: &str| {
        let text = fs::read_to_string(place.path().join(page)).expect("a page");
        let (_, losses) = text.split_once("<h2>Losses</h2>").expect("losses");
        losses.split_once("</section>").expect("an end").0.to_owned()
    };
    let train = |out: &'static str| {
        with(&["train", "photos", "--no-statistics", "--report", "page.html", "--out", out], &long)
    };
    let replay =
        ["--set", "replay.inversion.iterations=150", "--set", "replay.inversion.generator.channels=16"];
    let extend = |out: &'static str| {
        with(
            &[
                "extend",
                "straight.safetensors",
                "more",
                "--set",
                "logistic.generated=300",
                "--report",
                "page.html",
                "--out",
                out,
            ],
            &replay,
        )
    };
    for (command, straight, other) in [
        (&train as &dyn Fn(&'static str) -> Vec<&'static str>, "straight.safetensors", "stopped.safetensors"),
        (&extend, "straight2.safetensors", "stopped2.safetensors"),
    ] {
        place.ok(&command(straight));
        let curves = losses("page.html");
        assert!(curves.contains("<polyline"), "{curves}");
        let (status, message) = stopped(&place, &command(other));
        assert_eq!(status, Some(75), "{message}");
        assert!(
            message.contains(&format!("saved in {other}.unfinished; the same command resumes it")),
            "{message}"
        );
        assert!(!place.path().join(other).exists());
        // Other settings do not resume it.
        let message = place.message(2, &with(&command(other), &["--seed", "7"]));
        assert!(message.contains("has seed 1, this command 7; use the first value, or remove"), "{message}");
        let network = |it: &'static str| if it == "cifar-20" { "resnet20" } else { it };
        let other_network: Vec<&str> = command(other).into_iter().map(network).collect();
        if other_network != command(other) {
            let message = place.message(2, &other_network);
            assert!(message.contains("has architecture.variant \"he\", this command \"lucir\""), "{message}");
        }
        place.ok(&command(other));
        let read = |file: &str| fs::read(place.path().join(file)).expect("a model");
        assert!(read(other) == read(straight), "{other} differs from {straight}");
        assert_eq!(losses("page.html"), curves);
        assert!(!place.path().join(format!("{other}.unfinished")).exists());
        assert!(!place.path().join(format!("{straight}.unfinished")).exists());
    }
}
