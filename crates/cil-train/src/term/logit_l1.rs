//! Hard distillation of the old teacher's logits (R-DFCIL).

use candle_core::{Result, Tensor};
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::logits::logit_l1;
use crate::step::{Rows, Step};

/// Mean absolute difference to the old teacher's logits on its columns (R-DFCIL's hard distillation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogitL1 {
    /// Weight in the objective; 0.15 before the factor in R-DFCIL.
    pub weight: f64,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for LogitL1 {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
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
