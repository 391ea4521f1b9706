//! Where networks start.
//!
//! An initial value is a function of (seed, name) for the student, and of (seed, task, name) for a new teacher; nothing
//! here trains.

use anyhow::{Result, bail};
use candle_core::Tensor;
use cil_backbone::{Frozen, HeadKind, Network, head};
use cil_data::store::TrainSet;
use cil_engine::Shape;
use cil_random::Draw;
use dfgr::Replay;

use crate::kmeans;
use crate::means;
use crate::plan::Plan;
use crate::recipe::NewTeacherSpec;

/// The student at the beginning of a task: the old model with a head block more, or a new network with all blocks.
/// Images of new classes are `generated`, where they are not shared.
pub(crate) fn student(
    plan: &Plan,
    task: usize,
    old: Option<&Frozen>,
    train: &TrainSet,
    generated: Option<&Replay>,
) -> Result<Network> {
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
        let features = match generated {
            Some(replay) => features_of_generated(plan, &network, task, old, replay)?,
            None => features(plan, task, old, train)?,
        };
        imprint(plan, &mut network, task, &features)?;
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
    new_teacher_blocks(plan, spec, task).iter().try_for_each(|classes| network.grow(*classes))?;
    Ok(network)
}

/// Classes in the head blocks of a task's new teacher.
pub(crate) fn new_teacher_blocks<'a>(plan: &'a Plan, spec: &NewTeacherSpec, task: usize) -> &'a [usize] {
    let first = if spec.exemplars { 0 } else { task };
    &plan.increments.sizes()[first..=task]
}

pub(crate) fn fresh(
    plan: &Plan,
    head: HeadKind,
    seed: u64,
    [channels, height, width]: [usize; 3],
) -> Result<Network> {
    let images = Shape::Map { channels, height, width };
    Ok(Network::new(plan.backbone.clone(), images, head, &plan.executors, seed, &plan.device)?)
}

/// The old model's features of each new class, `[images, width]`.
fn features(plan: &Plan, task: usize, old: &Frozen, train: &TrainSet) -> Result<Vec<Tensor>> {
    let of_class = |class: usize| {
        means::features(old, train, &train.samples(class..class + 1), &plan.preparation, &plan.device)
    };
    plan.increments.classes(task).map(of_class).collect()
}

/// The same of generated images; a class of which there are none keeps the directions that its weights were drawn with.
fn features_of_generated(
    plan: &Plan,
    network: &Network,
    task: usize,
    old: &Frozen,
    replay: &Replay,
) -> Result<Vec<Tensor>> {
    let draw = Draw { task, ..Draw::new(plan.seed, "imprint") };
    let (found, proxies) = (means::of_generated(old, replay, draw)?, plan.recipe.head.proxies());
    let head = network.head().weights(network.parameters())?;
    let Some(drawn) = head.weights.last() else { bail!("there is no head to imprint") };
    let of_class = |(class, features): (usize, Option<Tensor>)| match features {
        Some(features) => Ok(features),
        None => Ok(drawn.narrow(0, class * proxies, proxies)?),
    };
    found.into_iter().enumerate().map(of_class).collect()
}

/// Sets the newest head block to where the new classes' features are.
fn imprint(plan: &Plan, network: &mut Network, task: usize, features: &[Tensor]) -> Result<()> {
    let old_head = network.head().weights(network.parameters())?;
    let (newest, blocks) = (old_head.weights.len() - 1, &old_head.weights);
    let old = Tensor::cat(&blocks[..newest], 0)?;
    let rows = match plan.recipe.head {
        HeadKind::MultiProxy { proxies } => {
            head::at_mean_length(&centres(plan, task, features, proxies)?, &old)?
        }
        _ => head::imprinted(features, &old)?,
    };
    network.parameters_mut().set(&format!("head.{newest}.weight"), rows);
    Ok(())
}

/// `[classes * proxies, width]`: centres of groups of each class's normalised features.
fn centres(plan: &Plan, task: usize, features: &[Tensor], proxies: usize) -> Result<Tensor> {
    let width = plan.backbone.feature_width();
    let mut centres = Vec::new();
    for (class, features) in features.iter().enumerate() {
        let directions = head::normalized(features)?.flatten_all()?.to_vec1::<f32>()?;
        let draw = Draw { seed: plan.seed, purpose: "proxies", task, position: class as u64 };
        centres.extend(kmeans::centres(&directions, width, proxies, draw)?);
    }
    Ok(Tensor::from_vec(centres, (features.len() * proxies, width), &plan.device)?)
}
