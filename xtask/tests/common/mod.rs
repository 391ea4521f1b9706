//! A tiny data set in every published form, for the tests of fetching.
//!
//! Images are a function of (split, index), so each form is written on its own from the same values. The forms are laid
//! out as the published files are; no reader of the crate is used to write them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod pickle;
pub(crate) mod server;
#[cfg(feature = "parquet")]
pub(crate) mod shards;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use xtask::dataset::{Manifest, Spec, Split};
use xtask::fetch::{self, Origin, Request};

pub(crate) const CLASSES: [&str; 3] = ["apple", "boy", "crab"];

/// CIFAR-100 with 3 classes of 4 training and 2 test images.
pub(crate) fn tiny_spec() -> Spec {
    Spec {
        classes: CLASSES.len(),
        train_per_class: 4,
        test_per_class: 2,
        known: None,
        ..Spec::named("cifar100").unwrap()
    }
}

/// All images of `split` with coarse and fine label, in an order of their own for each `shuffle`.
pub(crate) fn images(spec: &Spec, split: Split, shuffle: usize) -> Vec<(u8, u8, Vec<u8>)> {
    let count = spec.count(split);
    let salt = if split == Split::Train { 1 } else { 1000 };
    (0..count)
        // 5 and 7 have no common factor with 12 or 6.
        .map(|index| (index * [5, 7, 11][shuffle % 3] + shuffle) % count)
        .map(|index| {
            let mut state = (index as u32 + salt).wrapping_mul(2_654_435_761);
            let pixels = (0..spec.image_bytes()).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            (7, (index % spec.classes) as u8, pixels.collect())
        })
        .collect()
}

/// The binary form's records of `split`.
pub(crate) fn records(spec: &Spec, split: Split) -> Vec<u8> {
    images(spec, split, 0)
        .into_iter()
        .flat_map(|(coarse, fine, pixels)| [vec![coarse, fine], pixels].concat())
        .collect()
}

/// A gzipped tar with `members` below `folder`.
pub(crate) fn tar_gz(folder: &str, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The official binary archive of the tiny data set.
pub(crate) fn binary_archive(spec: &Spec) -> Vec<u8> {
    let names = format!("{}\n", CLASSES.join("\n")).into_bytes();
    let members = [
        ("coarse_label_names.txt", b"fruit\n".to_vec()),
        ("fine_label_names.txt", names),
        ("test.bin", records(spec, Split::Test)),
        ("train.bin", records(spec, Split::Train)),
    ];
    tar_gz("cifar-100-binary", &members)
}

/// The official Python archive of the tiny data set.
pub(crate) fn python_archive(spec: &Spec) -> Vec<u8> {
    let members = [
        ("meta", pickle::meta(&CLASSES)),
        ("test", pickle::batch(&images(spec, Split::Test, 1), false)),
        ("train", pickle::batch(&images(spec, Split::Train, 1), true)),
    ];
    tar_gz("cifar-100-python", &members)
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `bytes` as the archive number `index` of `spec` into `folder` and publishes its digest.
pub(crate) fn place_archive(spec: &mut Spec, index: usize, folder: &Path, bytes: &[u8]) {
    spec.archives[index].md5 = md5(bytes);
    fs::File::create(folder.join(&spec.archives[index].file)).unwrap().write_all(bytes).unwrap();
}

/// Fetches into `data_dir`; what was printed, or the error in one line.
pub(crate) fn fetch_with(
    spec: &Spec,
    data_dir: &Path,
    origin: Origin,
    force: bool,
) -> Result<String, String> {
    let request = Request { data_dir: data_dir.to_owned(), origin, offline: false, force };
    run(spec, &request)
}

/// Runs `request`; what was printed, or the error in one line.
pub(crate) fn run(spec: &Spec, request: &Request) -> Result<String, String> {
    let mut out = Vec::new();
    match fetch::run(spec, request, &mut out) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => {
            let message = format!("{error:#}");
            assert_eq!(message.lines().count(), 1, "an error is one sentence: {message}");
            Err(message)
        }
    }
}

/// The digests of both splits of the data set in `data_dir`, verified.
pub(crate) fn digests(spec: &Spec, data_dir: &Path) -> [String; 2] {
    fetch::verify(spec, data_dir, &mut Vec::new()).unwrap();
    let manifest = Manifest::load(&data_dir.join(&spec.name)).unwrap();
    assert_eq!(manifest.classes, CLASSES);
    Split::ALL.map(|split| manifest.split(split).content_sha256.clone())
}
