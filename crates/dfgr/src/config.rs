//! How a teacher is inverted, as data.
//!
//! Every choice that the paper leaves open is a key here, documented with its default and its source. This module
//! trains nothing.

use candle_core::{Error, Result, Tensor, bail};
use cil_engine::bounds::{LARGEST_RATE, LARGEST_WEIGHT, positive, within};
use cil_engine::optim::Schedule;
use serde::{Deserialize, Serialize};

use crate::generator::GeneratorConfig;
use crate::loss::{
    ChannelReduction, LayerMoments, Stored, bn_kl_generated_to_stored, bn_kl_stored_to_generated,
};

/// Most images in a step: what one of them takes in a network is some hundred kilobytes.
const LARGEST_BATCH: usize = 1 << 16;
/// Most steps; published inversions take some ten thousand.
const MOST_ITERATIONS: usize = 100_000_000;
/// Widest border of an image before it is cropped; 4 in published inversions.
const MOST_PADDING: usize = 64;
/// Bounds of the temperature: 1000 in ABD and R-DFCIL.
const TEMPERATURES: (f64, f64) = (0.01, 10_000.0);

/// Which of the two Gaussians is measured against which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// `KL(generated ‖ stored)`: DFQ (Choi et al. 2020).
    GeneratedToStored,
    /// `KL(stored ‖ generated)`: ABD and R-DFCIL. A channel that is too narrow costs much.
    StoredToGenerated,
}

/// The batch-norm loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Statistics {
    /// Weight; 1 for sums (DFQ as re-implemented), 50 for means (ABD, R-DFCIL), 0.1 for sums in our sketch.
    pub weight: f64,
    /// Which Gaussian is measured against which.
    pub direction: Direction,
    /// How channels become one number.
    pub reduction: ChannelReduction,
}

impl Statistics {
    /// The unweighted loss of a batch's moments.
    ///
    /// # Errors
    /// If there is no layer.
    pub fn divergence(&self, layers: &[LayerMoments<'_>]) -> Result<Tensor> {
        match self.direction {
            Direction::GeneratedToStored => bn_kl_generated_to_stored(layers, self.reduction),
            Direction::StoredToGenerated => bn_kl_stored_to_generated(layers, self.reduction),
        }
    }

    /// [`Self::divergence`] of a batch whose moments are in one tensor each, the channels of all layers in order.
    pub(crate) fn divergence_from(
        &self,
        stored: &Stored,
        mean: &Tensor,
        variance: &Tensor,
    ) -> Result<Tensor> {
        match self.direction {
            Direction::GeneratedToStored => stored.from_generated(mean, variance),
            Direction::StoredToGenerated => stored.to_generated(mean, variance),
        }
    }
}

/// Weights of the parts of the inversion loss; a part of weight 0 is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Weights {
    /// Agreement of each batch norm's input with its stored statistics.
    pub statistics: Statistics,
    /// Cross-entropy of the teacher's logits with the label: the label asked for of a conditional generator, the
    /// teacher's own likeliest class otherwise (ABD, R-DFCIL).
    pub label: f64,
    /// The temperature of the logits in the label loss; 1000 in ABD and R-DFCIL, which almost removes the loss.
    pub label_temperature: f64,
    /// Entropy of each prediction.
    pub instance_entropy: f64,
    /// Minus the entropy of a batch's mean prediction.
    pub batch_entropy: f64,
    /// Mode-seeking regularisation: different noise, different images.
    pub diversity: f64,
    /// Total variation of the images.
    pub smoothness: f64,
    /// Minus the entropy of a batch's mean prediction as a share of the largest that there is; 1 in ABD and R-DFCIL.
    pub balance: f64,
    /// Squared difference between the images and a blur of them; 0.001 in ABD and R-DFCIL.
    pub blur: f64,
    /// Squared distance between the images' features and those that kept statistics of the classes expect: of a
    /// conditional generator what label and noise ask for, otherwise what is outside of the class that the teacher
    /// sees. 0 where it is not written. Ours.
    #[serde(default, skip_serializing_if = "is_off")]
    pub features: f64,
}

