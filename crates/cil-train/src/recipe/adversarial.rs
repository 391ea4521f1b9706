//! Replay of adversarial images, as data.
//!
//! New images that the old model takes for old classes stand in every step where generated ones would; nothing but the
//! class means that a discriminant keeps is needed for them.

use anyhow::{Result, bail};
use cil_engine::bounds::{positive, within};
use serde::{Deserialize, Serialize};

use super::{AdversarialImages, Recipe};

/// Most images in a step, as for generated ones.
const LARGEST_BATCH: usize = 1 << 16;
/// Largest share of the deviation within classes.
const MOST_NOISE: f64 = 1e3;

/// Replay of adversarial images of old classes (APR, Honda 2026): new images, augmented and moved against the
/// gradient of the squared distance between their features and a point near an old class's mean. They are made once,
/// when the student's training begins; APR makes them anew in every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdversarialReplaySpec {
    /// New images for each old class, those nearest to its mean; 200 in APR's code.
    pub images: usize,
    /// Root mean square over a batch of images of the length of a step, in normalised pixels; 8 in APR's code (64 for
    /// 64 images together).
    pub step: f64,
    /// How many steps; 4 in APR's code.
    pub iterations: usize,
    /// The point is the class's mean and noise of this share of the deviation of a feature within classes; 1 in APR's
    /// code.
    pub noise: f64,
    /// Adversarial images in every step.
    pub batch: usize,
}

impl AdversarialReplaySpec {
    /// The images themselves, as a carry makes them.
    pub(crate) fn images(&self) -> AdversarialImages {
        let Self { images, step, iterations, .. } = *self;
        AdversarialImages { images, step, iterations, map: false }
    }
}

impl Recipe {
    /// Refuses adversarial images where there is nothing to make them with, or others in their place.
    pub(super) fn check_adversarial(&self) -> Result<()> {
        let Some(spec) = &self.adversarial else { return Ok(()) };
        spec.images().check("adversarial")?;
        positive("adversarial.step", spec.step, 1e6)?;
        within("adversarial.noise", spec.noise, 0.0, MOST_NOISE)?;
        if !(1..=LARGEST_BATCH).contains(&spec.batch) {
            bail!("adversarial.batch is {}; use a value from 1 to {LARGEST_BATCH}", spec.batch);
        }
        for (key, is_set) in [
            ("replay", self.replay.is_some()),
            ("new-replay", self.new_replay.is_some()),
            ("joint", self.joint),
        ] {
            if is_set {
                bail!(
                    "adversarial and {key} are both set; both say which old images a step has, so leave one out"
                );
            }
        }
        match &self.discriminant {
            Some(it) if it.random_features.is_none() && !it.is_of_a_frozen_backbone() => Ok(()),
            Some(_) => bail!(
                "adversarial is set, and the discriminant keeps no means of pooled features or of stages; leave \
                 random-features, fecam and fetril out of it"
            ),
            None => bail!("adversarial is set, and no class means are kept; add the table discriminant"),
        }
    }
}
