//! Features keep their direction (LUCIR's less-forget constraint, PODNet's POD-flat).

use candle_core::{Result, Tensor};

use super::{Growth, Term, narrow};
use crate::loss::features::less_forget;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::LessForget`] and [`crate::recipe::TermSpec::PodFlat`].
#[derive(Debug)]
pub(super) struct LessForget {
    pub(super) name: &'static str,
    pub(super) growth: Growth,
    pub(super) rows: Rows,
}

impl Term for LessForget {
    fn name(&self) -> &'static str {
        self.name
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let loss = less_forget(&narrow(&step.student.features, &rows)?, &narrow(&old.features, &rows)?)?;
        Ok(Some((loss * self.growth.factor(step))?))
    }
}
