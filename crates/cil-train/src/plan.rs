//! The plan of a learner.

use candle_core::Device;
use cil_backbone::Backbone;
use cil_data::augment::Preparation;
use cil_data::split::Increments;
use cil_engine::ExecutorFactory;

use crate::recipe::Recipe;
use crate::schedule::{self, ImageCounts, Scheduled};

/// The plan of a learner.
#[derive(Clone)]
pub struct Plan {
    /// The method.
    pub recipe: Recipe,
    /// The network.
    pub backbone: Backbone,
    /// Classes of each task.
    pub increments: Increments,
    /// How images are changed and normalised.
    pub preparation: Preparation,
    /// Seed of weights, batches, augmentation and noise.
    pub seed: u64,
    /// Makes what runs the networks.
    pub executors: ExecutorFactory,
    /// Where.
    pub device: Device,
}

impl Plan {
    /// The schedule of a run of this plan; see [`schedule::schedule`].
    pub fn schedule(&self, images: ImageCounts<'_>, base_is_taken: bool) -> Vec<Scheduled> {
        schedule::schedule(&self.recipe, &self.increments, images, base_is_taken)
    }
}
