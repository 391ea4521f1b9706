//! Settings at which a source ran a method on CIFAR-100.

use cil_backbone::Architecture;
use cil_data::augment::Preparation;
use cil_data::normalise::Normalisation;

use super::lengths::Lengths;

/// The source of presets that run a method in equal tasks at LUCIR's or PODNet's lengths.
pub(super) const EQUAL_TASKS: &str = "ours: LUCIR's or PODNet's published lengths on 100 classes in equal tasks, ABD's protocol (Smith et al., \
     ICCV 2021) and the first of its class orders; inversion and two teachers after Choi et al. 2021 (arXiv \
     2106.09835)";

/// The settings that a source printed beside its numbers on CIFAR-100.
#[derive(Clone, Debug)]
pub struct Published {
    /// The source and its main numbers, in a line.
    pub cited: &'static str,
    /// Lengths of the phases.
    pub lengths: Lengths,
    /// The network.
    pub architecture: Architecture,
    /// How images are changed and normalised.
    pub images: Preparation,
    /// The name of the published class order.
    pub order: &'static str,
}

/// The constants that a known data set is normalised with by a source.
///
/// # Panics
/// If `datasets/known.json` has no such constants.
pub fn normalisation(dataset: &str, source: &str) -> Normalisation {
    Normalisation::published(dataset, source)
        .expect("methods and presets name constants of datasets/known.json, as a test sees")
}
