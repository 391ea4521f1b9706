//! Generated images: a function of (seed, part, class, index), and not to be told apart pixel by pixel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;

use candle_core::{D, DType, Device, Result, Tensor};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::batches::shuffled_batches;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::{TestSet, TrainSet};
use cil_random::Draw;

fn config(classes: usize, train_per_class: usize, test_per_class: usize) -> ProceduralConfig {
    ProceduralConfig { classes, train_per_class, test_per_class }
}

fn generated(config: &ProceduralConfig, seed: u64) -> Dataset {
    Dataset::procedural(config, seed).unwrap()
}

/// Image `index` of a class.
fn image(data: &Dataset, class: usize, index: usize) -> Vec<u8> {
    let first = (0..data.train().len()).find(|at| data.train().label(*at) == class).unwrap();
    data.train().image(first + index).to_vec()
}

#[test]
fn an_image_depends_on_seed_class_and_index_only() {
    let (small, large) = (generated(&config(3, 4, 2), 1), generated(&config(24, 7, 3), 1));
    for (class, index) in (0..3).flat_map(|class| (0..4).map(move |index| (class, index))) {
        assert_eq!(image(&small, class, index), image(&large, class, index));
    }
    for threads in 1..=3 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| generated(&config(3, 4, 2), 1));
        assert_eq!(again.digests(), small.digests(), "{threads} threads");
    }
    let other = generated(&config(3, 4, 2), 2);
    assert_ne!(other.digests().train, small.digests().train);
    assert_ne!(other.digests().test, small.digests().test);
}

/// Else the scenes of one class would be those of another, and only the shapes would differ.
#[test]
fn classes_share_no_scenes() {
    let data = generated(&config(24, 5, 1), 1);
    for (class, index) in (1..24).flat_map(|class| (0..5).map(move |index| (class, index))) {
        let (one, other) = (image(&data, 0, index), image(&data, class, index));
        let differing = one.iter().zip(&other).filter(|(one, other)| one != other).count();
        assert!(differing > one.len() / 2, "image {index} of class {class}: {differing} bytes differ");
    }
}

#[test]
fn no_image_comes_twice_and_classes_have_names_of_their_own() {
    let data = generated(&config(24, 10, 10), 1);
    let order = ClassOrder::seeded(24, 1);
    let (_, test) = data.split(&order, 0, Evaluate::Test).unwrap();
    let mut seen: BTreeSet<Vec<u8>> = (0..240).map(|at| data.train().image(at).to_vec()).collect();
    let plain = Preparation {
        augmentation: Augmentation::none(),
        normalisation: Normalisation { mean: [0.0; 3], deviation: [1.0 / 255.0; 3] },
    };
    for batch in test.batches(24, 50, &plain, &Device::Cpu) {
        let rows = batch.unwrap().0.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        seen.extend(rows.into_iter().map(|row| row.into_iter().map(|value| value.round() as u8).collect()));
    }
    assert_eq!(seen.len(), 480);
    assert_eq!(data.class_names().iter().collect::<BTreeSet<_>>().len(), 24);
}

#[test]
fn settings_that_generate_no_images_are_refused() {
    let message = |config| Dataset::procedural(&config, 1).unwrap_err().to_string();
    for classes in [0, 25, usize::MAX] {
        let expected = format!("classes is {classes}; there are shapes and fillings for 1 to 24");
        assert_eq!(message(config(classes, 1, 1)), expected);
    }
    assert_eq!(message(config(1, 0, 1)), "train-per-class is 0; use a value from 1 to 10000");
    assert_eq!(
        message(config(1, 1, usize::MAX)),
        format!("test-per-class is {}; use a value from 1 to 10000", usize::MAX)
    );
}

/// Softmax regression on pixels: its weights, `[values, classes]`.
fn linear_model(train: &TrainSet, preparation: &Preparation) -> Result<Tensor> {
    let (classes, values) = (train.classes(), train.image_bytes());
    let mut weight = Tensor::zeros((values, classes), DType::F32, &Device::Cpu)?;
    for epoch in 0..15 {
        let draw = Draw { position: epoch, ..Draw::new(1, "test linear") };
        for batch in shuffled_batches(train.samples(0..classes), 100, draw) {
            let rows = batch.len();
            let images = train.images(&batch, preparation, None, &Device::Cpu)?.reshape((rows, values))?;
            let mut labels = vec![0f32; rows * classes];
            batch.iter().enumerate().for_each(|(row, it)| labels[row * classes + train.class_of(*it)] = 1.0);
            let labels = Tensor::from_vec(labels, (rows, classes), &Device::Cpu)?;
            let scores = images.matmul(&weight)?;
            let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            let error = (powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)? - labels)?;
            weight = (weight - (images.t()?.matmul(&error)? * (2e-3 / rows as f64))?)?;
        }
    }
    Ok(weight)
}

/// Number of images whose best score is their label's.
fn right(weight: &Tensor, images: &Tensor, labels: &[u32]) -> Result<usize> {
    let found = images.flatten_from(1)?.matmul(weight)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    Ok(found.iter().zip(labels).filter(|(found, label)| found == label).count())
}

/// Accuracy of a linear model on training and on test images.
fn linear_accuracies(train: &TrainSet, test: &TestSet, preparation: &Preparation) -> Result<[f64; 2]> {
    let classes = train.classes();
    let weight = linear_model(train, preparation)?;
    let samples = train.samples(0..classes);
    let labels: Vec<u32> = samples.iter().map(|sample| train.class_of(*sample) as u32).collect();
    let learned = right(&weight, &train.images(&samples, preparation, None, &Device::Cpu)?, &labels)?;
    let mut recognised = 0;
    for batch in test.batches(classes, 100, preparation, &Device::Cpu) {
        let (images, labels) = batch?;
        recognised += right(&weight, &images, &labels)?;
    }
    Ok([learned as f64 / samples.len() as f64, recognised as f64 / test.len(classes) as f64])
}

/// Chance is 0.05 and a small ResNet reaches more than 0.95, so what it learns is not in single pixels.
#[test]
fn pixels_one_by_one_tell_little() {
    for seed in 1..=3 {
        let data = generated(&config(20, 100, 25), seed);
        let (train, test) = data.split(&ClassOrder::seeded(20, 1), 0, Evaluate::Test).unwrap();
        let preparation =
            Preparation { augmentation: Augmentation::none(), normalisation: Normalisation::half() };
        let [learned, recognised] = linear_accuracies(&train, &test, &preparation).unwrap();
        assert!(learned > 0.15, "seed {seed}: the linear model did not learn its own images, {learned}");
        assert!(recognised < 0.4, "seed {seed}: {recognised}");
    }
}
