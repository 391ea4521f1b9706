//! Whether generated images are worth replaying.
//!
//! Agreement with the teacher and a low batch-norm loss prove nothing (a generator that has collapsed to one picture a
//! class has both), so images are measured beside real ones: their statistics, their variety within a class, what a
//! model from another seed sees in them, and what a fresh student learns from them alone. Real images here are
//! evaluation images, and nothing goes back into training.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use cil_backbone::Frozen;
use cil_data::store::{TestSet, TrainSet};
use cil_engine::parameters::not_finite;
use cil_random::Draw;
use dfgr::config::Statistics;
use dfgr::loss::LayerMoments;
use dfgr::{Inversion, Replay};
use serde::{Deserialize, Serialize};

use crate::discriminant::ClassStatistics;
use crate::diverged::Diverged;
use crate::event::{Event, PhaseKind};
use crate::learner::{Plan, invert_unit};
use crate::looks::Looked;
use crate::means::INFERENCE_BATCH;
use crate::memory;
use crate::phase::{Classes, FrozenNetworks, Job, PhaseContext, Source};
use crate::recipe::{Columns, PhaseSpec, ReplaySpec, Rows, Trained, Training};
use crate::start;
use crate::term::CrossEntropy;

pub mod findings;
pub mod oracle;
mod probe;

/// How far a measurement of a finished run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Training images are looked at, class by class.
    Images {
        /// Classes that were looked at.
        classes: usize,
        /// How many there are.
        of: usize,
    },
    /// The linear probe is trained.
    Probe {
        /// Newton steps that were taken.
        steps: usize,
        /// Steps after which it ends at the latest.
        most: usize,
        /// Classes whose classifier still changes.
        unsettled: usize,
    },
}

/// Called as the work proceeds.
pub type OnWork<'a> = &'a mut dyn FnMut(Work);

/// Steps of a fresh student's epoch.
const STEPS: usize = 20;

/// The same measure of generated and of real images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Of generated images.
    pub generated: f64,
    /// Of real evaluation images.
    pub real: f64,
}

/// What the measures say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean batch-norm loss of batches, unweighted, by the teacher in evaluation mode.
    pub statistics_loss: Pair,
    /// Mean over classes of the features' variance within a class, by the teacher.
    pub variance_within_class: Pair,
    /// The same by the other model, which had no part in the inversion.
    pub variance_within_class_by_other: Pair,
    /// Share of images of which the teacher says their label (generated: the label asked for, or its own).
    pub teacher_accuracy: Pair,
    /// Share of images of which the other model says their label.
    pub other_accuracy: Pair,
    /// Images of each class among the generated ones, as shares.
    pub class_shares: Vec<f64>,
    /// Accuracy on real images of a student that saw generated images alone.
    pub student_accuracy: f64,
}

/// Images, their labels, and how many make a batch when statistics are taken.
struct Images {
    images: Tensor,
    labels: Vec<u32>,
}

/// Shows or records what happens.
pub type Shown<'a> = &'a mut dyn FnMut(&Event) -> Result<()>;

/// Inverts `teacher` as the plan's recipe says. `train`: images of its classes, of which statistics are taken where the
/// inversion draws images towards kept ones.
///
/// # Errors
/// If the recipe has no replay, or needs statistics and there is no image, or an executor fails.
pub fn invert(plan: &Plan, teacher: &Frozen, train: Option<&TrainSet>, shown: Shown<'_>) -> Result<Replay> {
    let Some(spec) = &plan.recipe.replay else { bail!("the recipe has no replay to audit") };
    let config = spec.inversion.clone();
    let (weight, latent) = (config.weights.features, config.generator.latent);
    let mut inversion = Inversion::new(config, teacher.clone(), &plan.executors, plan.seed, 1, &plan.device)?;
    match train {
        _ if weight == 0.0 => {}
        Some(train) => {
            let looked = Looked::new(plan, teacher)?;
            let of_class = |class: usize| looked.features(train, &train.samples(class..class + 1));
            let statistics = ClassStatistics::of((0..teacher.classes()).map(of_class), memory::form(plan))?;
            let stages = plan.recipe.discriminant.as_ref().map_or_else(Vec::new, |it| it.stages.clone());
            inversion.aim_at(statistics.targets(stages, latent)?)?;
        }
        None => bail!(
            "recipe.replay.inversion.weights.features is {weight}, and no statistics of the model's classes were \
             kept beside it; set it to 0"
        ),
    }
    while !inversion.is_done() {
        let event = invert_unit(&mut inversion, PhaseKind::Inversion, 1, spec.units());
        shown(&event.map_err(|error| Diverged::advised(error, &plan.recipe))?)?;
    }
    Ok(inversion.replay())
}

