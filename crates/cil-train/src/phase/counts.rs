//! Images of every class in an epoch.
//!
//! Real images are counted and generated ones estimated from a sample of their own, so that weights by these counts are
//! a function of (seed, task, kind) and the same in every epoch.

use anyhow::Result;
use cil_random::Draw;
use dfgr::Replay;

use super::{Job, PhaseContext, Source};
use crate::means::INFERENCE_BATCH;

/// Generated images that are counted for each class, on average.
const COUNTED_PER_CLASS: usize = 100;

impl Job {
    /// Counts, at least 1, by class; empty where no term asks for them.
    pub(super) fn class_counts(&self, context: &PhaseContext<'_>, draw: Draw<'_>) -> Result<Vec<usize>> {
        if !self.objective.counts_classes() {
            return Ok(Vec::new());
        }
        let mut counts = vec![0; self.columns.len()];
        let training = &self.spec.training;
        let batch = training.batch;
        let drawn = |replay: &Replay, classes: usize, purpose: &str, images: usize| -> Result<Vec<usize>> {
            let mut found = vec![0usize; classes];
            let draws = (classes * COUNTED_PER_CLASS).div_ceil(INFERENCE_BATCH);
            for position in 0..draws as u64 {
                let images = replay.sample(INFERENCE_BATCH, Draw { purpose, position, ..draw })?;
                for label in images.labels.to_vec()? {
                    found[label as usize] += 1;
                }
            }
            let share = images as f64 / (draws * INFERENCE_BATCH) as f64;
            Ok(found.into_iter().map(|found| (found as f64 * share).round() as usize).collect())
        };
        let steps = match &self.source {
            Source::Samples(samples) => {
                for sample in samples {
                    counts[context.train.class_of(*sample) - self.columns.start] += 1;
                }
                let steps = training.steps(samples.len());
                if steps * batch < samples.len() {
                    let share = (steps * batch) as f64 / samples.len() as f64;
                    counts.iter_mut().for_each(|count| *count = (*count as f64 * share).round() as usize);
                }
                steps
            }
            Source::Generated { steps } => *steps,
        };
        if let Some((replay, spec)) = &self.teachers.replay {
            let found = drawn(replay, self.n_old, "class counts", steps * spec.batch)?;
            counts.iter_mut().zip(found).for_each(|(count, found)| *count += found);
        }
        if let Some(pool) = &self.teachers.adversarial {
            let found = pool.counts(self.n_old, steps);
            counts.iter_mut().zip(found).for_each(|(count, found)| *count += found);
        }
        if let Some(replay) = &self.teachers.new_replay {
            let found = drawn(replay, self.columns.len() - self.n_old, "new class counts", steps * batch)?;
            counts[self.n_old..].iter_mut().zip(found).for_each(|(count, found)| *count += found);
        }
        Ok(counts.into_iter().map(|count| count.max(1)).collect())
    }
}
