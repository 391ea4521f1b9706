//! Both teachers' logits, distilled at once (DT-ID at the output).

use candle_core::{Result, Tensor};
use dtid::dual::{DtidConfig, DualForm, Teacher, dual_teacher_kl};

use super::{Term, narrow};
use crate::loss::logits::logit_kd;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::DualTeacher`].
#[derive(Debug)]
pub(super) struct DualTeacher {
    pub(super) config: DtidConfig,
}

impl Term for DualTeacher {
    fn name(&self) -> &'static str {
        "dual-teacher"
    }

    /// With columns owned apart, the old teacher speaks of every row and the new one of the new rows; one joint softmax
    /// needs both, so it speaks of the new rows only. In a task or a step without a new teacher's word, columns owned
    /// apart leave the old teacher's part.
    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(old) = step.old else { return Ok(None) };
        let student = &step.student.logits;
        match (step.new, self.config.form) {
            (Some(new), DualForm::Joint { .. }) => {
                let old = narrow(&old.logits, &step.new_rows)?;
                let old = Teacher { logits: &old, rows: None };
                let new = Teacher { logits: &new.logits, rows: None };
                dual_teacher_kl(&narrow(student, &step.new_rows)?, old, new, &self.config)
            }
            (None, DualForm::Joint { .. }) => Ok(None),
            (Some(new), DualForm::Columns { .. }) => {
                let rows: Vec<u32> = step.new_rows.clone().map(|row| row as u32).collect();
                let rows = Tensor::new(rows.as_slice(), student.device())?;
                let old = Teacher { logits: &old.logits, rows: None };
                dual_teacher_kl(
                    student,
                    old,
                    Teacher { logits: &new.logits, rows: Some(&rows) },
                    &self.config,
                )
            }
            (None, DualForm::Columns { old: weight, .. }) => {
                let kl = logit_kd(student, &old.logits, self.config.temperature)?;
                Ok(Some((kl * weight)?))
            }
        }
    }
}
