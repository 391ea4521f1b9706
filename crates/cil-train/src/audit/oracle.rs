//! Where the missing points of a run are: its answers beside those of real images of all classes.
//!
//! What is asked is the run's last backbone. Its classifier is held beside the same classifier of true statistics,
//! taken of the training images of all classes, old ones among them, beside mixtures of true and kept ones, and beside
//! a linear probe. This reads images that no run may read, so it is called by no learner.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use cil_backbone::Frozen;
use cil_backbone::head::normalized;
use cil_data::store::{TestSet, TrainSet};
use cil_engine::Parameters;
use nalgebra::{DMatrix, DVector};

use super::findings::{Accuracy, Findings, Task};
use super::probe::{self, Rows};
use super::{OnWork, Work};
use crate::discriminant::{ClassStatistics, matrix};
use crate::learner::Plan;
use crate::looks::Looked;
use crate::means::INFERENCE_BATCH;
use crate::memory;
use crate::recipe::DiscriminantSpec;

/// Shrinkage of the discriminant of true statistics, where the run has no discriminant of its own.
const SHRINKAGE: f64 = 0.01;

/// Evaluation images as the head that answers sees them.
struct Seen {
    labels: Vec<usize>,
    tasks: Vec<Range<usize>>,
    features: DMatrix<f64>,
    pooled: DMatrix<f64>,
}

/// Holds a run's last model beside real images of all its classes. `classifier` answered; `kept` are the statistics
/// that the run had at its end, if it carried some; `report` is called as the work proceeds.
///
/// # Errors
/// If the model is not of the plan's classes, the statistics have another form, or an executor fails.
pub fn oracle(
    plan: &Plan,
    classifier: &Frozen,
    kept: Option<&Parameters>,
    train: &TrainSet,
    test: &TestSet,
    report: OnWork<'_>,
) -> Result<Findings> {
    let last = plan.increments.tasks() - 1;
    let classes = plan.increments.seen(last);
    if classifier.classes() != classes {
        bail!("the model knows {} classes, the run has {classes}", classifier.classes());
    }
    // What answers in place of it is what is asked for; another head of a frozen backbone keeps nothing carried.
    let mut plan = plan.clone();
    let own = plan.recipe.discriminant.take().filter(|it| !it.is_of_a_frozen_backbone());
    let spec = own.clone().unwrap_or(DiscriminantSpec::pooled(SHRINKAGE));
    plan.recipe.discriminant = Some(spec.clone());
    let looked = Looked::new(&plan, classifier)?;
    let form = memory::form_of(&spec);
    // Every image is read once, for the statistics and for the probe.
    let mut rows = Rows::new(classifier.feature_width());
    let of_class = |class: usize| {
        let (features, pooled) = looked.beside_pooled(train, &train.samples(class..class + 1))?;
        rows.add(&pooled, class)?;
        report(Work::Images { classes: class + 1, of: classes });
        Ok(features)
    };
    let truth = ClassStatistics::of((0..classes).map(of_class), form).context("true statistics")?;
    let kept = match (kept, &own) {
        (Some(values), Some(_)) => {
            let width = spec.width(&plan.backbone);
            Some(ClassStatistics::restore(values, classes, width, form).context("the run's statistics")?)
        }
        _ => None,
    };
    let (seen, by_run) = seen(&plan, classifier, &looked, test)?;
    let answered = |statistics: &ClassStatistics| -> Result<Vec<Counts>> {
        let (weights, biases) = statistics.answer(&spec, &candle_core::Device::Cpu)?;
        let biases = DVector::from_vec(biases.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        Ok(seen.counted(&linear(&seen.features, &matrix(&weights)?, &biases)))
    };
    let by_truth = answered(&truth)?;
    let (weights, biases, probe) = probe::trained(&rows, classes, report);
    let by_probe = seen.counted(&linear(&seen.pooled, &weights, &biases));
    let mixed = kept.as_ref().map(|kept| {
        let means = answered(&kept.with_means_of(&truth))?;
        Ok::<_, anyhow::Error>((means, answered(&truth.with_means_of(kept))?))
    });
    let mixed = mixed.transpose()?;
    let drifts = kept.as_ref().map(|kept| kept.mean_distances(&truth));
    let row = |tasks: Range<usize>| {
        let classes = seen.tasks[tasks.start].start..seen.tasks[tasks.end - 1].end;
        let of = |counts: &[Counts]| Counts::accuracy(&counts[tasks.clone()]);
        let mean = |of: &Vec<f64>| of[classes.clone()].iter().sum::<f64>() / classes.len() as f64;
        Task {
            classes: classes.len(),
            run: of(&by_run),
            true_means: mixed.as_ref().map(|it| of(&it.0)),
            true_covariance: mixed.as_ref().map(|it| of(&it.1)),
            true_statistics: of(&by_truth),
            probe: of(&by_probe),
            mean_drift: drifts.as_ref().map(mean),
        }
    };
    Ok(Findings {
        tasks: (0..=last).map(|task| row(task..task + 1)).collect(),
        all: row(0..last + 1),
        covariance_drift: kept.as_ref().map(|kept| kept.covariance_distance(&truth)),
        probe,
    })
}

/// Images of a task: all of them, and those that are right.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    images: usize,
    right: usize,
    right_of_own_task: usize,
}

