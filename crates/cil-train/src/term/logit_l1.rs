//! Hard distillation of the old teacher's logits (R-DFCIL).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::logits::logit_l1;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::LogitL1`].
#[derive(Debug)]
pub(super) struct LogitL1 {
    pub(super) rows: Rows,
}

impl Term for LogitL1 {
    fn name(&self) -> &'static str {
        "logit-l1"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        logit_l1(&narrow(&step.student.logits, &rows)?, &narrow(&old.logits, &rows)?).map(Some)
    }
}
