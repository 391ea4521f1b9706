//! Tiny-ImageNet from a folder in its published layout, whole or in part.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;
use xtask::dataset::{Manifest, Spec};
use xtask::fetch::{self, Origin, Request};

fn spec() -> Spec {
    Spec { classes: 4, train_per_class: 3, test_per_class: 1, ..Spec::named("tiny-imagenet").unwrap() }
}

fn write(path: &Path, red: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(64, 64, Rgb([red, 9, 200])).save_with_format(path, ImageFormat::Jpeg).unwrap();
}

/// Two classes of the four, in the official layout; the second has no word.
fn unpacked() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tiny-imagenet-200");
    let mut annotations = String::new();
    for (class, number) in ["n02", "n01"].into_iter().enumerate() {
        for at in 0..3 {
            write(
                &root.join(format!("train/{number}/images/{number}_{at}.JPEG")),
                (100 * class + 10 * at) as u8,
            );
        }
        write(&root.join(format!("val/images/val_{class}.JPEG")), (100 * class + 50) as u8);
        annotations += &format!("val_{class}.JPEG\t{number}\t0\t0\t62\t62\n");
    }
    write(&root.join("test/images/test_0.JPEG"), 0);
    fs::write(root.join("val/val_annotations.txt"), annotations).unwrap();
    fs::write(root.join("words.txt"), "n01\tgoldfish, Carassius auratus\nn09\tcrane\n").unwrap();
    place
}

fn fetched(spec: &Spec, from: &Path) -> Result<(TempDir, String), String> {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::Folder(from.to_owned());
    let request = Request { data_dir: data.path().to_owned(), origin, offline: false, force: false };
    let mut out = Vec::new();
    fetch::run(spec, &request, &mut out).map_err(|error| format!("{error:#}"))?;
    Ok((data, String::from_utf8(out).unwrap()))
}

#[test]
fn a_part_of_the_classes_is_taken_and_reported() {
    let place = unpacked();
    for from in [place.path().to_owned(), place.path().join("tiny-imagenet-200")] {
        let (data, out) = fetched(&spec(), &from).unwrap();
        assert!(out.contains("it holds 2 of the 4 classes of tiny-imagenet; these are taken"), "{out}");
        let folder = data.path().join("tiny-imagenet");
        let manifest = Manifest::load(&folder).unwrap();
        assert_eq!(manifest.classes, ["goldfish", "n02"]);
        assert_eq!((manifest.height, manifest.splits.train.count, manifest.splits.test.count), (64, 6, 2));
        assert_eq!(fs::read(folder.join("train.labels")).unwrap(), [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0]);
        let pixels = fs::read(folder.join("train.images")).unwrap();
        assert_eq!(pixels.len(), 6 * 3 * 64 * 64);
        // The class n01 was written second, with more red.
        assert!(pixels[..4096].iter().all(|red| (95..=125).contains(red)), "{}", pixels[0]);
        let mut printed = Vec::new();
        fetch::verify(&spec(), data.path(), &mut printed).unwrap();
        assert!(String::from_utf8(printed).unwrap().contains("is intact: 2 classes"));
    }
}

#[test]
fn a_mistake_is_refused_with_the_name_of_its_file() {
    let message = |spoil: &dyn Fn(&Path)| {
        let place = unpacked();
        spoil(&place.path().join("tiny-imagenet-200"));
        fetched(&spec(), place.path()).unwrap_err()
    };
    assert!(
        message(&|root| fs::write(root.join("val/val_annotations.txt"), "").unwrap())
            .contains("says nothing of val/images/")
    );
    assert!(
        message(&|root| fs::remove_file(root.join("words.txt")).unwrap()).contains("words.txt is missing")
    );
    let broken = message(&|root| fs::write(root.join("train/n01/images/n01_1.JPEG"), "no").unwrap());
    assert!(broken.contains("train/n01/images/n01_1.JPEG is a broken JPEG"), "{broken}");
    let missing = message(&|root| fs::remove_file(root.join("train/n01/images/n01_1.JPEG")).unwrap());
    assert!(missing.contains("train has 5 images, tiny-imagenet has 6"), "{missing}");
    let small = message(&|root| {
        let path = root.join("train/n02/images/n02_0.JPEG");
        RgbImage::new(32, 64).save_with_format(path, ImageFormat::Jpeg).unwrap();
    });
    assert!(small.contains("n02_0.JPEG is 32x64, not 64x64"), "{small}");
    let empty = tempfile::tempdir().unwrap();
    assert!(fetched(&spec(), empty.path()).unwrap_err().contains("name tiny-imagenet-200.zip or its folder"));
    let request = Request {
        data_dir: empty.path().to_owned(),
        origin: Origin::Official { base_url: String::new(), client: xtask::Client::new() },
        offline: false,
        force: false,
    };
    let message = fetch::run(&spec(), &request, &mut Vec::new()).unwrap_err().to_string();
    assert!(
        message.contains("`cargo xtask fetch-data tiny-imagenet --from tiny-imagenet-200.zip`"),
        "{message}"
    );
}
