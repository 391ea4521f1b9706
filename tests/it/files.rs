//! Data sets on disk that are not what they should be.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::{Place, SMALL};

/// A CIFAR-10 folder in miniature: ten classes of three images.
fn write_data_set(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let part = |name: &str, shift: u8| {
        let (mut digest, mut pixels, mut labels) = (Sha256::new(), Vec::new(), Vec::new());
        for image in 0..30u16 {
            let (label, bytes) = (image / 3, vec![(image as u8).wrapping_mul(7) + shift; 3072]);
            digest.update(label.to_le_bytes());
            digest.update(&bytes);
            labels.extend(label.to_le_bytes());
            pixels.extend(bytes);
        }
        fs::write(folder.join(format!("{name}.images")), pixels).expect("a file");
        fs::write(folder.join(format!("{name}.labels")), labels).expect("a file");
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({
            "count": 30, "images": format!("{name}.images"), "labels": format!("{name}.labels"),
            "content_sha256": digest,
        })
    };
    let manifest = serde_json::json!({
        "format": 1, "name": "cifar10", "classes": (0..10).map(|at| format!("class {at}")).collect::<Vec<_>>(),
        "channels": 3, "height": 32, "width": 32,
        "splits": { "train": part("train", 0), "test": part("test", 1) },
        "source": { "kind": "binary", "files": [] },
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a file");
}

fn arguments() -> Vec<&'static str> {
    let mut arguments = vec!["run", "own.toml", "--data-dir", "data"];
    for change in SMALL.iter().filter(|change| !change.starts_with("procedural")) {
        arguments.extend(["--set", change]);
    }
    arguments
}

/// A place with the data set and a configuration that uses it.
fn place() -> Place {
    let place = Place::new();
    let config = place.ok(&["run", "demo-fine-tune", "--dry-run", "--no-estimate"]);
    let own: String = config
        .replace("dataset = \"procedural\"", "dataset = \"cifar10\"")
        .split("[procedural")
        .enumerate()
        .map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => part.find("\n[").map_or(String::new(), |end| part[end + 1..].to_owned()),
        })
        .collect();
    fs::write(place.path().join("own.toml"), own).expect("a file");
    write_data_set(&place.path().join("data/cifar10"));
    place
}

#[test]
fn a_data_set_of_the_layout_is_learned() {
    let place = place();
    place.ok(&arguments());
    assert_eq!(place.list("runs").len(), 1);
}

#[test]
fn a_damaged_data_set_is_refused_by_name() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 8] = [
        ("train.images has 92159 bytes, its manifest says 92160", |folder| {
            let path = folder.join("train.images");
            let bytes = fs::read(&path).expect("a file");
            fs::write(path, &bytes[1..]).expect("a file");
        }),
        ("the digest differs", |folder| {
            let path = folder.join("test.images");
            let mut bytes = fs::read(&path).expect("a file");
            bytes[5000] ^= 1;
            fs::write(path, bytes).expect("a file");
        }),
        ("test.labels: image 0 has label 200, there are 10 classes", |folder| {
            let path = folder.join("test.labels");
            let mut bytes = fs::read(&path).expect("a file");
            bytes[0] = 200;
            fs::write(path, bytes).expect("a file");
        }),
        ("train.labels", |folder| fs::remove_file(folder.join("train.labels")).expect("a file")),
        ("manifest.json is missing; run `cargo xtask fetch-data cifar10`", |folder| {
            fs::remove_file(folder.join("manifest.json")).expect("a file");
        }),
        ("manifest.json is not a manifest", |folder| {
            fs::write(folder.join("manifest.json"), "{\"format\": 1").expect("a file");
        }),
        ("format is 7, this program reads 1", |folder| change(folder, "\"format\":1", "\"format\":7")),
        ("splits.train.count is 9000000000000", |folder| {
            change(folder, "\"count\":30", "\"count\":9000000000000")
        }),
    ];
    for (part, damage) in damages {
        let place = place();
        damage(&place.path().join("data/cifar10"));
        let message = place.message(1, &arguments());
        assert!(message.starts_with("error: ") && message.contains(part), "{message}");
        assert_eq!(place.list("runs"), Vec::<String>::new());
    }
}

fn change(folder: &Path, from: &str, to: &str) {
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("a file");
}
