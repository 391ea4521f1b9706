//! Whole pictures in a file: what is kept, when it is made again, and what is cut of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use candle_core::Device;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::fit::Fit;
use cil_data::folder::{self, Decode};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::resized_crop::ResizedCrop;
use cil_random::Draw;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

const BY: Decode = Decode { fit: Fit { side: 14, shorter: 16 }, skip_broken: false };

/// Pictures whose red grows to the right and whose green grows downwards.
fn photos() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (at, (width, height)) in [(40u32, 24u32), (24, 40), (16, 16), (500, 3)].into_iter().enumerate() {
        for part in ["train", "val"] {
            let path = root.path().join(part).join(["a", "b"][at % 2]).join(format!("{at}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let colour = |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, at as u8]);
            RgbImage::from_fn(width, height, colour).save(path).unwrap();
        }
    }
    root
}

fn packed(root: &Path) -> (Dataset, usize) {
    let decoded = std::sync::atomic::AtomicUsize::new(0);
    let counts = |_| {
        decoded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let folder = folder::scan(root).unwrap();
    let dataset = folder.packed(&BY, &root.join(".cache"), &counts).unwrap().dataset;
    (dataset, decoded.into_inner())
}

fn cache_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root.join(".cache")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_evaluated_on_is_what_decoding_into_memory_gives() {
    let root = photos();
    let memory = folder::scan(root.path()).unwrap().decode(&BY, &|_| {}).unwrap().dataset;
    let (packed, _) = packed(root.path());
    assert_eq!(packed.train().len(), 4);
    for at in 0..4 {
        let (found, expected) = (packed.train().read(at).unwrap(), memory.train().image(at));
        // Two resizes in place of one: the first rounds.
        let apart = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 2, "image {at}: {apart} apart");
    }
}

#[test]
fn the_file_is_made_once_and_anew_when_a_picture_or_the_file_changes() {
    let root = photos();
    let (first, decoded) = packed(root.path());
    assert_eq!(decoded, 8);
    let (again, decoded) = packed(root.path());
    assert_eq!((again.digests(), decoded), (first.digests(), 0));
    let files = cache_files(root.path());
    assert_eq!(files.len(), 4, "{files:?}");
    // A picture that changed, by its time alone.
    let picture = root.path().join("train/a/0.png");
    let later = SystemTime::now() + Duration::from_secs(9);
    fs::File::options().write(true).open(&picture).unwrap().set_modified(later).unwrap();
    assert_eq!(packed(root.path()).1, 4);
    // A file that was cut off, an index that is none, and one that is missing.
    for spoil in [0, 1, 2] {
        let pack = files.iter().find(|it| it.to_string_lossy().ends_with("train.pack")).unwrap();
        let index = files.iter().find(|it| it.to_string_lossy().ends_with("train.pack.json")).unwrap();
        match spoil {
            0 => fs::File::options().write(true).open(pack).unwrap().set_len(99).unwrap(),
            1 => fs::write(index, "[").unwrap(),
            _ => fs::remove_file(index).unwrap(),
        }
        let (anew, decoded) = packed(root.path());
        assert_eq!((decoded, anew.digests()), (4, first.digests()));
    }
    assert_eq!(cache_files(root.path()), files, "nothing is left behind");
}

#[test]
fn broken_files_are_named_when_the_cache_is_read_too() {
    let root = photos();
    fs::write(root.path().join("train/b/9.jpg"), "no picture").unwrap();
    let folder = folder::scan(root.path()).unwrap();
    let cache = root.path().join(".cache");
    for _ in 0..2 {
        let error = folder.packed(&BY, &cache, &|_| {}).unwrap_err().to_string();
        assert!(error.starts_with("1 of 9 images cannot be read") && error.contains("b/9.jpg"), "{error}");
        let skipped = folder.packed(&Decode { skip_broken: true, ..BY }, &cache, &|_| {}).unwrap();
        assert_eq!((skipped.broken.len(), skipped.dataset.train().len()), (1, 4));
    }
}

#[test]
fn parts_are_cut_of_the_whole_picture_by_a_stream_of_their_own() {
    let root = photos();
    let (dataset, _) = packed(root.path());
    let order = ClassOrder::from_labels(vec![0, 1], 2).unwrap();
    let (train, test) = dataset.split(&order, 0, Evaluate::Test).unwrap();
    let crop = ResizedCrop { scale: [0.1, 0.3], ratio: [0.75, 1.3] };
    let normalisation = Normalisation { mean: [0.0; 3], deviation: [1.0; 3] };
    let augmentation = Augmentation { resized_crop: Some(crop), ..Augmentation::none() };
    let preparation = Preparation { augmentation, normalisation };
    let samples = train.samples(0..1);
    let batch = |position| {
        let draw = Draw { position, ..Draw::new(1, "test") };
        let images = train.images(&samples, &preparation, Some(draw), &Device::Cpu).unwrap();
        assert_eq!(images.dims(), [2, 3, 14, 14]);
        images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(batch(1), batch(1));
    assert_ne!(batch(1), batch(2));
    // Some part reaches where the middle square does not: the left sixth of the first picture, 40 by 24.
    let least = |values: &[f32]| values[..14 * 14].iter().copied().fold(f32::MAX, f32::min);
    let reached = (0..60).map(|position| least(&batch(position))).fold(f32::MAX, f32::min);
    let plain = train.images(&samples, &preparation, None, &Device::Cpu).unwrap();
    let middle = least(&plain.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(middle > 0.2 && reached < 0.1, "{middle} {reached}");
    let evaluated: Vec<_> = test.batches(2, 9, &preparation, &Device::Cpu).collect();
    assert_eq!(evaluated[0].as_ref().unwrap().0.dims(), [4, 3, 14, 14]);
}
