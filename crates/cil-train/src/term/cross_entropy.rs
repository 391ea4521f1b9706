//! Cross-entropy over the classes seen so far or the new ones, plain or class-balanced.

use candle_core::{DType, Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use cil_engine::bounds::within;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, defaults, narrow};
use crate::loss::cross_entropy::smoothed_cross_entropy;
use crate::step::{Rows, Step};

/// Which classes compete in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Columns {
    /// All classes seen so far.
    Seen,
    /// This task's classes; only for rows of these classes.
    New,
}

/// Cross-entropy on the labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CrossEntropy {
    /// Weight in the objective.
    pub weight: f64,
    /// Rows with a label to learn.
    pub rows: Rows,
    /// Classes that compete.
    pub columns: Columns,
    /// Whether rows are weighted so that every class counts the same (ABD, R-DFCIL).
    pub balanced: bool,
    /// Label smoothing: this share of a row's target is spread over all classes that compete, the label's too
    /// (PyTorch's `label_smoothing`); 0 where it is not written.
    #[serde(default, skip_serializing_if = "defaults::is_zero")]
    pub smoothing: f64,
}

impl CrossEntropy {
    /// With weight 1, every row counting the same, and no smoothing.
    pub fn plain(rows: Rows, columns: Columns) -> Self {
        Self { weight: 1.0, rows, columns, balanced: false, smoothing: 0.0 }
    }
}

impl Settings for CrossEntropy {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        if self.columns == Columns::New && self.rows != Rows::New {
            anyhow::bail!("columns is \"new\" and rows is not; only rows \"new\" have their label among them")
        }
        Ok(within("smoothing", self.smoothing, 0.0, 0.9)?)
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let mut logits = narrow(&step.student.logits, &rows)?;
        let mut labels = step.labels(&rows)?;
        if self.columns == Columns::New && step.old_classes > 0 {
            logits = logits.narrow(1, step.old_classes, step.classes - step.old_classes)?;
            labels = (labels.to_dtype(DType::I64)? - step.old_classes as f64)?.to_dtype(DType::U32)?;
        }
        let weights = if self.balanced { Some(step.balanced_weights(&rows, &logits)?) } else { None };
        smoothed_cross_entropy(&logits, &labels, weights.as_ref(), self.smoothing).map(Some)
    }
}
