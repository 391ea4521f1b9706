//! Where networks start.
//!
//! One decision: an initial value is a function of (seed, name) for the student, and of (seed, task, name) for a new
//! teacher; nothing here trains.

use anyhow::{Result, bail};
use candle_core::Tensor;
use cil_backbone::{Frozen, HeadKind, Network, head};
use cil_data::store::TrainSet;
use cil_engine::Shape;
use cil_random::Draw;

use crate::learner::Plan;
use crate::means;
use crate::recipe::NewTeacherSpec;

/// The student at the beginning of a task: the old model with a head block more, or a new network with all blocks.
pub(crate) fn student(plan: &Plan, task: usize, old: Option<&Frozen>, train: &TrainSet) -> Result<Network> {
    let n_new = plan.increments.classes(task).len();
    let (Some(old), false) = (old, plan.recipe.joint || plan.recipe.restart) else {
        let mut network = fresh(plan, plan.recipe.head, plan.seed, train.image_dims())?;
        plan.increments.sizes()[..=task].iter().try_for_each(|classes| network.grow(*classes))?;
        return Ok(network);
    };
    let mut network =
        Network::from_snapshot(old.snapshot().clone(), &plan.executors, plan.seed, &plan.device)?;
    network.grow(n_new)?;
    if plan.recipe.imprint {
        imprint(plan, &mut network, task, old, train)?;
    }
    Ok(network)
}

/// The new teacher before its training.
pub(crate) fn new_teacher(
    plan: &Plan,
    spec: &NewTeacherSpec,
    task: usize,
    old: Option<&Frozen>,
    image_dims: [usize; 3],
) -> Result<Network> {
    let seed = Draw { task, ..Draw::new(plan.seed, "new teacher") }.stream("seed").number();
    let mut network = fresh(plan, plan.recipe.head, seed, image_dims)?;
    if spec.from_old {
        let Some(old) = old else { bail!("there is no old model that a new teacher could start from") };
        for parameter in network.executor().graph().parameter_specs() {
            let value = old.snapshot().parameters.get(&parameter.name)?.clone();
            network.parameters_mut().set(&parameter.name, value);
        }
    }
    network.grow(plan.increments.classes(task).len())?;
    Ok(network)
}

pub(crate) fn fresh(
    plan: &Plan,
    head: HeadKind,
    seed: u64,
    [channels, height, width]: [usize; 3],
) -> Result<Network> {
    let images = Shape::Map { channels, height, width };
    Ok(Network::new(plan.architecture, images, head, &plan.executors, seed, &plan.device)?)
}

/// Sets the newest head block to the new classes' mean features.
fn imprint(plan: &Plan, network: &mut Network, task: usize, old: &Frozen, train: &TrainSet) -> Result<()> {
    let of_class = |class: usize| {
        means::features(old, train, &train.samples(class..class + 1), &plan.preparation, &plan.device)
    };
    let features = plan.increments.classes(task).map(of_class).collect::<Result<Vec<_>>>()?;
    let old_head = network.head().weights(network.parameters())?;
    let (newest, blocks) = (old_head.weights.len() - 1, &old_head.weights);
    let rows = head::imprinted(&features, &Tensor::cat(&blocks[..newest], 0)?)?;
    network.parameters_mut().set(&format!("head.{newest}.weight"), rows);
    Ok(())
}
