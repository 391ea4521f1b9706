//! The old teacher's prediction among all classes seen (ABD's comparison DeepInversion).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::logits::global_kd;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::GlobalKd`].
#[derive(Debug)]
pub(super) struct GlobalKd {
    pub(super) temperature: f64,
    pub(super) rows: Rows,
}

impl Term for GlobalKd {
    fn name(&self) -> &'static str {
        "global-kd"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        global_kd(&narrow(&step.student.logits, &rows)?, &narrow(&old.logits, &rows)?, self.temperature)
            .map(Some)
    }
}
