//! Both teachers' logits, distilled at once (DT-ID at the output).

use candle_core::{Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use cil_engine::uploads;
use dtid::dual::{DtidConfig, DualForm, Teacher, dual_teacher_kl};
use serde::{Deserialize, Serialize};

use super::{Settings, Term, defaults, narrow};
use crate::loss::logits::logit_kd;
use crate::step::{Rows, Step};

/// KL of both teachers on the logits (DT-ID at the output).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DualTeacher {
    /// Weight in the objective.
    pub weight: f64,
    /// Form and temperature.
    pub config: DtidConfig,
    /// Rows on which the old teacher is followed; `all` where it is not written. Not of the joint form, which
    /// follows both teachers on the rows of the new one.
    #[serde(default = "defaults::all", skip_serializing_if = "defaults::is_all")]
    pub rows: Rows,
    /// Rows on which the new teacher is followed; `new` where it is not written, the images that it was trained on.
    #[serde(default = "defaults::new", skip_serializing_if = "defaults::is_new")]
    pub new_rows: Rows,
}

impl Settings for DualTeacher {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows, self.new_rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        if matches!(self.config.form, DualForm::Joint { .. }) && self.rows != Rows::All {
            anyhow::bail!("form is \"joint\", which follows both teachers on new-rows; leave rows out")
        }
        self.config.check().map_err(|error| anyhow::anyhow!("config.{error}"))
    }

    fn needs_new_teacher(&self) -> bool {
        true
    }

    fn temperature(&self) -> Option<(&'static str, f64)> {
        Some(("config.temperature", self.config.temperature))
    }

    fn factors(&self) -> Vec<(&'static str, f64)> {
        match self.config.form {
            DualForm::Columns { old, new } => {
                vec![("config.form.columns.old", old), ("config.form.columns.new", new)]
            }
            DualForm::Joint { weight, .. } => vec![("config.form.joint.weight", weight)],
        }
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
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