/// Measures a generator. `student`: how the fresh student is trained, an epoch being 20 steps of `student.batch`
/// generated images.
///
/// # Errors
/// If the models know other classes than the evaluation images have, or an executor fails.
pub fn audit(
    plan: &Plan,
    replay: &Replay,
    other: &Frozen,
    student: &Training,
    train: &TrainSet,
    test: &TestSet,
    shown: Shown<'_>,
) -> Result<Quality> {
    let Some(spec) = &plan.recipe.replay else { bail!("the recipe has no replay to audit") };
    let teacher = replay.teacher();
    if other.classes() != teacher.classes() {
        bail!("the other model has {} classes, the teacher {}", other.classes(), teacher.classes());
    }
    let real = real_images(plan, teacher.classes(), test)?;
    let generated = generated_images(plan, replay, real.labels.len())?;
    let (batch, statistics) = (spec.inversion.batch, spec.inversion.weights.statistics);
    let both = |measure: &dyn Fn(&Images) -> Result<f64>| -> Result<Pair> {
        Ok(Pair { generated: measure(&generated)?, real: measure(&real)? })
    };
    let fresh = imitate(plan, replay, student, train, shown)?;
    let count = |class: u32| generated.labels.iter().filter(|label| **label == class).count() as f64;
    Ok(Quality {
        statistics_loss: both(&|of| statistics_loss(teacher, of, batch, &statistics))?,
        variance_within_class: both(&|of| variance_within_class(teacher, of))?,
        variance_within_class_by_other: both(&|of| variance_within_class(other, of))?,
        teacher_accuracy: both(&|of| accuracy(teacher, of))?,
        other_accuracy: both(&|of| accuracy(other, of))?,
        class_shares: (0..teacher.classes() as u32)
            .map(|class| count(class) / generated.labels.len() as f64)
            .collect(),
        student_accuracy: accuracy(&fresh, &real)?,
    })
}

/// All evaluation images of the first `classes` classes, in random order so that a batch holds all classes.
fn real_images(plan: &Plan, classes: usize, test: &TestSet) -> Result<Images> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for batch in test.batches(classes, INFERENCE_BATCH, &plan.preparation, &plan.device) {
        let batch = batch?;
        images.push(batch.0);
        labels.extend(batch.1);
    }
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    Draw::new(plan.seed, "audit").stream("order").shuffle(&mut order);
    let index = Tensor::new(order.as_slice(), &plan.device)?;
    let labels = order.iter().map(|row| labels[*row as usize]).collect();
    Ok(Images { images: Tensor::cat(&images, 0)?.index_select(&index, 0)?, labels })
}

fn generated_images(plan: &Plan, replay: &Replay, count: usize) -> Result<Images> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let mut draw = Draw::new(plan.seed, "audit");
    while labels.len() < count {
        let batch = replay.sample(INFERENCE_BATCH.min(count - labels.len()), draw)?;
        images.push(batch.images);
        labels.extend(batch.labels.to_vec()?);
        draw.position += 1;
    }
    Ok(Images { images: Tensor::cat(&images, 0)?, labels })
}

