//! Features keep their direction (LUCIR's less-forget constraint).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::features::less_forget;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::LessForget`].
#[derive(Debug)]
pub(super) struct LessForget {
    pub(super) adaptive: bool,
    pub(super) rows: Rows,
}

impl Term for LessForget {
    fn name(&self) -> &'static str {
        "less-forget"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let loss = less_forget(&narrow(&step.student.features, &rows)?, &narrow(&old.features, &rows)?)?;
        let new_classes = step.classes - step.old_classes;
        let factor = if self.adaptive { (step.old_classes as f64 / new_classes as f64).sqrt() } else { 1.0 };
        Ok(Some((loss * factor)?))
    }
}
