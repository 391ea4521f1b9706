//! Events to numbers: `result.json`.
//!
//! A result is a pure function of the run's facts and its event log, so it can always be computed again. Accuracies are
//! fractions. It opens no file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cil_train::event::{Confusion, Evaluation, Event};
use cil_train::metrics::{self, Forgetting};
use serde::{Deserialize, Serialize};

use crate::folder::log::Line;

/// Version of `result.json`.
pub const FORMAT: u32 = 1;
/// The number of most probable classes in [`TaskResult::top5`].
const TOP: usize = 5;

/// The parts of the run's configuration that a result repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The preset that the run started from, if any.
    pub preset: Option<String>,
    /// The method's name.
    pub method: String,
    /// The data set's name.
    pub dataset: String,
    /// Which images the accuracies are of: `test` or `validation`.
    pub evaluated_on: String,
    /// Seed of everything random but the class order.
    pub seed: u64,
    /// Labels of the data set in the order they are learned.
    pub class_order: Vec<usize>,
    /// Classes of each task, the base first.
    pub increments: Vec<usize>,
    /// Real images kept of each old class; null where a total is shared among them. Of a result, no more than there
    /// were.
    pub exemplars_per_class: Option<usize>,
}

/// The numbers after one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// From 0.
    pub task: usize,
    /// Classes seen so far.
    pub classes_seen: usize,
    /// Over all classes seen.
    pub accuracy: f64,
    /// By the head that was trained, where a discriminant is the classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_trained_head: Option<f64>,
    /// By the nearest class mean; null if there were no images to take means of.
    pub accuracy_nme: Option<f64>,
    /// Where the means came from, or why there are none.
    pub nme_source: String,
    /// When only the classes of an image's own task compete.
    pub task_aware_accuracy: f64,
    /// The true class is among the five likeliest; null where no more than five are known, of which it always is one.
    pub top5: Option<f64>,
    /// Over the classes of earlier tasks; null at task 0.
    pub old_accuracy: Option<f64>,
    /// Over the classes of this task.
    pub new_accuracy: f64,
}

/// All that a run shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this file.
    pub format: u32,
    /// The configuration of the run.
    #[serde(flatten)]
    pub facts: Facts,
    /// After each task.
    pub tasks: Vec<TaskResult>,
    /// `[t][j]`: accuracy on task `j`'s classes after task `t`, all classes competing.
    pub accuracy_matrix: Vec<Vec<f64>>,
    /// Mean of `accuracy` over the tasks, task 0 included.
    pub average_incremental_accuracy: f64,
    /// After the last task.
    pub last_accuracy: f64,
    /// Chaudhry's form; null with a single task.
    pub forgetting: Option<f64>,
    /// The numbers that other toolboxes call forgetting, by name; null with a single task.
    pub forgetting_forms: Option<Forgetting>,
    /// Most bytes kept between tasks beside the model.
    pub stored_bytes: u64,
    /// Real images kept after the last task, of all classes; absent from older logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemplars_kept: Option<u64>,
    /// From the start of the run to its last event.
    pub wall_seconds: f64,
    /// Seconds by what was being done.
    pub phase_seconds: BTreeMap<String, f64>,
    /// Most memory the process held; null where the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Images through student, teacher and generator per second of training.
    pub images_per_second: f64,
    /// The same by phase of training.
    #[serde(default)]
    pub phase_images_per_second: BTreeMap<String, f64>,
}

/// Computes the result of a whole run.
pub fn report(facts: Facts, lines: &[Line]) -> Result<RunResult> {
    let (evaluated, due) = (evaluations(lines)?.len(), facts.increments.len());
    if !ended(lines) {
        bail!("the run did not end: {evaluated} of {due} tasks were evaluated");
    }
    if evaluated != due {
        bail!("{evaluated} tasks were evaluated, the run has {due}");
    }
    so_far(facts, lines)?.context("the run has no tasks")
}

/// Whether the last event says that the run is whole.
pub fn ended(lines: &[Line]) -> bool {
    matches!(lines.last(), Some(Line { event: Event::RunEnd, .. }))
}

/// The evaluations of a log, one for each task learned.
pub fn evaluations(lines: &[Line]) -> Result<Vec<&Evaluation>> {
    let mut evaluations = Vec::new();
    for line in lines {
        if let Event::TaskEnd { task, evaluation } = &line.event {
            if *task != evaluations.len() {
                bail!(
                    "task {} was evaluated where task {} was due",
                    task.saturating_add(1),
                    evaluations.len() + 1
                );
            }
            evaluations.push(evaluation);
        }
    }
    Ok(evaluations)
}

