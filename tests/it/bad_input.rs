//! Wrong input: one sentence, the right exit status, nothing left behind.

use std::fs;
use std::process::Command;

use crate::{Place, SMALL, SMALL_REPLAY, small_run};

fn message_of_set(change: &str) -> String {
    let place = Place::new();
    let message = place.message(2, &["run", "demo-lwf", "--set", change]);
    assert_eq!(place.list("."), Vec::<String>::new(), "something was left behind");
    message
}

#[test]
fn a_wrong_key_value_or_preset_is_refused() {
    let cases = [
        ("recipe.increment.training.epoch=1", "did you mean recipe.increment.training.epochs?"),
        ("seed=one", "seed: invalid type: string \"one\", expected a whole number from 0 up"),
        ("recipe.new-teacher.training.epochs=1", "demo-lwf has no table recipe.new-teacher; leave this out"),
        ("recipe.new-teacher.training.epochs=1", "the key recipe.new-teacher."),
        ("recipe.replay=1", "recipe.replay: invalid type: integer `1`, expected a table"),
        (
            "recipe.exemplars.total=20",
            "recipe.exemplars: it may hold one of its keys alone; set the whole of it",
        ),
        (
            "recipe.exemplars={ total = 7 }",
            "recipe.exemplars.total is 7, and 8 classes are seen after task 2",
        ),
        (
            "recipe.increment.terms.9.weight=1",
            "is not a position in a list of 2; count from 0, or append with +",
        ),
        (
            "recipe.increment.training.schedule.decay={ kind = 'cosine', minimum = nan }",
            "minimum is NaN; use",
        ),
        ("recipe.increment.terms.1.weight=1e30", "weight is 1e30; use a value from 0 to 1000000"),
        ("increments=[6, 2, 3]", "increments: [6, 2, 3] add up to 11, there are 10 classes"),
        ("increments=[10, 0]", "increments: task 2 has 0 classes"),
        ("class-order=[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]", "class-order: it holds label 8 twice"),
        ("class-order=[0, 99]", "class-order: it holds label 99"),
        ("class-order=lucir", "class-order: procedural has no published order"),
        ("classes=21", "classes: 21 of the 20 classes"),
        ("architecture.depth=18", "architecture.depth is 18"),
        ("recipe.base.training.learning-rate=-1", "recipe.base.training.learning-rate is -1"),
        ("recipe.increment.terms.1.temperature=0", "recipe.increment.terms.1"),
        ("evaluate-on=validation", "needs validation-per-class above 0"),
        ("recipe.head=cosin", "recipe.head: there is no \"cosin\"; did you mean \"cosine\"?"),
        ("procedural.config.classes=25", "procedural.config.classes is 25"),
    ];
    for (change, part) in cases {
        let message = message_of_set(change);
        assert!(message.starts_with("error: ") && message.contains(part), "{change}: {message}");
    }
    let place = Place::new();
    let message = place.message(2, &["run", "demo-lwff"]);
    assert_eq!(message, "error: there is no preset \"demo-lwff\"; did you mean \"demo-lwf\"?");
    let message = place.message(2, &["run", "none.toml"]);
    assert!(message.contains("cannot read none.toml"), "{message}");
    fs::write(place.path().join("broken.toml"), "seed = = 1\n").expect("a file");
    let message = place.message(2, &["run", "broken.toml"]);
    assert!(message.contains("broken.toml is not TOML") && message.contains("line 1"), "{message}");
    for name in ["a.partial", "a.tmp", "../a", ".a", ""] {
        let message = place.message(2, &["run", "demo-lwf", "--name", name]);
        assert!(message.contains(&format!("{name:?} is not a name")), "{message}");
    }
    let message = place.message(2, &["run", "demo-lwf", "--device", "cuda"]);
    assert!(message.contains("--device cuda"), "{message}");
}

