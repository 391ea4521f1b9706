//! Loading a folder in the layout of `datasets/README.md`, and every way in which one can be wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_random::Draw;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const NAME: &str = "tiny";
/// Height and width; they differ, so that no one takes one for the other.
const SIZE: (usize, usize) = (4, 5);
const IMAGE_BYTES: usize = 3 * SIZE.0 * SIZE.1;
const TRAIN_LABELS: [u16; 5] = [0, 0, 0, 1, 1];
const TEST_LABELS: [u16; 2] = [0, 1];

fn pixels(part: &str, count: usize) -> Vec<u8> {
    let mut stream = Draw::new(1, "test pixels").stream(part);
    (0..count * IMAGE_BYTES).map(|_| stream.below(256) as u8).collect()
}

/// Writes one part and returns its entry of the manifest.
fn write_part(folder: &Path, part: &str, labels: &[u16]) -> Value {
    let pixels = pixels(part, labels.len());
    let mut digest = Sha256::new();
    for (label, image) in labels.iter().zip(pixels.chunks_exact(IMAGE_BYTES)) {
        digest.update(label.to_le_bytes());
        digest.update(image);
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let (images_file, labels_file) = (format!("{part}.images"), format!("{part}.labels"));
    fs::write(folder.join(&images_file), pixels).unwrap();
    let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    fs::write(folder.join(&labels_file), bytes).unwrap();
    json!({
        "count": labels.len(), "images": images_file, "labels": labels_file, "content_sha256": digest,
    })
}

/// A right data set below a fresh data folder: the latter and the former.
fn written() -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(NAME);
    fs::create_dir(&folder).unwrap();
    let manifest = json!({
        "format": 1, "name": NAME, "classes": ["cat", "dog"],
        "channels": 3, "height": SIZE.0, "width": SIZE.1,
        "splits": {
            "train": write_part(&folder, "train", &TRAIN_LABELS),
            "test": write_part(&folder, "test", &TEST_LABELS),
        },
        "source": { "kind": "test", "files": [] },
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    (data, folder)
}

/// The error for a valid data set after `spoil` changed its folder.
fn error_text(spoil: impl FnOnce(&Path)) -> String {
    let (data, folder) = written();
    spoil(&folder);
    let error = Dataset::load(data.path(), NAME).expect_err("a spoilt data set was loaded");
    format!("{error:#}").replace(&folder.display().to_string(), "F")
}

/// The error after the manifest's value at `pointer` became `value`.
fn message_of(pointer: &str, value: Value) -> String {
    error_text(|folder| {
        let path = folder.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *manifest.pointer_mut(pointer).unwrap() = value;
        fs::write(path, manifest.to_string()).unwrap();
    })
}

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_right_folder_is_loaded_as_it_was_written() {
    let (data, _folder) = written();
    let loaded = Dataset::load(data.path(), NAME).unwrap();
    assert_eq!((loaded.name(), loaded.class_names()), (NAME, &["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!((loaded.digests().train.len(), loaded.digests().test.len()), (64, 64));
    assert_eq!(loaded.train().len(), 5);
    let pixels = pixels("train", 5);
    for (at, image) in pixels.chunks_exact(IMAGE_BYTES).enumerate() {
        assert_eq!(loaded.train().image(at), image);
        assert_eq!(loaded.train().label(at), usize::from(TRAIN_LABELS[at]));
    }
    let order = ClassOrder::from_labels(vec![1, 0], 2).unwrap();
    let (train, test) = loaded.split(&order, 0, Evaluate::Test).unwrap();
    assert_eq!((train.samples(0..1).len(), train.samples(1..2).len(), test.len(2)), (2, 3, 2));
    assert_eq!(train.image_dims(), [3, SIZE.0, SIZE.1]);
}

#[test]
fn a_missing_data_set_says_how_to_get_it() {
    let data = tempfile::tempdir().unwrap();
    let error = Dataset::load(data.path(), "cifar100").unwrap_err().to_string();
    assert!(error.contains("manifest.json is missing; run `cargo xtask fetch-data cifar100`"), "{error}");
}

#[test]
fn files_of_the_wrong_length_are_refused_before_they_are_read() {
    assert_eq!(
        error_text(|folder| change(folder, "train.images", |it| it.truncate(299))),
        "F/train.images has 299 bytes, its manifest says 300"
    );
    assert_eq!(
        error_text(|folder| change(folder, "test.labels", |it| it.extend([0; 2]))),
        "F/test.labels has 6 bytes, its manifest says 4"
    );
    let huge = message_of("/splits/train/count", json!(3_000_000_000u32));
    assert_eq!(huge, "F/train.labels has 10 bytes, its manifest says 6000000000");
    assert_eq!(
        message_of("/splits/train/count", json!(u64::MAX)),
        "in F/manifest.json: splits.train.count is 18446744073709551615; use at most 4294967295 images"
    );
    assert!(message_of("/splits/test/count", json!(0)).contains("its manifest says 0"));
    assert!(
        error_text(|folder| fs::remove_file(folder.join("test.images")).unwrap())
            .contains("cannot read F/test.images")
    );
    let folder_for_file = error_text(|folder| {
        fs::remove_file(folder.join("test.images")).unwrap();
        fs::create_dir(folder.join("test.images")).unwrap();
    });
    assert_eq!(folder_for_file, "F/test.images is not a file");
}

#[test]
fn wrong_content_is_refused() {
    assert_eq!(
        error_text(|folder| change(folder, "train.labels", |it| it[8] = 2)),
        "F/train.labels: image 4 has label 2, there are 2 classes"
    );
    let digest = "F/train.images and train.labels are not what F/manifest.json says: the digest differs; \
                  run `cargo xtask fetch-data tiny --force`";
    assert_eq!(error_text(|folder| change(folder, "train.images", |it| it[77] ^= 1)), digest);
    assert_eq!(error_text(|folder| change(folder, "train.labels", |it| it.swap(4, 6))), digest);
    let two_images_changed_places =
        error_text(|folder| change(folder, "train.images", |it| it.rotate_left(IMAGE_BYTES)));
    assert_eq!(two_images_changed_places, digest);
    assert_eq!(message_of("/splits/train/content_sha256", json!("00")), digest);
}

#[test]
fn a_manifest_of_another_kind_is_refused() {
    assert!(
        error_text(|folder| change(folder, "manifest.json", |it| it.truncate(40)))
            .contains("is not a manifest")
    );
    assert!(
        error_text(|folder| change(folder, "manifest.json", |it| *it = b"[".repeat(100_000)))
            .contains("not a manifest")
    );
    assert!(
        error_text(|folder| change(folder, "manifest.json", |it| it.push(0xff))).contains("manifest.json")
    );
    let long = error_text(|folder| change(folder, "manifest.json", |it| it.resize((1 << 20) + 1, b' ')));
    assert_eq!(long, "F/manifest.json is longer than 1048576 bytes");
    assert_eq!(message_of("/format", json!(2)), "in F/manifest.json: format is 2, this program reads 1");
    assert_eq!(
        message_of("/name", json!("cifar100")),
        "in F/manifest.json: the data set is \"cifar100\", \"tiny\" was asked for"
    );
    for (pointer, value) in [("/channels", 1u64), ("/height", 0), ("/width", 1 << 40)] {
        assert!(message_of(pointer, json!(value)).contains("use three channels and sides from 1 to 4096"));
    }
    assert!(message_of("/classes", json!([])).contains("there are 0 classes"));
    for file in ["../train.images", "/etc/hostname", "", ".", "a/b"] {
        let message = message_of("/splits/train/images", json!(file));
        assert!(message.contains("is not the name of a file in the same folder"), "{message}");
    }
}

/// Loading a damaged file ends with the correct images or with an error.
#[test]
fn no_spoilt_byte_goes_unnoticed_or_panics() {
    let (data, folder) = written();
    let right = Dataset::load(data.path(), NAME).unwrap();
    let mut stream = Draw::new(2, "test spoiling").stream("bytes");
    let files = ["manifest.json", "train.images", "train.labels", "test.images", "test.labels"];
    for round in 0..500 {
        let file = files[round % files.len()];
        let saved = fs::read(folder.join(file)).unwrap();
        change(&folder, file, |bytes| {
            let at = stream.below(bytes.len());
            match stream.below(3) {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << stream.below(8),
                _ => bytes.insert(at, stream.below(256) as u8),
            }
        });
        // A class may have got another name, or white space may have moved: the images are the same all the same.
        if let Ok(loaded) = Dataset::load(data.path(), NAME) {
            assert_eq!(file, "manifest.json", "round {round}");
            assert_eq!(loaded.digests(), right.digests(), "round {round}");
            assert_eq!(loaded.train().image(3), right.train().image(3));
        }
        fs::write(folder.join(file), saved).unwrap();
    }
}

/// Times what a run waits for; `cargo test -p cil-data --test load -- --ignored --nocapture`.
#[test]
#[ignore = "needs datasets/cifar100"]
fn cifar100_is_loaded_whole() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    let started = std::time::Instant::now();
    let loaded = Dataset::load(&data, "cifar100").unwrap();
    println!("loaded in {:.2?}", started.elapsed());
    assert_eq!(loaded.digests().train, "a78a6775f74f5eed74944914e535458eaad8ca287d3b6abaffd026c0732bdf77");
    assert_eq!(loaded.digests().test, "ed24e635f4041accbb951c1fdda5acef72eeff35defe0588b65fb11c150ff0e1");
    assert_eq!((loaded.class_names()[0].as_str(), loaded.class_names().len()), ("apple", 100));
    let order = ClassOrder::published("cifar100", "lucir_1993").unwrap();
    let started = std::time::Instant::now();
    let (train, test) = loaded.split(&order, 0, Evaluate::Test).unwrap();
    println!("split in {:.2?}", started.elapsed());
    assert_eq!((train.samples(0..100).len(), test.len(50)), (50_000, 5_000));
    let preparation = Preparation {
        augmentation: Augmentation {
            crop_padding: 4,
            flip: true,
            brightness: 63.0 / 255.0,
            ..Augmentation::none()
        },
        normalisation: Normalisation::published("cifar100", "podnet").unwrap(),
    };
    let samples: Vec<_> = train.samples(0..100).into_iter().step_by(390).take(128).collect();
    let started = std::time::Instant::now();
    for position in 0..100 {
        let draw = Draw { position, ..Draw::new(1, "test") };
        train.images(&samples, &preparation, Some(draw), &Device::Cpu).unwrap();
    }
    println!("a batch of 128 in {:.2?}", started.elapsed() / 100);
}
