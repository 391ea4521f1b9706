//! What is wrong on the command lines of the commands for images and model files.

use std::fs;

use crate::Place;
use crate::models::{SHORT, images, with};

#[test]
fn every_mistake_is_a_sentence() {
    let place = Place::new();
    images(&place, "photos", 0..2, 4, 1);
    images(&place, "one", 0..1, 4, 1);
    images(&place, "other", 3..4, 4, 1);
    let mut short = SHORT;
    short[5] = "1";
    place.ok(&with(&["train", "photos", "--out", "own.safetensors"], &short));
    fs::write(place.path().join("broken.safetensors"), b"no model").expect("a file");
    fs::write(place.path().join("other/écorce/x.png"), b"\x89PNG\r\n\x1a\nno image").expect("a file");
    let train = |more: &[&'static str]| place.message(2, &with(&["train"], more));
    for (arguments, part) in [
        (&["none", "--out", "a.safetensors"][..], "none is not there"),
        (&["one", "--out", "a.safetensors"], "has one class, \"ash\""),
        (&["photos", "--out", "photos"], "it is a folder"),
        (&["photos", "--out", "no/a.safetensors"], "there is no folder no"),
        (
            &["photos", "--out", "a", "--report", "./a"],
            "--report ./a: that is the model file that is written",
        ),
        (&["photos", "--out", "a.safetensors", "--set", "base.training.epoch=1"], "epochs"),
        (&["photos", "--out", "a.safetensors", "--set", "base.training.epochs=0"], "epochs is 0"),
        (&["other", "--out", "a.safetensors"], "has one class"),
    ] {
        let message = train(arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    for (arguments, part) in [
        (&["extend", "own.safetensors", "photos", "--out", "b.safetensors"][..], "has ash, birch already"),
        (&["extend", "own.safetensors", "other", "--out", "own.safetensors"], "is never changed"),
        (
            &["extend", "own.safetensors", "other", "--out", "b.safetensors", "--report", "own.safetensors"],
            "--report own.safetensors: that is the model which is read",
        ),
        (
            &["export", "own.safetensors", "--onnx", "own.safetensors"],
            "--onnx own.safetensors: that is the model",
        ),
        (&["export", "own.safetensors", "--onnx", "x", "--torch", "./x"], "that is the file of --onnx"),
        (&["extend", "none.safetensors", "other", "--out", "b.safetensors"], "cannot read none.safetensors"),
        (
            &["extend", "broken.safetensors", "other", "--out", "b.safetensors"],
            "not a whole safetensors file",
        ),
        (&["evaluate", "own.safetensors", "other"], "the model has no class \"écorce\""),
        (&["evaluate", "own.safetensors", "photos", "--mean", "0,0,0"], "leave --classes, --mean"),
        (&["predict", "own.safetensors", "none.png"], "none.png"),
        (&["inspect", "broken.safetensors"], "not a whole safetensors file"),
        (&["inspect", "hf://somebody"], "give hf://owner/name"),
        (&["push", "own.safetensors", "somebody/trees"], "give the repository as hf://owner/name"),
        (&["push", "own.safetensors", "hf://somebody/trees", "--license", "a b"], "give an identifier"),
        #[cfg(not(feature = "hub"))]
        (&["inspect", "hf://somebody/trees"], "build it with --features hub"),
        #[cfg(not(feature = "hub"))]
        (&["push", "own.safetensors", "hf://somebody/trees"], "build it with --features hub"),
    ] {
        let message = place.message(2, arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    let output = place.output(&["extend", "own.safetensors", "other", "--out", "b.safetensors"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("x.png") && message.contains("--skip-broken"),
        "{message}"
    );
    assert!(!place.path().join("b.safetensors").exists());
    let skipped = ["extend", "own.safetensors", "other", "--out", "b.safetensors", "--skip-broken"];
    place.ok(&with(&skipped, &["--effort", "quick"]));
}
