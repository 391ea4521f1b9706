//! Evaluation of a frozen model.
//!
//! This is the only module that takes a [`TestSet`], and nothing that it returns goes back into training: it yields
//! counts.

use std::ops::Range;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{Frozen, head::normalized};
use cil_data::augment::Preparation;
use cil_data::split::Increments;
use cil_data::store::{TestSet, TrainSet};

use crate::diverged::Diverged;
use crate::event::{Confusion, Evaluation};
use crate::learner::{Learner, Plan};
use crate::means::{ClassMeans, INFERENCE_BATCH};

/// The classifier that is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The network that answers.
    pub classifier: &'a Frozen,
    /// The same backbone with the head that was trained, where another one answers.
    pub trained: Option<&'a Frozen>,
    /// Class means for the nearest one.
    pub means: &'a ClassMeans,
}

/// Counts over the images of all classes of the classifier, after `task`.
///
/// # Errors
/// If an executor fails, or a network says what is no number.
pub fn evaluate(
    subject: Subject<'_>,
    test: &TestSet,
    increments: &Increments,
    task: usize,
    preparation: &Preparation,
    device: &Device,
) -> Result<Evaluation> {
    let Subject { classifier: model, trained, means } = subject;
    let classes = increments.seen(task);
    let tasks: Vec<Range<usize>> = (0..=task).map(|task| increments.classes(task)).collect();
    let empty = Confusion { rows: vec![vec![0; classes]; classes] };
    let (mut classifier, mut nearest) = (empty.clone(), means.means.as_ref().map(|_| empty));
    let mut trained_head = trained.map(|_| Confusion { rows: vec![vec![0; classes]; classes] });
    let (mut top5, mut task_aware) = (vec![0; classes], vec![0; classes]);
    for batch in test.batches(classes, INFERENCE_BATCH, preparation, device) {
        let (images, labels) = batch?;
        let view = model.forward(&images)?;
        let logits = numbers(&view.logits, "the classifier", task)?;
        for (row, label) in logits.iter().zip(&labels) {
            let label = *label as usize;
            classifier.rows[label][best(row, 0..classes)] += 1;
            let own = tasks.iter().find(|range| range.contains(&label)).cloned().unwrap_or(0..classes);
            task_aware[label] += u32::from(best(row, own) == label);
            top5[label] += u32::from(rank(row, label) < 5);
        }
        if let (Some(trained), Some(confusion)) = (trained, &mut trained_head) {
            let logits = numbers(&trained.head(&view.features)?.logits, "the trained head", task)?;
            for (row, label) in logits.iter().zip(&labels) {
                confusion.rows[*label as usize][best(row, 0..classes)] += 1;
            }
        }
        if let (Some(means), Some(nearest)) = (&means.means, &mut nearest) {
            let cosines = numbers(&cosines(&view.features, means)?, "the nearest mean", task)?;
            for (row, label) in cosines.iter().zip(&labels) {
                nearest.rows[*label as usize][best(row, 0..classes)] += 1;
            }
        }
    }
    Ok(Evaluation {
        classifier,
        trained_head,
        top5,
        task_aware,
        nearest_mean: nearest,
        nearest_mean_source: means.source.clone(),
    })
}

/// The classifiers of a learner after a task, independent of it: the learner may continue meanwhile.
#[derive(Clone, Debug)]
pub struct Evaluator {
    classifier: Frozen,
    /// The model with the head that was trained, where a discriminant answers.
    trained: Option<Frozen>,
    means: ClassMeans,
    increments: Increments,
    task: usize,
    preparation: Preparation,
    device: Device,
}

impl Evaluator {
    /// The network that answers.
    pub fn classifier(&self) -> &Frozen {
        &self.classifier
    }

    /// See [`evaluate`].
    ///
    /// # Errors
    /// If an executor fails.
    pub fn evaluate(&self, test: &TestSet) -> Result<Evaluation> {
        let Self { classifier, trained, means, increments, task, preparation, device } = self;
        let subject = Subject { classifier, trained: trained.as_ref(), means };
        evaluate(subject, test, increments, *task, preparation, device)
    }
}

impl Learner {
    /// The classifiers of this learner after the last task that it learned. Class means are taken of `train`'s
    /// exemplars.
    ///
    /// # Errors
    /// If no task is learned yet, or an executor fails.
    pub fn evaluator(&self, train: &TrainSet) -> Result<Evaluator> {
        let classifier = self.classifier()?.context("no task is learned yet")?;
        let task = self.tasks_learned().checked_sub(1).context("no task is learned yet")?;
        let Plan { recipe, increments, preparation, device, .. } = self.plan();
        Ok(Evaluator {
            classifier,
            trained: recipe.discriminant.as_ref().and(self.model().cloned()),
            means: self.class_means(train)?,
            increments: increments.clone(),
            task,
            preparation: preparation.clone(),
            device: device.clone(),
        })
    }
}

/// `[rows, classes]`: among vectors of length 1 the nearest is the one of the largest cosine.
fn cosines(features: &Tensor, means: &Tensor) -> candle_core::Result<Tensor> {
    normalized(features)?.matmul(&means.t()?)
}

/// The logits of `network` by row; refused if a value is NaN, because then no class is the most probable.
fn numbers(said: &Tensor, network: &'static str, task: usize) -> Result<Vec<Vec<f32>>> {
    let rows = said.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    match rows.iter().flatten().find(|value| !value.is_finite()) {
        Some(value) => Err(Diverged::evaluated(network, task, format!("its logits hold {value}")).into()),
        None => Ok(rows),
    }
}

/// The first largest value's index among `range`.
fn best(row: &[f32], range: Range<usize>) -> usize {
    let mut best = range.start;
    for at in range {
        if row[at] > row[best] {
            best = at;
        }
    }
    best
}

/// How many classes are not behind `label`: those with a larger value, and ties before it. NaN is behind nothing.
fn rank(row: &[f32], label: usize) -> usize {
    let behind = |at: usize, value: f32| row[label] > value || (row[label] == value && at > label);
    (0..row.len()).filter(|at| *at != label && !behind(*at, row[*at])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_first_and_ranks_count_them() {
        let row = [0.5, 2.0, 2.0, -1.0];
        assert_eq!((best(&row, 0..4), best(&row, 2..4), best(&row, 3..4)), (1, 2, 3));
        assert_eq!([rank(&row, 0), rank(&row, 1), rank(&row, 2), rank(&row, 3)], [2, 0, 1, 3]);
        // NaN never counts as correct, and no class is ranked above it.
        let row = [f32::NAN, 2.0, f32::NAN, -1.0];
        assert_eq!([0, 1, 2, 3].map(|label| rank(&row, label)), [3, 2, 3, 3]);
    }

    #[test]
    fn an_answer_that_is_no_number_is_an_error_and_no_answer() {
        let said = |value: f32| Tensor::new(&[[1.0, value], [0.0, 1.0]], &Device::Cpu).unwrap();
        assert_eq!(numbers(&said(0.5), "the classifier", 1).unwrap()[0], [1.0, 0.5]);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = numbers(&said(value), "the classifier", 1).unwrap_err();
            assert!(error.is::<Diverged>(), "{error}");
            let message = error.to_string();
            assert!(
                message.starts_with("the classifier diverged; the evaluation after task 2 found it"),
                "{message}"
            );
        }
    }
}