impl Counts {
    fn accuracy(of: &[Self]) -> Accuracy {
        let images = of.iter().map(|it| it.images).sum::<usize>().max(1) as f64;
        let share = |count: &dyn Fn(&Self) -> usize| of.iter().map(count).sum::<usize>() as f64 / images;
        Accuracy { all: share(&|it| it.right), own_task: share(&|it| it.right_of_own_task) }
    }
}

impl Seen {
    /// Of logits `[images, classes]`, by task.
    fn counted(&self, logits: &DMatrix<f64>) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.tasks.len()];
        for (at, label) in self.labels.iter().enumerate() {
            let Some(task) = self.tasks.iter().position(|classes| classes.contains(label)) else { continue };
            let best = |classes: Range<usize>| {
                classes.clone().fold(classes.start, |best, class| {
                    if logits[(at, class)] > logits[(at, best)] { class } else { best }
                })
            };
            counts[task].images += 1;
            counts[task].right += usize::from(best(0..logits.ncols()) == *label);
            counts[task].right_of_own_task += usize::from(best(self.tasks[task].clone()) == *label);
        }
        counts
    }
}

/// What is seen in all evaluation images, and what the run's classifier says of them.
fn seen(
    plan: &Plan,
    classifier: &Frozen,
    looked: &Looked<'_>,
    test: &TestSet,
) -> Result<(Seen, Vec<Counts>)> {
    let last = plan.increments.tasks() - 1;
    let (mut labels, mut features, mut pooled, mut logits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let classes = plan.increments.seen(last);
    for batch in test.batches(classes, INFERENCE_BATCH, &plan.preparation, &plan.device) {
        let (images, of_batch) = batch?;
        labels.extend(of_batch.iter().map(|label| *label as usize));
        let view = classifier.forward(&images)?;
        pooled.push(normalized(&view.features)?);
        logits.push(view.logits);
        features.push(looked.of(&images)?);
    }
    let joined = |rows: &[Tensor]| matrix(&Tensor::cat(rows, 0)?);
    let tasks = (0..=last).map(|task| plan.increments.classes(task)).collect();
    let seen = Seen { labels, tasks, features: joined(&features)?, pooled: joined(&pooled)? };
    let by_run = seen.counted(&joined(&logits)?);
    Ok((seen, by_run))
}

fn linear(features: &DMatrix<f64>, weights: &DMatrix<f64>, biases: &DVector<f64>) -> DMatrix<f64> {
    let mut logits = features * weights.transpose();
    logits.row_iter_mut().for_each(|mut row| row += &biases.transpose());
    logits
}

#[cfg(test)]
mod tests;
