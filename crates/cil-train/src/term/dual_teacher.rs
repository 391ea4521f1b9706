//! Both teachers' logits, distilled at once (DT-ID at the output).

use candle_core::{Result, Tensor};
use cil_engine::uploads;
use dtid::dual::{DtidConfig, DualForm, Teacher, dual_teacher_kl};

use super::{Term, narrow};
use crate::loss::logits::logit_kd;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::DualTeacher`].
#[derive(Debug)]
pub(super) struct DualTeacher {
    pub(super) config: DtidConfig,
    /// Where the old teacher is followed.
    pub(super) rows: Rows,
    /// Where the new teacher is followed.
    pub(super) new_rows: Rows,
}

impl Term for DualTeacher {
    fn name(&self) -> &'static str {
        "dual-teacher"
    }

    fn asks_new_teacher_of_all(&self) -> bool {
        self.new_rows != Rows::New
    }

    /// With columns owned apart, each teacher speaks of its rows; one joint softmax needs both, so it speaks of the new
    /// teacher's rows only. In a task or a step without a new teacher's word, columns owned apart leave the old
    /// teacher's part.
    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(old) = step.old else { return Ok(None) };
        let student = &step.student.logits;
        let new = step.of_new_teacher(self.new_rows, |view| Some(&view.logits))?;
        match (&new, self.config.form) {
            (Some(new), DualForm::Joint { .. }) => {
                let rows = step.rows(self.new_rows);
                let old = narrow(&old.logits, &rows)?;
                let old = Teacher { logits: &old, rows: None };
                let new = Teacher { logits: new, rows: None };
                dual_teacher_kl(&narrow(student, &rows)?, old, new, &self.config)
            }
            (None, DualForm::Joint { .. }) => Ok(None),
            (Some(new), DualForm::Columns { .. }) => {
                let rows = step.rows(self.rows);
                let (logits, rows) = (narrow(&old.logits, &rows)?, indices(step, self.rows, student)?);
                let old = Teacher { logits: &logits, rows: rows.as_ref() };
                let rows = indices(step, self.new_rows, student)?;
                let new = Teacher { logits: new, rows: rows.as_ref() };
                dual_teacher_kl(student, old, new, &self.config)
            }
            (None, DualForm::Columns { old: weight, .. }) => {
                let rows = step.rows(self.rows);
                if rows.is_empty() {
                    return Ok(None);
                }
                let (student, old) = (narrow(student, &rows)?, narrow(&old.logits, &rows)?);
                Ok(Some((logit_kd(&student, &old, self.config.temperature)? * weight)?))
            }
        }
    }
}

/// Indices of `rows`, `None` for all.
fn indices(step: &Step<'_>, rows: Rows, student: &Tensor) -> Result<Option<Tensor>> {
    if rows == Rows::All {
        return Ok(None);
    }
    let indices: Vec<u32> = step.rows(rows).map(|row| row as u32).collect();
    uploads::constant(&indices, student.device()).map(Some)
}
