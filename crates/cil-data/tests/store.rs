//! Training and evaluation sets: who gets which image, in which state, and what is counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::batches::shuffled_batches;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::{Images, TestSet, TrainSet};
use cil_random::Draw;

const DRAW: Draw<'static> = Draw { seed: 3, purpose: "test images", task: 1, position: 2 };

fn dataset() -> Dataset {
    Dataset::procedural(&ProceduralConfig { classes: 5, train_per_class: 12, test_per_class: 4 }, 1).unwrap()
}

fn order(labels: &[usize]) -> ClassOrder {
    ClassOrder::from_labels(labels.to_vec(), 5).unwrap()
}

fn preparation() -> Preparation {
    Preparation {
        augmentation: Augmentation {
            crop_padding: 4,
            flip: true,
            brightness: 63.0 / 255.0,
            ..Augmentation::none()
        },
        normalisation: Normalisation::published("cifar100", "podnet").unwrap(),
    }
}

/// Every row's values, bit for bit.
fn rows(images: &Tensor) -> Vec<Vec<u32>> {
    let rows = images.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
}

fn trained(set: &TrainSet, class: usize) -> BTreeSet<Vec<u32>> {
    let samples = set.samples(class..class + 1);
    rows(&set.images(&samples, &preparation(), None, &Device::Cpu).unwrap()).into_iter().collect()
}

/// The images of one class among all that are evaluated.
fn evaluated(set: &TestSet, classes: usize, class: u32) -> BTreeSet<Vec<u32>> {
    let mut found = BTreeSet::new();
    for batch in set.batches(classes, 3, &preparation(), &Device::Cpu) {
        let (images, labels) = batch.unwrap();
        found.extend(
            rows(&images).into_iter().zip(labels).filter(|(_, label)| *label == class).map(|(row, _)| row),
        );
    }
    found
}

#[test]
fn an_image_depends_neither_on_threads_nor_on_its_batch() {
    let (train, _) = dataset().split(&order(&[4, 1, 3]), 2, Evaluate::Test).unwrap();
    let samples = train.samples(0..3);
    let prepared =
        |samples: &[_]| rows(&train.images(samples, &preparation(), Some(DRAW), &Device::Cpu).unwrap());
    let expected = prepared(&samples);
    for threads in 1..=3 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| prepared(&samples)), expected, "{threads} threads");
    }
    for (sample, row) in samples.iter().zip(&expected) {
        assert_eq!(prepared(&[*sample])[0], *row);
    }
}

#[test]
fn every_part_of_the_draw_changes_an_image() {
    let (train, _) = dataset().split(&order(&[0, 1]), 0, Evaluate::Test).unwrap();
    let samples = train.samples(0..2);
    let prepared = |draw| rows(&train.images(&samples, &preparation(), draw, &Device::Cpu).unwrap());
    let expected = prepared(Some(DRAW));
    let others = [
        Draw { seed: 4, ..DRAW },
        Draw { purpose: "other images", ..DRAW },
        Draw { task: 2, ..DRAW },
        Draw { position: 3, ..DRAW },
    ];
    for other in others {
        assert_ne!(prepared(Some(other)), expected, "{other:?}");
    }
    assert_ne!(prepared(None), expected);
}

/// So that a run with other classes before a class sees that class's images the same.
#[test]
fn an_image_is_drawn_by_its_place_in_the_data_set_not_in_the_order() {
    let data = dataset();
    let of_label_3 = |labels: &[usize], class: usize| {
        let (train, _) = data.split(&order(labels), 2, Evaluate::Test).unwrap();
        let samples = train.samples(class..class + 1);
        rows(&train.images(&samples, &preparation(), Some(DRAW), &Device::Cpu).unwrap())
    };
    assert_eq!(of_label_3(&[3, 0], 0), of_label_3(&[1, 4, 3], 2));
}

#[test]
fn without_a_draw_images_are_normalised_and_nothing_else() {
    let data = dataset();
    let (train, _) = data.split(&order(&[2]), 0, Evaluate::Test).unwrap();
    let images = train.images(&train.samples(0..1), &preparation(), None, &Device::Cpu).unwrap();
    assert_eq!(images.dims(), [12, 3, 32, 32]);
    let found = images.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let Normalisation { mean, deviation } = preparation().normalisation;
    let stored = (0..data.train().len()).filter(|at| data.train().label(*at) == 2);
    for (at, row) in stored.zip(found) {
        for (place, (byte, value)) in data.train().image(at).iter().zip(row).enumerate() {
            let channel = place / (32 * 32);
            assert_eq!((f32::from(*byte) / 255.0 - mean[channel]) / deviation[channel], value);
        }
    }
}

