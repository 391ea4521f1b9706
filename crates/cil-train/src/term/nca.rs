//! PODNet's classification loss over the classes seen so far, plain or class-balanced.

use candle_core::{Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use cil_engine::bounds::within;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::nca::{NcaForm, nca};
use crate::step::{Rows, Step};

/// PODNet's classification loss on the labels, over all classes seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nca {
    /// Weight in the objective; 1 in PODNet.
    pub weight: f64,
    /// The released code's, or the paper's.
    pub form: NcaForm,
    /// Rows with a label to learn.
    pub rows: Rows,
    /// Whether rows are weighted so that every class counts the same.
    pub balanced: bool,
}

impl Settings for Nca {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, head: HeadKind) -> anyhow::Result<()> {
        let NcaForm::Paper { margin } = self.form else { return Ok(()) };
        if !head.is_scaled() {
            anyhow::bail!(
                "form is \"paper\"; its margin is between cosines, so set head to \"cosine\" or \"multi-proxy\""
            )
        }
        // Cosines are at most 2 apart.
        Ok(within("form.paper.margin", margin, -2.0, 2.0)?)
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for Nca {
    fn name(&self) -> &'static str {
        "nca"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let logits = narrow(&step.student.logits, &rows)?;
        let labels = step.labels(&rows)?;
        let mut per_row = nca(&logits, &labels, self.form, step.student.scale.as_ref())?;
        if self.balanced {
            per_row = (per_row * step.balanced_weights(&rows, &logits)?)?;
        }
        per_row.mean_all().map(Some)
    }
}
