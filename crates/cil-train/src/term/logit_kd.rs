//! Distillation of the old teacher's logits (Li & Hoiem 2016).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::logits::logit_kd;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::LogitKd`].
#[derive(Debug)]
pub(super) struct LogitKd {
    pub(super) temperature: f64,
    pub(super) rows: Rows,
}

impl Term for LogitKd {
    fn name(&self) -> &'static str {
        "logit-kd"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        logit_kd(&narrow(&step.student.logits, &rows)?, &narrow(&old.logits, &rows)?, self.temperature)
            .map(Some)
    }
}
