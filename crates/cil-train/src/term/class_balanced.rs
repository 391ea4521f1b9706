//! Cross-entropy in which every class counts the same, by how many images of each there are (R-DFCIL).

use candle_core::{Result, Tensor, bail};
use cil_engine::uploads;

use super::{Term, narrow};
use crate::loss::cross_entropy::{Divisor, balanced_class_weights, weighted_cross_entropy};
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::ClassBalanced`].
#[derive(Debug)]
pub(super) struct ClassBalanced {
    pub(super) rows: Rows,
}

impl Term for ClassBalanced {
    fn name(&self) -> &'static str {
        "class-balanced"
    }

    fn counts_classes(&self) -> bool {
        true
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        if step.class_counts.len() != step.classes {
            bail!("{} classes were counted, there are {}", step.class_counts.len(), step.classes);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let labels = step.labels(&rows)?;
        let weights = balanced_class_weights(step.class_counts);
        let weights = uploads::constant(&weights, logits.device())?.to_dtype(logits.dtype())?;
        weighted_cross_entropy(&logits, &labels, Some(&weights), None, Divisor::Weights).map(Some)
    }
}
