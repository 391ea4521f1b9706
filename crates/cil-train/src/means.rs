//! Class means in feature space.
//!
//! A mean is the direction of the mean normalised feature (iCaRL, Rebuffi et al. 2017), taken of images that the method
//! may look at: exemplars, or generated images for old classes and this task's images for new ones, which are generated
//! ones too where the new images are not shared.

use std::ops::Range;

use anyhow::Result;
use candle_core::{Device, Tensor};
use cil_backbone::{Frozen, head::normalized};
use cil_data::augment::Preparation;
use cil_data::exemplars::Exemplars;
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;
use dfgr::Replay;

/// Images that go through a network at once when nothing is learned.
pub(crate) const INFERENCE_BATCH: usize = 250;
/// Generated images for each class of a generator's teacher, on average.
pub(crate) const SYNTHETIC_PER_CLASS: usize = 100;

/// Means of the classes seen, and where they came from.
#[derive(Clone, Debug)]
pub struct ClassMeans {
    /// `[classes, width]`, of length 1; `None` without images to take them of.
    pub means: Option<Tensor>,
    /// `exemplars`, `synthetic`, or why there are none.
    pub source: String,
}

impl ClassMeans {
    /// No means, for that reason.
    pub fn none(reason: &str) -> Self {
        Self { means: None, source: reason.to_owned() }
    }
}

/// `[samples, width]`: features of training images as they are, without augmentation.
pub(crate) fn features(
    model: &Frozen,
    train: &TrainSet,
    samples: &[SampleId],
    preparation: &Preparation,
    device: &Device,
) -> Result<Tensor> {
    let mut features = Vec::new();
    for batch in samples.chunks(INFERENCE_BATCH) {
        features.push(model.forward(&train.images(batch, preparation, None, device)?)?.features);
    }
    Ok(Tensor::cat(&features, 0)?)
}

/// Features of generated images by the class that the generator's teacher sees in them, `[images, width]` each; `None`
/// where it sees a class in none.
pub(crate) fn of_generated(
    model: &Frozen,
    replay: &Replay,
    mut draw: Draw<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let classes = replay.teacher().classes();
    let mut of_class = vec![Vec::new(); classes];
    while (draw.position as usize) < (classes * SYNTHETIC_PER_CLASS).div_ceil(INFERENCE_BATCH) {
        let images = replay.sample(INFERENCE_BATCH, draw)?;
        let features = model.forward(&images.images)?.features;
        for (row, label) in images.labels.to_vec()?.iter().enumerate() {
            of_class[*label as usize].push(features.narrow(0, row, 1)?);
        }
        draw.position += 1;
    }
    let joined = |rows: Vec<Tensor>| (!rows.is_empty()).then(|| Tensor::cat(&rows, 0)).transpose();
    Ok(of_class.into_iter().map(joined).collect::<candle_core::Result<_>>()?)
}

/// The inputs of class means.
pub(crate) struct MeanContext<'a> {
    pub(crate) model: &'a Frozen,
    pub(crate) train: &'a TrainSet,
    pub(crate) preparation: &'a Preparation,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) task: usize,
    pub(crate) new_classes: Range<usize>,
}

impl MeanContext<'_> {
    /// Of the exemplars of every class.
    pub(crate) fn of_exemplars(&self, exemplars: &Exemplars) -> Result<ClassMeans> {
        let mut means = Vec::new();
        for class in 0..self.new_classes.end {
            let samples = exemplars.of(class);
            if samples.is_empty() {
                return Ok(ClassMeans::none("the budget leaves a class without an exemplar"));
            }
            means.push(self.of_samples(samples)?);
        }
        Ok(ClassMeans { means: Some(Tensor::cat(&means, 0)?), source: "exemplars".to_owned() })
    }

    /// Of generated images for old classes, of this task's images for new ones, or generated ones in their place.
    pub(crate) fn of_synthetic(&self, replay: &Replay, new_replay: Option<&Replay>) -> Result<ClassMeans> {
        let draw = |purpose| Draw { task: self.task, ..Draw::new(self.seed, purpose) };
        let mut features = of_generated(self.model, replay, draw("class means"))?;
        if let Some(replay) = new_replay {
            features.extend(of_generated(self.model, replay, draw("new class means"))?);
        }
        let mut means = Vec::new();
        for (class, features) in features.into_iter().enumerate() {
            let Some(features) = features else {
                let reason = format!("the generator makes no image of class {class}");
                return Ok(ClassMeans::none(&reason));
            };
            means.push(direction(&features)?);
        }
        if new_replay.is_none() {
            for class in self.new_classes.clone() {
                means.push(self.of_samples(&self.train.samples(class..class + 1))?);
            }
        }
        Ok(ClassMeans { means: Some(Tensor::cat(&means, 0)?), source: "synthetic".to_owned() })
    }

    fn of_samples(&self, samples: &[SampleId]) -> Result<Tensor> {
        Ok(direction(&features(self.model, self.train, samples, self.preparation, self.device)?)?)
    }
}

/// `[1, width]`: the direction of the mean normalised row.
fn direction(features: &Tensor) -> candle_core::Result<Tensor> {
    normalized(&normalized(features)?.mean_keepdim(0)?)
}
