//! BiC (Wu et al. 2019).

use cil_data::exemplars::Budget;

use super::abd;
use super::lengths::Lengths;
use super::method::{Exemplars, Family, Listed, Method, Presets};
use super::wa::shared_by_counts;
use crate::recipe::correction::BiasCorrectionSpec;
use crate::recipe::{Recipe, Training};

/// `bic`.
pub static METHOD: Method = Method {
    source: "Wu et al., CVPR 2019",
    exemplars: Exemplars::OfProtocol,
    presets: &[Presets::at(abd::published, Family::EqualTasks, Listed::All)],
    ..Method::new("bic", "bias correction (BiC), a tenth of the exemplars held out", |lengths| {
        let Lengths { base, increment, exemplars, correction, .. } = lengths.clone();
        bias_correction(base, increment, exemplars, correction)
    })
};

/// BiC (Wu et al. 2019): trained as [`weight_aligning`](super::wa::weight_aligning) is, with biases and on nine
/// tenths of what is kept; then the newest classes' logits are multiplied by one number and moved by another, learned
/// on the last tenth.
pub fn bias_correction(
    base: Training,
    increment: Training,
    exemplars: Budget,
    correction: Training,
) -> Recipe {
    let mut recipe = shared_by_counts(base, increment, exemplars);
    recipe.bias_correction = Some(BiasCorrectionSpec { held_out: 0.1, training: correction });
    recipe
}
