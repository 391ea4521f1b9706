//! Images of every class in an epoch.
//!
//! One decision: real images are counted and generated ones estimated from a sample of their own, so that weights by these
//! counts are a function of (seed, task, kind) and the same in every epoch.

use anyhow::Result;
use cil_random::Draw;

use super::{Job, Source, Surroundings};
use crate::means::INFERENCE_BATCH;

/// Generated images that are counted for each old class, on average.
const COUNTED_PER_CLASS: usize = 100;

impl Job {
    /// Counts, at least 1, by class; empty where no term asks for them.
    pub(super) fn class_counts(&self, around: &Surroundings<'_>, draw: Draw<'_>) -> Result<Vec<usize>> {
        if !self.objective.counts_classes() {
            return Ok(Vec::new());
        }
        let mut counts = vec![0; self.columns.len()];
        let batch = self.spec.training.batch;
        let steps = match &self.source {
            Source::Samples(samples) => {
                for sample in samples {
                    counts[around.train.class_of(*sample) - self.columns.start] += 1;
                }
                samples.len().div_ceil(batch)
            }
            Source::Generated { steps } => *steps,
        };
        if let Some((replay, spec)) = &around.replay {
            let mut found = vec![0usize; counts.len()];
            let draws = (self.n_old * COUNTED_PER_CLASS).div_ceil(INFERENCE_BATCH);
            for position in 0..draws as u64 {
                let purpose = "class counts";
                let images = replay.sample(INFERENCE_BATCH, Draw { purpose, position, ..draw })?;
                for label in images.labels.to_vec()? {
                    found[label as usize] += 1;
                }
            }
            let share = (steps * spec.batch) as f64 / (draws * INFERENCE_BATCH) as f64;
            for (count, found) in counts.iter_mut().zip(found) {
                *count += (found as f64 * share).round() as usize;
            }
        }
        Ok(counts.into_iter().map(|count| count.max(1)).collect())
    }
}
