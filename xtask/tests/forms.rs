//! The same images in every published form, and broken files of each form.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;

use common::{
    CLASSES, binary_archive, digests, fetch_with, images, place_archive, python_archive, tar_gz, tiny_spec,
};
use xtask::dataset::{Spec, Split};
use xtask::fetch::Origin;

/// Names and contents of an archive's members.
type Members<'a> = Vec<(&'a str, Vec<u8>)>;

fn convert(spec: &Spec, mirror: &Path, data_dir: &Path) -> Result<String, String> {
    fetch_with(spec, data_dir, Origin::Folder(mirror.to_owned()), false)
}

/// Converts an archive made of `bytes`, whose digest is taken for the published one.
fn convert_archive(index: usize, bytes: &[u8]) -> Result<[String; 2], String> {
    let (mut spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    place_archive(&mut spec, index, mirror.path(), bytes);
    let result = convert(&spec, mirror.path(), data.path());
    assert!(result.is_ok() || !data.path().join("cifar100").exists(), "half a data set is left");
    assert!(!data.path().join(".fetch/cifar100.new").exists(), "an unfinished folder is left");
    result.map(|_| digests(&spec, data.path()))
}

#[test]
fn binary_and_python_give_the_same_content() {
    let spec = tiny_spec();
    let binary = convert_archive(0, &binary_archive(&spec)).unwrap();
    let python = convert_archive(1, &python_archive(&spec)).unwrap();
    assert_eq!(binary, python);
}

#[cfg(feature = "parquet")]
#[test]
fn shards_give_the_same_content() {
    let (spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    common::shards::write(&spec, mirror.path());
    convert(&spec, mirror.path(), data.path()).unwrap();
    let binary = convert_archive(0, &binary_archive(&spec)).unwrap();
    assert_eq!(digests(&spec, data.path()), binary);
}

#[test]
fn cifar10_is_read_from_five_batches_whatever_the_size_of_its_images() {
    let mut spec = Spec {
        classes: 3,
        side: 8,
        train_per_class: 5,
        test_per_class: 2,
        known: None,
        ..Spec::named("cifar10").unwrap()
    };
    let (mirror, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = |split| -> Vec<Vec<u8>> {
        images(&spec, split, 0).into_iter().map(|(_, fine, pixels)| [vec![fine], pixels].concat()).collect()
    };
    let train: Vec<Vec<u8>> = records(Split::Train).chunks(3).map(<[Vec<u8>]>::concat).collect();
    let names: Vec<String> = (1..=5).map(|batch| format!("data_batch_{batch}.bin")).collect();
    let mut members: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip(train).collect();
    members.push(("test_batch.bin", records(Split::Test).concat()));
    // The published file ends with blank lines.
    members.push(("batches.meta.txt", format!("{}\n\n", CLASSES.join("\n")).into_bytes()));
    let archive = tar_gz("cifar-10-batches-bin", &members);
    place_archive(&mut spec, 0, mirror.path(), &archive);
    convert(&spec, mirror.path(), data.path()).unwrap();
    digests(&spec, data.path());
}

#[test]
fn a_wrong_archive_digest_is_refused() {
    let (spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    place_archive(&mut spec.clone(), 0, mirror.path(), b"not it");
    let message = convert(&spec, mirror.path(), data.path()).unwrap_err();
    assert!(message.contains("the published one is 03b5dce01913d631647c71ecec9e9cb8"), "{message}");
}

#[test]
fn broken_archives_are_refused_in_one_sentence() {
    let spec = tiny_spec();
    let whole = binary_archive(&spec);
    for cut in [0, 1, 30, whole.len() / 2, whole.len() - 200] {
        convert_archive(0, &whole[..cut]).unwrap_err();
    }
    let names = ("fine_label_names.txt", b"apple\nboy\ncrab\n".to_vec());
    let train = common::records(&spec, Split::Train);
    let test = ("test.bin", common::records(&spec, Split::Test));
    let faults: [(Members<'_>, &str); 6] = [
        (vec![names.clone(), test.clone()], "the member cifar-100-binary/train.bin is missing"),
        (vec![names.clone(), test.clone(), ("train.bin", train[1..].to_vec())], "not a multiple of 3074"),
        (vec![names.clone(), test.clone(), ("train.bin", train[3074..].to_vec())], "train has 11 images"),
        (
            vec![names.clone(), test.clone(), ("train.bin", [&train[..], b"x"].concat())],
            "more than 36888 bytes",
        ),
        (
            vec![("fine_label_names.txt", b"apple\n".to_vec()), test.clone(), ("train.bin", train.clone())],
            "the source names 1 classes, cifar100 has 3",
        ),
        (
            vec![names, test, ("train.bin", [&[0, 99], &train[2..]].concat())],
            "image 0 has label 99, the largest of 3 classes is 2",
        ),
    ];
    for (members, wanted) in faults {
        let message = convert_archive(0, &tar_gz("cifar-100-binary", &members)).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn broken_pickles_are_refused_in_one_sentence() {
    let spec = tiny_spec();
    let train = common::pickle::batch(&images(&spec, Split::Train, 0), false);
    let with = |train: Vec<u8>| {
        let members = [
            ("meta", common::pickle::meta(&CLASSES)),
            ("test", common::pickle::batch(&images(&spec, Split::Test, 0), false)),
            ("train", train),
        ];
        convert_archive(1, &tar_gz("cifar-100-python", &members))
    };
    with(train.clone()).unwrap();
    for cut in (0..train.len()).step_by(997) {
        let message = with(train[..cut].to_vec()).unwrap_err();
        assert!(message.contains("cifar-100-python/train"), "{message}");
    }
    let replace = |from: &[u8], to: &[u8]| {
        let at = train.windows(from.len()).position(|window| window == from).unwrap();
        [&train[..at], to, &train[at + from.len()..]].concat()
    };
    for (from, to, wanted) in [
        (b"U\x02u1".as_slice(), b"U\x02f4".as_slice(), "not unsigned bytes"),
        (b"fine_labels", b"other_label", "no entry \"fine_labels\""),
        (b"K\x0cM\x00\x0c", b"K\x0bM\x00\x0c", "11 rows of 3072 are announced"),
        (b"M\x00\x0c\x86", b"M\x00\x0d\x86", "3328 wide, not 3072"),
        (b"ndarray\n", b"ndarray\nI", "opcode 0x49 is not read"),
    ] {
        let message = with(replace(from, to)).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn broken_shards_are_refused_in_one_sentence() {
    let (spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    common::shards::write(&spec, mirror.path());
    let test = mirror.path().join("test-00000-of-00001.parquet");
    let good = fs::read(&test).unwrap();
    let attempt = || convert(&spec, mirror.path(), data.path()).unwrap_err();

    for cut in [0, 4, good.len() / 2, good.len() - 1] {
        fs::write(&test, &good[..cut]).unwrap();
        let message = attempt();
        assert!(message.contains("test-00000-of-00001.parquet"), "{message}");
    }
    for place in (0..good.len()).step_by(61) {
        let mut bytes = good.clone();
        bytes[place] ^= 0x55;
        fs::write(&test, &bytes).unwrap();
        // Some bytes are of no consequence; what matters is that nothing panics and every error is one sentence.
        if convert(&spec, mirror.path(), data.path()).is_ok() {
            fs::remove_dir_all(data.path().join("cifar100")).unwrap();
        }
    }
    common::shards::write_shard(&test, &images(&spec, Split::Test, 0), false);
    assert!(attempt().contains("no \"huggingface\" metadata"));
    common::shards::write_shard(&test, &images(&spec, Split::Train, 0), true);
    assert!(attempt().contains("12 rows make more than the 6 test images"));
    fs::write(&test, &good).unwrap();
    fs::remove_file(mirror.path().join("train-00001-of-00002.parquet")).unwrap();
    assert!(attempt().ends_with("lacks the shard train-00001-of-00002.parquet"));
}

#[test]
fn folders_without_a_data_set_are_refused() {
    let (spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let message = convert(&spec, mirror.path(), data.path()).unwrap_err();
    assert!(message.contains("holds nothing of cifar100"), "{message}");
    let message = convert(&spec, &mirror.path().join("none"), data.path()).unwrap_err();
    assert!(message.contains("cannot read the folder"), "{message}");
    fs::write(mirror.path().join("test-0.parquet"), b"").unwrap();
    let message = convert(&spec, mirror.path(), data.path()).unwrap_err();
    assert!(message.contains("no train-*.parquet"), "{message}");
}