#[test]
fn samples_know_their_class_and_reads_are_counted() {
    let (train, _) = dataset().split(&order(&[4, 0, 2]), 2, Evaluate::Test).unwrap();
    assert_eq!((train.classes(), train.image_dims(), train.image_bytes()), (3, [3, 32, 32], 3072));
    for class in 0..3 {
        let samples = train.samples(class..class + 1);
        assert_eq!(samples.len(), 10);
        assert!(samples.iter().all(|sample| train.class_of(*sample) == class));
    }
    assert_eq!(train.samples(0..3), [train.samples(0..1), train.samples(1..3)].concat());
    let read = |count: usize, range| {
        let samples = &train.samples(range)[..count];
        train.images(samples, &preparation(), Some(DRAW), &Device::Cpu).unwrap();
    };
    read(7, 1..2);
    read(10, 1..3);
    read(1, 2..3);
    assert_eq!([0, 1, 2].map(|class| train.reads(class)), [0, 17, 1]);
    assert!(train.images(&[], &preparation(), None, &Device::Cpu).is_err());
}

#[test]
fn what_is_held_out_is_disjoint_and_the_same_in_every_run() {
    let data = dataset();
    let (whole, test) = data.split(&order(&[0, 1, 2, 3, 4]), 0, Evaluate::Test).unwrap();
    for labels in [[0, 1, 2, 3, 4], [3, 4, 0, 2, 1]] {
        let (train, validation) = data.split(&order(&labels), 5, Evaluate::Validation).unwrap();
        let (same, _) = data.split(&order(&labels), 5, Evaluate::Test).unwrap();
        let (_, fewer) = data.split(&order(&labels), 2, Evaluate::Validation).unwrap();
        assert_eq!(validation.len(5), 25);
        for (class, label) in labels.into_iter().enumerate() {
            let (kept, held) = (trained(&train, class), evaluated(&validation, 5, class as u32));
            assert_eq!((kept.len(), held.len()), (7, 5));
            assert!(kept.is_disjoint(&held));
            assert_eq!(&kept | &held, trained(&whole, label));
            assert!(held.is_disjoint(&evaluated(&test, 5, label as u32)));
            assert_eq!(trained(&same, class), kept, "training images do not depend on what is evaluated");
            assert!(evaluated(&fewer, 5, class as u32).is_subset(&held));
            // The same whichever classes come before.
            let (_, alone) = data.split(&order(&[label]), 5, Evaluate::Validation).unwrap();
            assert_eq!(evaluated(&alone, 1, 0), held);
        }
    }
}

#[test]
fn a_test_set_gives_the_first_classes_in_batches() {
    let (_, test) = dataset().split(&order(&[4, 0, 2]), 0, Evaluate::Test).unwrap();
    let labels = |classes, batch| -> Vec<Vec<u32>> {
        test.batches(classes, batch, &preparation(), &Device::Cpu).map(|batch| batch.unwrap().1).collect()
    };
    assert_eq!([0, 1, 3].map(|classes| test.len(classes)), [0, 4, 12]);
    assert_eq!(labels(2, 5), [vec![0, 0, 0, 0, 1], vec![1, 1, 1]]);
    assert_eq!(labels(3, 100), [[[0; 4], [1; 4], [2; 4]].concat()]);
    assert!(labels(0, 5).is_empty());
}

#[test]
fn images_that_cannot_be_split_are_refused() {
    let data = dataset();
    let error_text = |order: &ClassOrder, held_out, evaluate| {
        data.split(order, held_out, evaluate).unwrap_err().to_string()
    };
    let message = error_text(&order(&[0, 1]), 12, Evaluate::Test);
    assert_eq!(message, "validation-per-class is 12; class 0 of procedural has 12 training images");
    let message = error_text(&order(&[0, 1]), 0, Evaluate::Validation);
    assert_eq!(
        message,
        "validation-per-class is 0; evaluating on held-out images needs at least 1 of each class"
    );
    let foreign = ClassOrder::from_labels(vec![1, 7], 10).unwrap();
    let message = error_text(&foreign, 0, Evaluate::Test);
    assert_eq!(message, "the class order has label 7; procedural has 5 classes");
}

#[test]
fn shuffled_batches_hold_every_sample_once() {
    let (train, _) = dataset().split(&order(&[4, 0, 2]), 1, Evaluate::Test).unwrap();
    let batches = shuffled_batches(train.samples(0..3), 8, DRAW);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8, 8, 1]);
    let all: BTreeSet<_> = batches.concat().into_iter().collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), train.samples(0..3));
}

#[test]
fn images_in_memory_are_a_data_set_if_they_are_whole() {
    let images = |pixels: usize, labels: &[u16]| Images::new(2, 2, vec![7; pixels], labels.to_vec());
    let error_text = images(23, &[0, 1]).unwrap_err().to_string();
    assert!(error_text.contains("23 bytes for 2 images of 3x2x2; pass 24"), "{error_text}");
    let of = |labels: &[u16]| {
        let images = images(24, labels).unwrap();
        Dataset::of_images("two", vec!["a".to_owned(), "b".to_owned()], images.clone(), images)
    };
    assert_eq!(of(&[0, 2]).unwrap_err().to_string(), "two: image 1 has label 2, there are 2 classes");
    let order = ClassOrder::from_labels(vec![1, 0], 2).unwrap();
    let (train, test) = of(&[0, 1]).unwrap().split(&order, 0, Evaluate::Test).unwrap();
    assert_eq!((train.image_dims(), train.samples(0..2).len(), test.len(2)), ([3, 2, 2], 2, 2));
}
