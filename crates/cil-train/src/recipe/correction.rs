//! Corrections of a head after the training of a later task.
//!
//! A correction ends in the head's own weights, so a corrected model is a model like any other: it is the next task's
//! old teacher, and the student continues from it.

use anyhow::{Result, bail};
use cil_backbone::align::Length;
use serde::{Deserialize, Serialize};

use super::{Columns, PhaseSpec, Recipe, Rows, Trained, Training};
use crate::term::CrossEntropy;

/// Weight aligning (WA, Zhao et al. 2020): the newest classes' logits times the mean length of old weight rows over
/// that of new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AlignSpec {
    /// How lengths are measured.
    pub length: Length,
    /// Whether new classes are never lengthened; so in the authors' code, not in the paper.
    pub shrink_only: bool,
    /// Whether head weights are kept from below 0 after every step, base classes' too; so in the authors' code, where
    /// features are not negative either.
    pub positive: bool,
}

/// Bias correction (BiC, Wu et al. 2019): the newest classes' logits times one number plus another, both learned on
/// images that no training saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BiasCorrectionSpec {
    /// Share of the budget that is held out, and of each new class as many images as of an old one; 0.1 in BiC.
    pub held_out: f64,
    /// How both numbers are trained. The weight decay is that of the second number alone; 0.1 in BiC's code.
    pub training: Training,
}

impl BiasCorrectionSpec {
    /// Images held out of each class, of `kept` images a class.
    pub fn held_out_of(&self, kept: usize) -> usize {
        // A share such as 0.1 has no exact form: 0.1 * 30 must be 3.
        (self.held_out * kept as f64 + 1e-9).floor() as usize
    }

    /// The phase that trains both numbers.
    pub fn phase(&self) -> PhaseSpec {
        PhaseSpec {
            trained: Trained::Correction,
            terms: vec![CrossEntropy::plain(Rows::Real, Columns::Seen).into()],
            training: self.training.clone(),
        }
    }

    /// Refuses a share that is none.
    ///
    /// # Errors
    /// Naming the key, its value and what would be right.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            bail!("bias-correction.held-out is {}; use a value between 0 and 1, such as 0.1", self.held_out);
        }
        super::check::check_training("bias-correction", &self.training)
    }
}

impl Recipe {
    /// Refuses exemplars of which a bias correction has nothing to hold out, in tasks of those sizes.
    ///
    /// # Errors
    /// Naming the keys, the first such task, and what would be right.
    pub(super) fn check_held_out(&self, sizes: &[usize]) -> Result<()> {
        let Some(spec) = &self.bias_correction else { return Ok(()) };
        let mut seen = 0;
        for (task, size) in sizes.iter().enumerate() {
            let kept = self.exemplars.per_class(seen);
            if task > 0 && spec.held_out_of(kept) == 0 {
                let enough = (1.0 / spec.held_out).ceil();
                bail!(
                    "bias-correction.held-out is {} of {kept} exemplars a class in task {}: that is no image; keep \
                     at least {enough} exemplars a class",
                    spec.held_out,
                    task + 1
                );
            }
            seen += size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cil_engine::optim::Schedule;

    use super::*;

    #[test]
    fn a_share_is_rounded_down() {
        let training = Training {
            epochs: 1,
            batch: 8,
            learning_rate: 0.1,
            schedule: Schedule::constant(),
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
            gradient_limit: None,
            drop_last: false,
        };
        let spec = BiasCorrectionSpec { held_out: 0.1, training };
        assert_eq!([9, 10, 19, 20, 30, 70].map(|kept| spec.held_out_of(kept)), [0, 1, 1, 2, 3, 7]);
    }
}
