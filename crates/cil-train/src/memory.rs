//! What is left of a task when it is learned: exemplars, and a corrected head.
//!
//! One decision: this trains nothing and keeps no state of its own; what it makes of a model is a model.

use anyhow::{Result, bail};
use cil_backbone::align::alignment;
use cil_backbone::{Frozen, Network};
use cil_data::exemplars::{Exemplars, herd};
use cil_data::store::TrainSet;

use crate::learner::Plan;
use crate::means;
use crate::recipe::correction::AlignSpec;

/// Brings exemplars to the budget of the classes seen and herds those of the task's classes; how many images are kept.
pub(crate) fn remember(
    plan: &Plan,
    task: usize,
    model: &Frozen,
    train: &TrainSet,
    exemplars: &mut Exemplars,
) -> Result<usize> {
    let (classes, budget) = (plan.increments.classes(task), plan.recipe.exemplars);
    if budget.is_none() {
        return Ok(0);
    }
    let count = budget.per_class(classes.end);
    exemplars.trim(budget, classes.end);
    for class in classes {
        let samples = train.samples(class..class + 1);
        let features = means::features(model, train, &samples, &plan.preparation, &plan.device)?;
        let width = model.feature_width();
        let chosen = herd(&features.flatten_all()?.to_vec1::<f32>()?, width, count);
        exemplars.remember(class, chosen.into_iter().map(|at| samples[at]).collect());
    }
    Ok(exemplars.len())
}

/// Multiplies the newest classes' logits by the factor that gives their weights the mean length of the old ones'.
pub(crate) fn align(network: &mut Network, spec: AlignSpec) -> Result<()> {
    let head = network.head().weights(network.parameters())?;
    let Some((new, old)) = head.weights.split_last() else { bail!("there is no head to align") };
    let mut factor = alignment(&candle_core::Tensor::cat(old, 0)?, new, spec.length)?;
    if spec.shrink_only {
        factor = factor.min(1.0);
    }
    for name in network.head().block_names(old.len()) {
        let scaled = (network.parameters().get(&name)? * factor)?;
        network.parameters_mut().set(&name, scaled);
    }
    Ok(())
}