/// How a teacher is inverted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InversionConfig {
    /// The generator's form.
    pub generator: GeneratorConfig,
    /// Steps of Adam; 5 000 in R-DFCIL, 10 000 in ABD.
    pub iterations: usize,
    /// Images in each step; 128 in ABD and R-DFCIL, 256 in DFQ.
    pub batch: usize,
    /// Starting rate of Adam; 0.001 in DFQ, ABD and R-DFCIL.
    pub learning_rate: f64,
    /// How much of Adam's mean gradient stays from step to step; 0.5 where it is not written (DFQ), 0.9 in ABD and
    /// R-DFCIL. Of its mean square 0.999 stays.
    #[serde(default = "half", skip_serializing_if = "is_half")]
    pub beta1: f64,
    /// How it moves, by iteration; a cosine in DFQ, constant in ABD and R-DFCIL.
    pub schedule: Schedule,
    /// Pixels on every side of a generated image before a crop of its own size is shown to the teacher; 4 in
    /// Fast-Datafree and NAYER. The generated images that are replayed are not changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub crop_padding: usize,
    /// Whether half of the images that the teacher is shown are mirrored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flip: bool,
    /// Weights of the loss's parts.
    pub weights: Weights,
}

fn half() -> f64 {
    0.5
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_half(value: &f64) -> bool {
    *value == half()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_off(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl InversionConfig {
    /// Whether the teacher is shown changed images.
    pub(crate) fn is_changed(&self) -> bool {
        self.crop_padding > 0 || self.flip
    }

    /// The unconditional form with DFQ's entropies, the one that did not collapse in our sketch: noise of width 256,
    /// instance entropy 1, batch entropy 2, 0.1 times the summed statistics loss.
    pub fn unconditional(iterations: usize) -> Self {
        let statistics = Statistics {
            weight: 0.1,
            direction: Direction::GeneratedToStored,
            reduction: ChannelReduction::Sum,
        };
        Self {
            generator: GeneratorConfig::dafl(),
            iterations,
            batch: 128,
            learning_rate: 1e-3,
            beta1: half(),
            schedule: Schedule::cosine(),
            crop_padding: 0,
            flip: false,
            weights: Weights {
                statistics,
                label: 0.0,
                label_temperature: 1.0,
                instance_entropy: 1.0,
                batch_entropy: 2.0,
                diversity: 0.0,
                smoothness: 0.0,
                balance: 0.0,
                blur: 0.0,
                features: 0.0,
            },
        }
    }

    /// ABD's and R-DFCIL's inversion: an unconditional generator on noise of width 1000, 50 times the mean statistics
    /// loss from stored to generated, the likeliest class at temperature 1000, balance 1, blur 0.001, a constant rate,
    /// beta1 0.9. 10 000 iterations in ABD, 5 000 in R-DFCIL.
    pub fn always_be_dreaming(iterations: usize) -> Self {
        let mut config = Self::unconditional(iterations);
        config.generator.latent = 1000;
        config.schedule = Schedule::constant();
        config.beta1 = 0.9;
        let statistics = Statistics {
            weight: 50.0,
            direction: Direction::StoredToGenerated,
            reduction: ChannelReduction::Mean,
        };
        config.weights = Weights {
            statistics,
            label: 1.0,
            label_temperature: 1000.0,
            instance_entropy: 0.0,
            batch_entropy: 0.0,
            balance: 1.0,
            blur: 1e-3,
            ..config.weights
        };
        config
    }

    /// The conditional form of the paper's patent: label cross-entropy and statistics, with a mode-seeking term,
    /// without which it collapsed to one picture a class in our sketch.
    pub fn conditional(iterations: usize) -> Self {
        let mut config = Self::unconditional(iterations);
        config.generator.conditional = true;
        config.weights = Weights {
            label: 1.0,
            instance_entropy: 0.0,
            batch_entropy: 0.0,
            diversity: 0.1,
            ..config.weights
        };
        config
    }

    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// Naming the key, its value and what would be right.
    pub fn check(&self) -> Result<()> {
        self.generator.check().map_err(|error| Error::Msg(format!("inversion.{error}")))?;
        if self.iterations == 0 {
            bail!("inversion.iterations is 0; a generator needs some hundreds at least");
        }
        if self.iterations > MOST_ITERATIONS {
            bail!("inversion.iterations is {}; use a value from 1 to {MOST_ITERATIONS}", self.iterations);
        }
        if self.batch < 2 {
            bail!("inversion.batch is {}; statistics of a batch need at least 2 images", self.batch);
        }
        if self.batch > LARGEST_BATCH {
            bail!("inversion.batch is {}; use a value from 2 to {LARGEST_BATCH}", self.batch);
        }
        if self.crop_padding > MOST_PADDING {
            bail!("inversion.crop-padding is {}; use a value from 0 to {MOST_PADDING}", self.crop_padding);
        }
        positive("inversion.learning-rate", self.learning_rate, LARGEST_RATE)?;
        let wrong = |error: Error| Error::Msg(format!("inversion.schedule.{error}"));
        self.schedule.check(self.iterations, "iterations").map_err(wrong)?;
        if !(0.0..1.0).contains(&self.beta1) {
            bail!("inversion.beta1 is {}; use a value from 0 to below 1", self.beta1);
        }
        let weights = &self.weights;
        let parts = [
            ("statistics.weight", weights.statistics.weight),
            ("label", weights.label),
            ("instance-entropy", weights.instance_entropy),
            ("batch-entropy", weights.batch_entropy),
            ("diversity", weights.diversity),
            ("smoothness", weights.smoothness),
            ("balance", weights.balance),
            ("blur", weights.blur),
            ("features", weights.features),
        ];
        for (name, value) in parts {
            within(&format!("inversion.weights.{name}"), value, 0.0, LARGEST_WEIGHT)?;
        }
        if parts.iter().all(|(_, value)| *value == 0.0) {
            bail!("inversion.weights are all 0; a generator needs something to minimise");
        }
        let (least, most) = TEMPERATURES;
        within("inversion.weights.label-temperature", weights.label_temperature, least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let refused = |change: &dyn Fn(&mut InversionConfig), part: &str| {
            let mut config = InversionConfig::unconditional(10);
            config.check().unwrap();
            change(&mut config);
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused(&|it| it.iterations = 0, "iterations is 0");
        refused(&|it| it.batch = 1, "batch is 1");
        refused(&|it| it.batch = usize::MAX, "use a value from 2 to 65536");
        refused(&|it| it.iterations = usize::MAX, "use a value from 1 to 100000000");
        refused(&|it| it.learning_rate = -1.0, "learning-rate is -1");
        refused(&|it| it.beta1 = 1.0, "inversion.beta1 is 1; use a value from 0 to below 1");
        refused(&|it| it.beta1 = f64::NAN, "inversion.beta1 is NaN");
        refused(&|it| it.weights.diversity = f64::NAN, "weights.diversity is NaN");
        refused(&|it| it.weights.statistics.weight = -0.5, "statistics.weight is -0.5");
        refused(&|it| it.weights.label_temperature = 0.0, "label-temperature is 0");
        refused(
            &|it| it.weights.label_temperature = 1e30,
            "label-temperature is 1e30; use a value from 0.01",
        );
        refused(
            &|it| it.weights.label = 1e30,
            "inversion.weights.label is 1e30; use a value from 0 to 1000000",
        );
        refused(&|it| it.learning_rate = 1e30, "learning-rate is 1e30; use a value above 0 and at most");
        refused(
            &|it| it.schedule = Schedule { warm_up: 10, ..Schedule::cosine() },
            "inversion.schedule.warm-up is 10 of 10 iterations",
        );
        refused(
            &|it| it.schedule = Schedule::multi_step(&[4], f64::NAN),
            "inversion.schedule.decay.gamma is NaN",
        );
        refused(&|it| it.generator.latent = 0, "inversion.generator.latent is 0");
        refused(&|it| it.generator.channels = 1 << 40, "channels is 1099511627776; use at most 4096");
        let silent = |it: &mut InversionConfig| {
            it.weights.statistics.weight = 0.0;
            (it.weights.instance_entropy, it.weights.batch_entropy) = (0.0, 0.0);
        };
        refused(&silent, "all 0");
        InversionConfig::conditional(10).check().unwrap();
        InversionConfig::always_be_dreaming(10).check().unwrap();
        refused(&|it| it.weights.blur = -1.0, "weights.blur is -1");
        refused(&|it| it.weights.features = f64::INFINITY, "weights.features is inf");
    }
}
