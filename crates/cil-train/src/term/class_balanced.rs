//! Cross-entropy in which every class counts the same, by how many images of each there are (R-DFCIL).

use candle_core::{Result, Tensor, bail};
use cil_engine::Graph;
use cil_engine::uploads;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::cross_entropy::{Divisor, balanced_class_weights, weighted_cross_entropy};
use crate::step::{Rows, Step};

/// Cross-entropy over all classes seen in which every class counts the same, by how many images of each an epoch
/// sees (R-DFCIL's refinement of the head).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassBalanced {
    /// Weight in the objective; 0.5 in R-DFCIL.
    pub weight: f64,
    /// Rows with a label to learn.
    pub rows: Rows,
}

impl Settings for ClassBalanced {
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

impl Term for ClassBalanced {
    fn name(&self) -> &'static str {
        "class-balanced"
    }

    fn counts_classes(&self) -> bool {
        true
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        if step.class_counts.len() != step.classes {
            bail!("{} classes were counted, there are {}", step.class_counts.len(), step.classes);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let labels = step.labels(&rows)?;
        let weights = balanced_class_weights(step.class_counts);
        let weights = uploads::constant(&weights, logits.device())?.to_dtype(logits.dtype())?;
        weighted_cross_entropy(&logits, &labels, Some(&weights), None, Divisor::Weights).map(Some)
    }
}
