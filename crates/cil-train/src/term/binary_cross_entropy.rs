//! Binary cross-entropy of every class, distilled for old ones (iCaRL).

use candle_core::{Result, Tensor};
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::binary::{binary_cross_entropy, distilled_targets};
use crate::step::{Rows, Step};

/// Binary cross-entropy of every class seen, summed over classes: with the old teacher's sigmoid for an old class,
/// with the label for a new one (iCaRL's classification and distillation in one).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BinaryCrossEntropy {
    /// Weight in the objective; 0.01 in iCaRL's code, which takes the mean over 100 outputs.
    pub weight: f64,
    /// Rows to learn.
    pub rows: Rows,
}

impl Settings for BinaryCrossEntropy {
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

impl Term for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "binary-cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let old = step.old.map(|old| narrow(&old.logits, &rows)).transpose()?;
        let targets = distilled_targets(&step.labels(&rows)?, old.as_ref(), step.classes, &logits)?;
        binary_cross_entropy(&logits, &targets).map(Some)
    }
}
