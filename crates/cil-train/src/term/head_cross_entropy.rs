//! Cross-entropy that moves the head alone (ABD).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::cross_entropy::{Divisor, cross_entropy, weighted_cross_entropy};
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::HeadCrossEntropy`].
#[derive(Debug)]
pub(super) struct HeadCrossEntropy {
    pub(super) rows: Rows,
    pub(super) balanced: bool,
}

impl Term for HeadCrossEntropy {
    fn name(&self) -> &'static str {
        "head-cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let features = narrow(&step.student.features, &rows)?.detach();
        let logits = step.head.forward(&features)?.logits;
        let labels = step.labels(&rows)?;
        if !self.balanced {
            return cross_entropy(&logits, &labels).map(Some);
        }
        let weights = step.balanced_weights(&rows, &logits)?;
        weighted_cross_entropy(&logits, &labels, None, Some(&weights), Divisor::Rows).map(Some)
    }
}
