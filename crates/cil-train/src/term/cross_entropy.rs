//! Cross-entropy over the classes seen so far or the new ones, plain or class-balanced.

use candle_core::{DType, Result, Tensor};

use super::{Term, narrow};
use crate::loss::cross_entropy::smoothed_cross_entropy;
use crate::recipe::{Columns, Rows};
use crate::step::Step;

/// See [`crate::recipe::TermSpec::CrossEntropy`].
#[derive(Debug)]
pub(super) struct CrossEntropy {
    pub(super) rows: Rows,
    pub(super) columns: Columns,
    pub(super) balanced: bool,
    pub(super) smoothing: f64,
}

impl Term for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let mut logits = narrow(&step.student.logits, &rows)?;
        let mut labels = step.labels(&rows)?;
        if self.columns == Columns::New && step.old_classes > 0 {
            logits = logits.narrow(1, step.old_classes, step.classes - step.old_classes)?;
            labels = (labels.to_dtype(DType::I64)? - step.old_classes as f64)?.to_dtype(DType::U32)?;
        }
        let weights = if self.balanced { Some(step.balanced_weights(&rows, &logits)?) } else { None };
        smoothed_cross_entropy(&logits, &labels, weights.as_ref(), self.smoothing).map(Some)
    }
}