/// Mean over whole batches of the batch-norm loss.
fn statistics_loss(teacher: &Frozen, of: &Images, batch: usize, statistics: &Statistics) -> Result<f64> {
    let running = teacher.running_statistics()?;
    let n_batches = of.labels.len() / batch;
    if n_batches == 0 {
        bail!("{} evaluation images are fewer than the batch of {batch}", of.labels.len());
    }
    let mut sum = 0.0;
    for at in 0..n_batches {
        let probe = teacher.probe(&of.images.narrow(0, at * batch, batch)?)?;
        let layers: Vec<LayerMoments<'_>> = probe
            .moments
            .iter()
            .zip(&running)
            .map(|(seen, stored)| LayerMoments {
                mean: &seen.mean,
                variance: &seen.variance,
                running_mean: &stored.mean,
                running_variance: &stored.variance,
            })
            .collect();
        sum += statistics.divergence(&layers)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(sum / n_batches as f64)
}

/// Mean over classes of the mean squared distance of a class's features to their mean.
fn variance_within_class(model: &Frozen, of: &Images) -> Result<f64> {
    let mut features = Vec::new();
    for (images, _) in batches(of)? {
        features.extend(model.forward(&images)?.features.to_dtype(DType::F64)?.to_vec2::<f64>()?);
    }
    let mut by_class = BTreeMap::<u32, Vec<&Vec<f64>>>::new();
    for (row, label) in features.iter().zip(&of.labels) {
        by_class.entry(*label).or_default().push(row);
    }
    let variance = |rows: &Vec<&Vec<f64>>| -> f64 {
        let of_feature = |at: usize| {
            let mean = rows.iter().map(|row| row[at]).sum::<f64>() / rows.len() as f64;
            rows.iter().map(|row| (row[at] - mean).powi(2)).sum::<f64>() / rows.len() as f64
        };
        (0..rows[0].len()).map(of_feature).sum()
    };
    Ok(by_class.values().map(variance).sum::<f64>() / by_class.len() as f64)
}

fn accuracy(model: &Frozen, of: &Images) -> Result<f64> {
    let mut right = 0;
    for (images, labels) in batches(of)? {
        let logits = model.forward(&images)?.logits;
        if let Some(value) = not_finite(&logits)? {
            bail!("a model's logits hold {value}; a model whose training diverged is of no use");
        }
        let said = logits.argmax(1)?.to_vec1::<u32>()?;
        right += said.iter().zip(labels).filter(|(said, label)| said == label).count();
    }
    Ok(right as f64 / of.labels.len() as f64)
}

fn batches(of: &Images) -> Result<Vec<(Tensor, &[u32])>> {
    let batch = |(at, labels): (usize, &'_ [u32])| -> Result<Tensor> {
        Ok(of.images.narrow(0, at * INFERENCE_BATCH, labels.len())?)
    };
    of.labels.chunks(INFERENCE_BATCH).enumerate().map(|it| Ok((batch(it)?, it.1))).collect()
}

/// A student from scratch that sees generated images and their labels, nothing else.
fn imitate(
    plan: &Plan,
    replay: &Replay,
    student: &Training,
    train: &TrainSet,
    shown: Shown<'_>,
) -> Result<Frozen> {
    let Some(spec) = &plan.recipe.replay else { bail!("the recipe has no replay to audit") };
    let classes = replay.teacher().classes();
    let (rows, columns) = (Rows::All, Columns::Seen);
    let phase = PhaseSpec {
        trained: Trained::All,
        terms: vec![CrossEntropy::plain(rows, columns).into()],
        training: student.clone(),
    };
    let mut network = start::fresh(plan, plan.recipe.head, plan.seed ^ 1, train.image_dims())?;
    network.grow(classes)?;
    let source = Source::Generated { steps: STEPS };
    let classes =
        Classes { columns: 0..classes, n_old: classes, freeze_old_head: false, positive_head: false };
    let spec = ReplaySpec { batch: student.batch, ..spec.clone() };
    let teachers = FrozenNetworks { replay: Some((replay.clone(), spec)), ..FrozenNetworks::default() };
    let mut job = Job::new(PhaseKind::Student, network, phase, source, classes, teachers, (plan.seed, 1))?;
    let context = PhaseContext {
        train,
        preparation: &plan.preparation,
        device: &plan.device,
        seed: plan.seed,
        task: 1,
    };
    while job.done < job.total() {
        shown(&job.epoch(&context).map_err(|error| Diverged::advised(error, &plan.recipe))?)?;
    }
    Ok(job.network.freeze()?)
}
