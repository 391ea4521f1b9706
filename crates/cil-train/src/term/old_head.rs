//! Features as the old teacher's head sees them (ABD's importance-weighted feature distillation).

use candle_core::{Result, Tensor};

use super::{Term, narrow};
use crate::loss::features::old_head_feature_kd;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::OldHead`].
#[derive(Debug)]
pub(super) struct OldHead {
    pub(super) rows: Rows,
}

impl Term for OldHead {
    fn name(&self) -> &'static str {
        "old-head"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), Some(head), false) = (step.old, step.old_head, rows.is_empty()) else {
            return Ok(None);
        };
        old_head_feature_kd(&narrow(&step.student.features, &rows)?, &narrow(&old.features, &rows)?, head)
            .map(Some)
    }
}
