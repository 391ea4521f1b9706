//! The data set's folder: found, broken, replaced, interrupted.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs::{self, File};
use std::path::Path;

use common::{binary_archive, digests, fetch_with, place_archive, tiny_spec};
use tempfile::TempDir;
use xtask::dataset::Spec;
use xtask::fetch::{self, Origin};

/// A fetched data set: its description, the mirror it came from, and the data folder.
fn fetched() -> (Spec, TempDir, TempDir) {
    let (mut spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = binary_archive(&spec);
    place_archive(&mut spec, 0, mirror.path(), &archive);
    again(&spec, &mirror, &data, false).unwrap();
    (spec, mirror, data)
}

fn again(spec: &Spec, mirror: &TempDir, data: &TempDir, force: bool) -> Result<String, String> {
    fetch_with(spec, data.path(), Origin::Folder(mirror.path().to_owned()), force)
}

fn verify(spec: &Spec, data: &Path) -> String {
    match fetch::verify(spec, data, &mut Vec::new()) {
        Ok(()) => "intact".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn what_is_there_is_verified_and_kept() {
    let (spec, mirror, data) = fetched();
    fs::remove_file(mirror.path().join("cifar-100-binary.tar.gz")).unwrap();
    assert!(again(&spec, &mirror, &data, false).unwrap().contains("already there and intact"));
}

#[test]
fn every_difference_from_the_manifest_is_named() {
    let (spec, mirror, data) = fetched();
    let folder = data.path().join("cifar100");
    let damage = |file: &str, change: &dyn Fn(&mut Vec<u8>), wanted: &str| {
        let path = folder.join(file);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let message = verify(&spec, data.path());
        assert!(message.contains(wanted), "{message}");
        let message = again(&spec, &mirror, &data, false).unwrap_err();
        assert!(message.contains("replace it with --force"), "{message}");
        fs::write(&path, good).unwrap();
        assert_eq!(verify(&spec, data.path()), "intact");
    };
    damage("train.images", &|bytes| bytes[7] ^= 1, "the manifest says");
    damage("train.images", &|bytes| bytes.truncate(100), "has 100 bytes, not 36864");
    damage("test.labels", &|bytes| bytes.push(0), "has 13 bytes, not 12");
    damage("test.labels", &|bytes| bytes[0] = 200, "has label 200, the largest is 2");
    damage("test.labels", &|bytes| bytes[0] = 1, "the manifest says");
    damage("manifest.json", &|bytes| bytes.truncate(40), "is not a manifest");
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| *bytes = String::from_utf8_lossy(bytes).replacen(from, to, 1).into_bytes()
    };
    damage("manifest.json", &replace("\"format\": 1", "\"format\": 2"), "format is 2, this program reads 1");
    damage("manifest.json", &replace("\"format\"", "\"fromat\""), "unknown field `fromat`");
    damage(
        "manifest.json",
        &replace("\"count\": 12", "\"count\": 11"),
        "counts 11 train images, cifar100 has 12",
    );
    damage("manifest.json", &replace("train.images", "../x.images"), "not \"train.images\"");
    damage("manifest.json", &replace("\"crab\"", "\"crab\", \"dog\""), "names 4 classes, cifar100 has 3");
    damage("manifest.json", &replace("\"cifar100\"", "\"cifar10\""), "holds the data set \"cifar10\"");
}

#[test]
fn an_order_that_is_not_canonical_is_refused() {
    let (spec, _mirror, data) = fetched();
    let folder = data.path().join("cifar100");
    let mut images = fs::read(folder.join("train.images")).unwrap();
    images[..2 * 3072].rotate_left(3072);
    fs::write(folder.join("train.images"), &images).unwrap();
    // The digest that belongs to the wrong order.
    let message = verify(&spec, data.path());
    let digest = message.split("have the digest ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let old = manifest.split("\"content_sha256\": \"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(folder.join("manifest.json"), manifest.replace(old, &digest)).unwrap();
    assert!(verify(&spec, data.path()).ends_with("is out of canonical order"));
}

#[test]
fn force_replaces_a_broken_data_set() {
    let (spec, mirror, data) = fetched();
    let before = digests(&spec, data.path());
    fs::write(data.path().join("cifar100/train.images"), b"").unwrap();
    again(&spec, &mirror, &data, true).unwrap();
    assert_eq!(digests(&spec, data.path()), before);
    let left: Vec<_> =
        fs::read_dir(data.path().join(".fetch")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["cifar100.lock"]);
}

#[test]
fn a_failed_replacement_keeps_the_old_data_set() {
    let (spec, mirror, data) = fetched();
    fs::write(mirror.path().join("cifar-100-binary.tar.gz"), b"broken").unwrap();
    again(&spec, &mirror, &data, true).unwrap_err();
    digests(&spec, data.path());
}

#[test]
fn a_killed_fetch_is_cleared_up() {
    let (spec, mirror, data) = fetched();
    let work = data.path().join(".fetch");
    // Killed while it wrote, and between the two renames.
    fs::create_dir(work.join("cifar100.new")).unwrap();
    fs::write(work.join("cifar100.new/train.images"), b"half").unwrap();
    fs::rename(data.path().join("cifar100"), work.join("cifar100.old")).unwrap();
    assert!(again(&spec, &mirror, &data, false).unwrap().contains("already there and intact"));
    assert!(!work.join("cifar100.new").exists() && !work.join("cifar100.old").exists());
}

#[test]
fn a_second_fetch_and_an_unwritable_target_are_refused() {
    let (spec, mirror, data) = fetched();
    let lock = File::open(data.path().join(".fetch/cifar100.lock")).unwrap();
    lock.lock().unwrap();
    assert!(again(&spec, &mirror, &data, true).unwrap_err().contains("another fetch of cifar100 runs"));

    let file = data.path().join("file");
    fs::write(&file, b"").unwrap();
    let message = fetch_with(&spec, &file, Origin::Folder(mirror.path().to_owned()), false).unwrap_err();
    assert!(message.contains("cannot create"), "{message}");
    assert!(verify(&spec, mirror.path()).contains("is not there"));
}

#[test]
fn images_that_are_not_the_published_ones_are_not_called_intact() {
    let (spec, mirror, data) = fetched();
    let published =
        xtask::dataset::Spec { known: xtask::dataset::Spec::named("cifar100").unwrap().known, ..spec };
    let message = verify(&published, data.path());
    assert!(message.contains("the train images and labels are not those of cifar100"), "{message}");
    fs::remove_dir_all(data.path().join("cifar100")).unwrap();
    let message = again(&published, &mirror, &data, false).unwrap_err();
    assert!(message.contains("are not those of cifar100"), "{message}");
    assert!(!data.path().join("cifar100").exists() && !data.path().join(".fetch/cifar100.new").exists());
}