/// Computes what a run's result is so far, as if the tasks evaluated were all; `None` before the first.
pub fn so_far(mut facts: Facts, lines: &[Line]) -> Result<Option<RunResult>> {
    let evaluations = evaluations(lines)?;
    if evaluations.is_empty() {
        return Ok(None);
    }
    if evaluations.len() > facts.increments.len() {
        bail!("{} tasks were evaluated, the run has {}", evaluations.len(), facts.increments.len());
    }
    let stored_bytes = lines.iter().map(|line| match &line.event {
        Event::TaskLearned { stored_bytes, .. } => *stored_bytes,
        _ => 0,
    });
    let kept = lines.iter().rev().find_map(|line| match &line.event {
        Event::TaskLearned { task, exemplars, .. } => Some((*task, (*exemplars)?)),
        _ => None,
    });
    if let (Some((task, kept)), Some(asked)) = (kept, facts.exemplars_per_class) {
        let seen: usize = facts.increments.iter().take(task.saturating_add(1)).sum();
        let of_class = usize::try_from(kept).unwrap_or(usize::MAX) / seen.max(1);
        facts.exemplars_per_class = Some(asked.min(of_class));
    }
    let mut tasks = Vec::new();
    for (task, evaluation) in evaluations.iter().enumerate() {
        tasks.push(
            task_result(task, evaluation, &facts.increments)
                .with_context(|| format!("in task {}", task.saturating_add(1)))?,
        );
    }
    let confusions: Vec<Confusion> = evaluations.iter().map(|it| it.classifier.clone()).collect();
    let accuracy_matrix = metrics::accuracy_matrix(&confusions, &facts.increments);
    let forms = metrics::forgetting(&accuracy_matrix);
    let (phase_seconds, images) = durations(lines);
    let rate = |images: usize, seconds: f64| if seconds > 0.0 { images as f64 / seconds } else { 0.0 };
    let trained = |phase: &String| phase_seconds.get(phase).copied().unwrap_or(0.0);
    Ok(Some(RunResult {
        format: FORMAT,
        facts,
        average_incremental_accuracy: metrics::average_incremental_accuracy(&confusions)
            .context("a task has no images")?,
        last_accuracy: tasks.last().context("the run has no tasks")?.accuracy,
        tasks,
        accuracy_matrix,
        forgetting: forms.as_ref().map(|it| it.chaudhry),
        forgetting_forms: forms,
        stored_bytes: stored_bytes.max().unwrap_or(0),
        exemplars_kept: kept.map(|(_, kept)| kept),
        wall_seconds: lines.last().map_or(0.0, |line| line.seconds),
        peak_memory_bytes: lines.iter().filter_map(|line| line.peak_memory_bytes).max(),
        images_per_second: rate(images.values().sum(), images.keys().map(trained).sum()),
        phase_images_per_second: images
            .iter()
            .map(|(phase, count)| (phase.clone(), rate(*count, trained(phase))))
            .collect(),
        phase_seconds,
    }))
}

fn task_result(task: usize, evaluation: &Evaluation, increments: &[usize]) -> Result<TaskResult> {
    let seen: usize = increments[..=task].iter().sum();
    let old = seen - increments[task];
    let confusion = &evaluation.classifier;
    let square = |it: &Confusion| it.rows.len() == seen && it.rows.iter().all(|row| row.len() == seen);
    let others = [&evaluation.nearest_mean, &evaluation.trained_head];
    if !square(confusion) || !others.into_iter().flatten().all(square) {
        bail!("the confusion matrix is not {seen} by {seen}");
    }
    let accuracy = |range| metrics::accuracy(confusion, range).context("there are no images");
    let images: u64 = confusion.rows.iter().flatten().map(|count| u64::from(*count)).sum();
    let share = |counts: &[u32]| counts.iter().map(|it| u64::from(*it)).sum::<u64>() as f64 / images as f64;
    Ok(TaskResult {
        task,
        classes_seen: seen,
        accuracy: accuracy(0..seen)?,
        accuracy_trained_head: evaluation.trained_head.as_ref().and_then(|it| metrics::accuracy(it, 0..seen)),
        accuracy_nme: evaluation.nearest_mean.as_ref().and_then(|it| metrics::accuracy(it, 0..seen)),
        nme_source: evaluation.nearest_mean_source.clone(),
        task_aware_accuracy: share(&evaluation.task_aware),
        top5: (seen > TOP).then(|| share(&evaluation.top5)),
        old_accuracy: if task == 0 { None } else { Some(accuracy(0..old)?) },
        new_accuracy: accuracy(old..seen)?,
    })
}

/// Seconds by phase, and images by phase of training: the time up to an event went into what the event reports.
fn durations(lines: &[Line]) -> (BTreeMap<String, f64>, BTreeMap<String, usize>) {
    let (mut seconds, mut images) = (BTreeMap::<String, f64>::new(), BTreeMap::<String, usize>::new());
    let mut before = 0.0;
    for line in lines {
        let took = line.seconds - before;
        before = line.seconds;
        let name = match &line.event {
            Event::TaskStart { .. } | Event::RunEnd => "preparation",
            Event::TaskLearned { .. } => "memory",
            Event::TaskEnd { .. } => "evaluation",
            Event::Progress { phase, images: more, .. } => {
                let count = images.entry(phase.name().to_owned()).or_default();
                *count = count.saturating_add(*more);
                phase.name()
            }
        };
        *seconds.entry(name.to_owned()).or_default() += took;
    }
    (seconds, images)
}

#[cfg(test)]
mod tests;
