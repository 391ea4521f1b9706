//! Features as the old teacher's head sees them (ABD's importance-weighted feature distillation).

use candle_core::{Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::features::old_head_feature_kd;
use crate::step::{Rows, Step};

/// Squared difference between what the old teacher's head makes of the student's features and of its own (ABD's
/// importance-weighted feature distillation); linear heads only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OldHead {
    /// Weight in the objective; 0.1 in ABD.
    pub weight: f64,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for OldHead {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, head: HeadKind) -> anyhow::Result<()> {
        if head.is_scaled() {
            anyhow::bail!("old-head compares the outputs of linear weights; use a head without cosines")
        }
        Ok(())
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
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
