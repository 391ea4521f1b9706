//! A classifier of statistics, as data.
//!
//! One decision: what the statistics are taken of (pooled features, or cells of several stages) stands beside how they are
//! used; a configuration without these keys means pooled features of images as they are.

use anyhow::{Result, anyhow};
use cil_backbone::{Architecture, StageCells, cells};
use cil_engine::bounds;
use serde::{Deserialize, Serialize};

/// A linear discriminant that answers in place of the trained head, which goes on as teacher and student: class means of
/// features and one covariance are kept of old classes, and carried along when the backbone changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscriminantSpec {
    /// Share of the mean variance that is added to the covariance's diagonal.
    pub shrinkage: f64,
    /// Features are averages over cells of these stages, behind each other, in place of pooled features of length 1;
    /// the statistics are then kept in f32, the covariance as a triangle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageCells>,
    /// Whether statistics are of every image and of its mirror image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
    /// Generated images that statistics of old classes are taken of where none were kept: for a model that another
    /// program trained. The recipe needs a replay then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<usize>,
}

/// Most generated images that statistics are taken of.
const MOST_GENERATED: usize = 10_000_000;

impl DiscriminantSpec {
    /// Of pooled features, with that shrinkage.
    pub const fn pooled(shrinkage: f64) -> Self {
        Self { shrinkage, stages: Vec::new(), mirrored: false, generated: None }
    }

    /// Width of the features.
    pub fn width(&self, architecture: &Architecture) -> usize {
        match self.stages.as_slice() {
            [] => architecture.feature_width(),
            stages => cells::width(architecture, stages),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(count) = self.generated.filter(|count| !(1..=MOST_GENERATED).contains(count)) {
            anyhow::bail!(
                "discriminant.generated is {count}; it should be from 1 to {MOST_GENERATED}, or left out"
            );
        }
        // 0.01 in our runs; far above 1 the covariance no longer counts.
        Ok(bounds::positive("discriminant.shrinkage", self.shrinkage, 1e6)?)
    }

    pub(super) fn check_network(&self, architecture: &Architecture) -> Result<()> {
        cells::check(architecture, &self.stages).map_err(|error| anyhow!("discriminant.{error}"))
    }
}
