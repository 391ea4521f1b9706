//! Both teachers' centred logits, regressed by the student's (DMC).

use candle_core::{Result, Tensor, bail};
use cil_engine::Graph;
use dtid::regression::{Centring, double_logit_regression};
use serde::{Deserialize, Serialize};

use super::{Settings, Term};
use crate::step::{Rows, Step};

/// Squared difference to both teachers' centred logits, on every row (DMC's double distillation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DoubleRegression {
    /// Weight in the objective; 1 in DMC.
    pub weight: f64,
    /// The mean that is subtracted from the teachers' logits.
    pub centring: Centring,
}

impl Settings for DoubleRegression {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        Vec::new()
    }

    fn needs_new_teacher(&self) -> bool {
        true
    }

    fn applies_without_new_teacher(&self) -> bool {
        false
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for DoubleRegression {
    fn name(&self) -> &'static str {
        "double-regression"
    }

    fn asks_new_teacher_of_all(&self) -> bool {
        true
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(old) = step.old else { return Ok(None) };
        let Some(new) = step.new_of_all else { bail!("double-regression needs both teachers on every row") };
        double_logit_regression(&step.student.logits, &old.logits, &new.logits, self.centring).map(Some)
    }
}
