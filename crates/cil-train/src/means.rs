//! Class means in feature space.
//!
//! One decision: a mean is the direction of the mean normalised feature (iCaRL, Rebuffi et al. 2017), taken of images
//! that the method may look at: exemplars, or generated images for old classes and this task's images for new ones.

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
/// Generated images for each old class, on average.
const SYNTHETIC_PER_CLASS: usize = 100;

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

/// What means are taken with.
pub(crate) struct Around<'a> {
    pub(crate) model: &'a Frozen,
    pub(crate) train: &'a TrainSet,
    pub(crate) preparation: &'a Preparation,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) task: usize,
    pub(crate) new_classes: Range<usize>,
}

impl Around<'_> {
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

    /// Of generated images for old classes, of this task's images for new ones.
    pub(crate) fn of_synthetic(&self, replay: &Replay) -> Result<ClassMeans> {
        let n_old = self.new_classes.start;
        let mut of_class = vec![Vec::new(); n_old];
        let mut draw = Draw { task: self.task, ..Draw::new(self.seed, "class means") };
        while (draw.position as usize) < (n_old * SYNTHETIC_PER_CLASS).div_ceil(INFERENCE_BATCH) {
            let images = replay.sample(INFERENCE_BATCH, draw)?;
            let features = self.model.forward(&images.images)?.features;
            for (row, label) in images.labels.to_vec()?.iter().enumerate() {
                of_class[*label as usize].push(features.narrow(0, row, 1)?);
            }
            draw.position += 1;
        }
        let mut means = Vec::new();
        for (class, features) in of_class.iter().enumerate() {
            if features.is_empty() {
                let reason = format!("the generator makes no image of class {class}");
                return Ok(ClassMeans::none(&reason));
            }
            means.push(direction(&Tensor::cat(features, 0)?)?);
        }
        for class in self.new_classes.clone() {
            means.push(self.of_samples(&self.train.samples(class..class + 1))?);
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
