//! Distillation of the old teacher's logits (Li & Hoiem 2016).

use candle_core::{Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use dtid::kl::check_temperature;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::logits::logit_kd;
use crate::step::{Rows, Step};

/// KL to the old teacher on its columns (LwF).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogitKd {
    /// Weight in the objective.
    pub weight: f64,
    /// Softmax temperature of both sides.
    pub temperature: f64,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for LogitKd {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        Ok(check_temperature(self.temperature)?)
    }

    fn temperature(&self) -> Option<(&'static str, f64)> {
        Some(("temperature", self.temperature))
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
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
