//! FeCAM's settings, as data.
//!
//! The key `shrinkage` of the table around it is FeCAM's first share, of the diagonal; all else that its code has as a
//! switch is a key here, so that a published row is a configuration.

use anyhow::{Result, bail};
use cil_engine::bounds::{positive, within};
use serde::{Deserialize, Serialize};

/// Which covariances are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covariance {
    /// One of each class.
    PerClass,
    /// One of all images, each task's around the task's own mean, tasks counting by their classes (FeCAM's code).
    Shared,
    /// One, the mean of the classes' own; ours.
    WithinClass,
}

/// FeCAM (Goswami et al. 2023): Mahalanobis distances between directions of features after Tukey's transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FecamSpec {
    /// `per-class`, `shared` (each task's images around the task's mean) or `within-class` (images around their class's
    /// mean).
    pub covariance: Covariance,
    /// Exponent of Tukey's transform of features, which are then not below 0; 1 leaves them as they are, 0.5 is
    /// FeCAM's.
    pub tukey: f64,
    /// Share of the mean covariance of two features that is added to the covariance of each two; 1 in FeCAM's code.
    pub off_diagonal: f64,
    /// How often both shares are added, each time of what is there; 2 in FeCAM's code for covariances of classes.
    pub rounds: usize,
    /// Whether covariances are divided into correlations, which makes those of different classes comparable.
    pub correlations: bool,
}

impl FecamSpec {
    /// The released code's with a covariance of each class.
    pub const fn per_class() -> Self {
        Self {
            covariance: Covariance::PerClass,
            tukey: 0.5,
            off_diagonal: 1.0,
            rounds: 2,
            correlations: true,
        }
    }

    /// The released code's with one covariance.
    pub const fn shared() -> Self {
        Self { covariance: Covariance::Shared, rounds: 1, correlations: false, ..Self::per_class() }
    }

    /// Whether features are changed by Tukey's transform.
    pub(crate) fn is_powered(&self) -> bool {
        self.tukey != 1.0
    }

    pub(super) fn check(&self) -> Result<()> {
        positive("discriminant.fecam.tukey", self.tukey, 4.0)?;
        within("discriminant.fecam.off-diagonal", self.off_diagonal, 0.0, 1e6)?;
        if !(1..=10).contains(&self.rounds) {
            bail!("discriminant.fecam.rounds is {}; use a value from 1 to 10", self.rounds);
        }
        Ok(())
    }
}
