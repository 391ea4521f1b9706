//! Binary cross-entropy of every class, distilled for old ones (iCaRL).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::binary::{binary_cross_entropy, distilled_targets};
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::BinaryCrossEntropy`].
#[derive(Debug)]
pub(super) struct BinaryCrossEntropy {
    pub(super) rows: Rows,
}

impl Term for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "binary-cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let old = step.old.map(|old| narrow(&old.logits, &rows)).transpose()?;
        let targets = distilled_targets(&step.labels(&rows)?, old.as_ref(), step.classes, &logits)?;
        binary_cross_entropy(&logits, &targets).map(Some)
    }
}
