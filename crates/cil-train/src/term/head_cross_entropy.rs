//! Cross-entropy that moves the head alone (ABD).

use candle_core::{Result, Tensor};
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::cross_entropy::{Divisor, cross_entropy, weighted_cross_entropy};
use crate::step::{Rows, Step};

/// Cross-entropy over all classes seen that moves the head alone (ABD).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeadCrossEntropy {
    /// Weight in the objective; 0.5 in ABD, whose weights of rows are half of ours.
    pub weight: f64,
    /// Rows with a label to learn.
    pub rows: Rows,
    /// Whether rows are weighted so that every class counts the same.
    pub balanced: bool,
}

impl Settings for HeadCrossEntropy {
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

impl Term for HeadCrossEntropy {
    fn name(&self) -> &'static str {
        "head-cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let features = narrow(&step.student.features, &rows)?.detach();
        let logits = step.head.forward(&features)?.logits;
        let labels = step.labels(&rows)?;
        if !self.balanced {
            return cross_entropy(&logits, &labels).map(Some);
        }
        let weights = step.balanced_weights(&rows, &logits)?;
        weighted_cross_entropy(&logits, &labels, None, Some(&weights), Divisor::Rows).map(Some)
    }
}
