//! A classifier of statistics, as data.
//!
//! The features to take statistics of (pooled ones, or cells of several stages) are set beside their use; a
//! configuration without these keys means pooled features of images as they are.

use anyhow::{Result, anyhow, bail};
use cil_backbone::{Backbone, Head, HeadKind, StageCells, cells};
use cil_engine::bounds;
use serde::{Deserialize, Serialize};

use super::carry::Carry;
use super::fecam::{Covariance, FecamSpec};
use super::views::Views;

/// A linear discriminant that answers in place of the trained head, which is still used as teacher and student: class
/// means of features and one covariance are kept of old classes, and carried along when the backbone changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscriminantSpec {
    /// Share of the mean variance that is added to the covariance's diagonal.
    pub shrinkage: f64,
    /// Features are averages over cells of these stages, behind each other, in place of pooled features of length 1;
    /// the statistics are then kept in f32, the covariance as a triangle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageCells>,
    /// How many random features stand behind these, ReLU of a projection drawn by the seed (ACIL, Zhuang et al. 2022);
    /// statistics are of them, and kept as those of several stages are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_features: Option<usize>,
    /// Whether least squares answer, the ridge regression of all classes' indicators on the features, every class
    /// counting the same, in place of the discriminant; `shrinkage` is then the ridge's share of the mean square.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ridge: bool,
    /// Whether the nearest class mean answers, by the cosine of features and means, in place of the discriminant;
    /// `shrinkage` is not used then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nearest_mean: bool,
    /// How statistics of old classes follow the backbone when a later task trains it.
    #[serde(default, skip_serializing_if = "Carry::is_map")]
    pub carry: Carry,
    /// More views of the task's images, in which the change of the backbone is seen too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
    /// FeCAM in place of the discriminant, on a backbone that no later task trains; `shrinkage` is then its share of
    /// the mean variance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fecam: Option<FecamSpec>,
    /// Whether a linear support vector machine on moved features answers (FeTrIL), on a backbone that no later task
    /// trains; `shrinkage` is then the weight of half the squared weights beside the sum of squared hinges, 1 in
    /// FeTrIL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetril: bool,
    /// Whether statistics are of every image and of its mirror image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
    /// Generated images that statistics of old classes are taken of where none were kept: for a model that another
    /// program trained. The recipe needs a replay then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<usize>,
}

/// Widest features of which each class has a covariance of its own: a million bytes a class.
const WIDEST_OF_A_CLASS: usize = 512;

/// Most generated images that statistics are taken of.
const MOST_GENERATED: usize = 10_000_000;

impl DiscriminantSpec {
    /// Of pooled features, with that shrinkage.
    pub const fn pooled(shrinkage: f64) -> Self {
        Self {
            shrinkage,
            stages: Vec::new(),
            random_features: None,
            ridge: false,
            nearest_mean: false,
            carry: Carry::Map,
            views: None,
            fecam: None,
            fetril: false,
            mirrored: false,
            generated: None,
        }
    }

    /// The head that answers, without classes.
    pub fn head(&self, backbone: &Backbone) -> Head {
        let (kind, width) = match self.stages.as_slice() {
            [] => (HeadKind::LinearOfDirections, backbone.feature_width()),
            stages => (HeadKind::Linear, cells::width(backbone, stages)),
        };
        let kind = match &self.fecam {
            Some(FecamSpec { covariance: Covariance::PerClass, .. }) => HeadKind::Mahalanobis,
            Some(_) => HeadKind::LinearOfDirections,
            None if self.fetril || self.nearest_mean => HeadKind::LinearOfDirections,
            None => kind,
        };
        let powered = self.fecam.as_ref().is_some_and(FecamSpec::is_powered);
        Head { stages: self.stages.clone(), random: self.random_features, powered, ..Head::new(kind, width) }
    }

    /// Whether what answers belongs to a backbone that stays.
    pub fn is_of_a_frozen_backbone(&self) -> bool {
        self.fecam.is_some() || self.fetril
    }

    /// Width of the features that statistics are of.
    pub fn width(&self, backbone: &Backbone) -> usize {
        self.random_features.unwrap_or_else(|| self.head(backbone).width)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(count) = self.generated.filter(|count| !(1..=MOST_GENERATED).contains(count)) {
            bail!("discriminant.generated is {count}; use a value from 1 to {MOST_GENERATED}, or left out");
        }
        if let Some(count) = self.random_features.filter(|count| !(1..=cells::WIDEST).contains(count)) {
            bail!("discriminant.random-features is {count}; use a value from 1 to {}", cells::WIDEST);
        }
        if let Some(fecam) = &self.fecam {
            fecam.check()?;
        }
        self.carry.check()?;
        if let Some(views) = &self.views {
            views.check()?;
        }
        if self.carry.adversarial().is_some() && self.random_features.is_some() {
            bail!(
                "discriminant.carry is of adversarial images and random-features is set; images are changed by the \
                 gradient of pooled features or of stages, so leave one of the two out"
            );
        }
        if self.nearest_mean && self.ridge {
            bail!(
                "discriminant.nearest-mean and ridge are both true; one of them answers, so set the other to false"
            );
        }
        if self.is_of_a_frozen_backbone() {
            self.check_alone()?;
        }
        // 0.01 in our runs; far above 1 the covariance no longer counts.
        Ok(bounds::positive("discriminant.shrinkage", self.shrinkage, 1e6)?)
    }

    /// Of what answers in place of the discriminant: one, and no key that is the discriminant's.
    fn check_alone(&self) -> Result<()> {
        let key = if self.fecam.is_some() { "fecam" } else { "fetril" };
        let others = [
            ("fetril", self.fetril && self.fecam.is_some()),
            ("ridge", self.ridge),
            ("nearest-mean", self.nearest_mean),
            ("carry", !self.carry.is_map()),
            ("views", self.views.is_some()),
            ("random-features", self.random_features.is_some()),
            ("generated", self.generated.is_some()),
        ];
        match others.into_iter().find(|it| it.1) {
            Some((other, _)) => {
                bail!("discriminant.{key} and discriminant.{other} are both set; leave one of them out")
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_network(&self, backbone: &Backbone) -> Result<()> {
        cells::check(backbone, &self.stages).map_err(|error| anyhow!("discriminant.{error}"))?;
        let Some(fecam) = &self.fecam else { return Ok(()) };
        if fecam.is_powered() && self.stages.is_empty() && !backbone.ends_in_relu() {
            let last = backbone.stages();
            bail!(
                "discriminant.fecam.tukey is {}, and pooled features of {backbone} may be negative; use \
                 discriminant.stages=[{{stage={last}, cells=1, normalised=false}}], which are of the last ReLU, or tukey 1",
                fecam.tukey
            );
        }
        let width = self.width(backbone);
        if fecam.covariance == Covariance::PerClass && width > WIDEST_OF_A_CLASS {
            bail!(
                "discriminant.fecam.covariance is \"per-class\" of {width} features; use at most \
                 {WIDEST_OF_A_CLASS}, so use fewer cells or stages, or \"within-class\""
            );
        }
        Ok(())
    }
}
