//! PODNet's classification loss over the classes seen so far, plain or class-balanced.

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::nca::{NcaForm, nca};
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::Nca`].
#[derive(Debug)]
pub(super) struct Nca {
    pub(super) form: NcaForm,
    pub(super) rows: Rows,
    pub(super) balanced: bool,
}

impl Term for Nca {
    fn name(&self) -> &'static str {
        "nca"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let labels = step.labels(&rows)?;
        let mut per_row = nca(&logits, &labels, self.form, step.student.scale.as_ref())?;
        if self.balanced {
            per_row = (per_row * step.balanced_weights(&rows, &logits)?)?;
        }
        per_row.mean_all().map(Some)
    }
}
