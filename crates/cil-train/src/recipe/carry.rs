//! How statistics of old classes follow a backbone that later tasks train, as data.
//!
//! No image of an old class is left, so the change of the backbone is seen in other images: the task's new ones, or new
//! ones that were changed until the old model places them at an old class.

use anyhow::{Result, bail};
use cil_engine::bounds::positive;
use serde::{Deserialize, Serialize};

/// How means, and the covariance, of old classes are carried into the features of the task's model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Carry {
    /// Through the affine map that fits the images at hand best; ours.
    #[default]
    Map,
    /// Not at all: as they were taken.
    None,
    /// Means move by the mean change of the images at hand, near ones counting most (SDC, Yu et al. 2020); the
    /// covariance stays.
    Nearby {
        /// Deviation of the weight of an image by its distance from the mean; 0.3 in SDC, of features of length 1.
        sigma: f64,
    },
    /// Through the linear map that fits best, without an offset (LDC, Gomez-Villa et al. 2024).
    Linear,
    /// By adversarial images of each old class.
    Adversarial(AdversarialImages),
}

/// By adversarial images of each old class (ADC, Goswami et al. 2024): new images, moved against the gradient of the
/// squared distance between their features and the class's mean until the old model places them there. Each mean moves
/// by their mean change, and the covariance goes through the affine map that fits the images at hand best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdversarialImages {
    /// New images for each old class, those nearest to its mean; 100 in ADC's code.
    pub images: usize,
    /// Root mean square over these images of the length of a step, in normalised pixels; 2.5 in ADC's code (25 for 100
    /// images together).
    pub step: f64,
    /// How many steps; 3 in ADC's code.
    pub iterations: usize,
    /// Whether means and covariance go through the affine map that fits these images of all old classes and the images
    /// at hand best (ours), in place of a shift of each mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub map: bool,
}

/// Most images of an old class, and most steps.
const MOST: usize = 100_000;

impl Carry {
    /// Whether it is the one that a configuration without the key means.
    pub(super) fn is_map(&self) -> bool {
        *self == Self::Map
    }

    /// Its adversarial images.
    pub(crate) fn adversarial(&self) -> Option<AdversarialImages> {
        match self {
            Self::Adversarial(images) => Some(*images),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Nearby { sigma } => Ok(positive("discriminant.carry.sigma", *sigma, 1e6)?),
            _ => self.adversarial().map_or(Ok(()), |images| images.check("discriminant.carry")),
        }
    }
}

impl AdversarialImages {
    /// As in ADC's code (dipamgoswami/ADC at eb18f78, `exps/lwf.json`).
    pub const fn published() -> Self {
        Self { images: 100, step: 2.5, iterations: 3, map: false }
    }

    pub(super) fn check(&self, key: &str) -> Result<()> {
        for (name, count) in [("images", self.images), ("iterations", self.iterations)] {
            if !(1..=MOST).contains(&count) {
                bail!("{key}.{name} is {count}; use a value from 1 to {MOST}");
            }
        }
        Ok(positive(&format!("{key}.step"), self.step, 1e6)?)
    }
}