#[test]
fn a_seed_that_no_file_can_hold_is_refused_and_the_largest_one_comes_back() {
    let place = Place::new();
    let message = place.message(2, &["run", "demo-lwf", "--seed", "18446744073709551615"]);
    assert_eq!(message, "error: seed is 18446744073709551615; use at most 9223372036854775807");
    assert_eq!(place.list("."), Vec::<String>::new());
    let text = place.ok(&["run", "demo-lwf", "--seed", "9223372036854775807", "--dry-run", "--no-estimate"]);
    fs::write(place.path().join("own.toml"), text).expect("a file");
    let json = place.ok(&["run", "own.toml", "--dry-run", "--no-estimate", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["config"]["seed"], 9_223_372_036_854_775_807u64);
}

#[test]
fn a_model_that_its_last_step_made_diverge_is_an_error_and_no_result() {
    let place = Place::new();
    let changes = [
        "classes=12",
        "increments=[6, 6]",
        "procedural.config.classes=12",
        "recipe.increment.training.batch=1000",
        "recipe.increment.training.learning-rate=1e5",
    ];
    let message = place.message(1, &small_run("demo-fine-tune", &changes));
    assert!(message.contains("the student diverged in task 2, student phase: "), "{message}");
    assert!(message.contains("recipe.increment.training.learning-rate is 100000.0"), "{message}");
    assert!(!message.contains("cil-runner resume"), "{message}");
    assert_eq!(place.list("runs"), ["demo-fine-tune-s3.partial"]);
}

#[test]
fn an_output_folder_that_exists_is_refused_and_kept() {
    let place = Place::new();
    fs::create_dir_all(place.path().join("runs/demo-lwf-s3")).expect("a folder");
    fs::write(place.path().join("runs/demo-lwf-s3/mine"), "precious").expect("a file");
    let message = place.message(2, &small_run("demo-lwf", &[]));
    assert!(message.contains("the output folder runs/demo-lwf-s3 exists"), "{message}");
    assert_eq!(place.list("runs"), ["demo-lwf-s3"]);
    assert_eq!(place.list("runs/demo-lwf-s3"), ["mine"]);
    // A name that no run may have is refused by a dry run as well.
    let message = place.message(2, &["run", "demo-lwf", "--name", "a.partial", "--dry-run"]);
    assert!(message.contains("\"a.partial\" is not a name for a run"), "{message}");
}

#[test]
fn a_model_of_another_form_is_refused() {
    let place = Place::new();
    let order = "class-order=[0, 1, 2, 3]";
    place.ok(&small_run("demo-lucir-e0", &[order]));
    // Outside its folder, whose digests would report damage first.
    let base = "own.safetensors";
    fs::copy(place.path().join("runs/demo-lucir-e0-s3/base.safetensors"), place.path().join(base))
        .expect("a copy");
    let refused = |more: &[&str], part: &str| {
        let mut arguments = small_run("demo-lucir-e0", &[&[order], more].concat());
        arguments.extend(["--name", "other", "--base-model", base]);
        let message = place.message(2, &arguments);
        assert!(message.contains(base) && message.contains(part), "{message}");
        assert_eq!(place.list("runs"), ["demo-lucir-e0-s3"]);
    };
    refused(&["architecture.width=8"], "of width 4, the run needs LUCIR's ResNet-8 of width 8");
    refused(&["increments=[3, 1]"], "blocks [2]");
    // Of the right form, and of something else: taken, it would be wrong in every image.
    refused(&["class-order=[1, 0, 2, 3]"], "the model's class 0 is ");
    refused(&["normalisation.mean=[0.4, 0.5, 0.5]"], "mean [0.5, 0.5, 0.5] and deviation");
    refused(&["procedural.seed=2"], "the model was trained on images of the digest ");
    refused(&["procedural.config.train-per-class=21"], "the model was trained on images of the digest ");
    refused(&["validation-per-class=5"], "0 images of each class were held out when the model was trained");
    // So is one that is audited.
    let mut audit = vec!["audit", "demo-lucir-e0-dfgr-dtidkl", "--base-model", base, "--other-model", base];
    for change in SMALL.iter().chain(&SMALL_REPLAY).chain(&["class-order=[1, 0, 2, 3]"]) {
        audit.extend(["--set", change]);
    }
    let message = place.message(2, &audit);
    assert!(message.contains(base) && message.contains("the model's class 0 is "), "{message}");
    let path = place.path().join(base);
    let bytes = fs::read(&path).expect("a model");
    let mut broken = bytes.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, broken).expect("a file");
    refused(&[], "holds NaN: a model whose training diverged");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file");
    refused(&[], "safetensors");
}

#[test]
fn a_disk_that_is_full_leaves_nothing_half_written() {
    let place = Place::new();
    // A limit on the size of files stands for the full disk: the same failure to write.
    let mut line = format!("trap '' XFSZ; ulimit -f 4; exec {}", env!("CARGO_BIN_EXE_cil-runner"));
    line.push_str(" run demo-lucir-e0");
    for change in SMALL {
        line.push_str(&format!(" --set '{change}'"));
    }
    let output =
        Command::new("bash").current_dir(place.path()).args(["-c", &line]).output().expect("bash runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let message = text.lines().last().expect("an error");
    assert!(message.starts_with("error: ") && message.contains("cannot write"), "{message}");
    let left = place.list("runs");
    assert!(left.iter().all(|name| name.ends_with(".partial")), "{left:?}");
}
