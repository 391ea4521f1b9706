//! Features that keep their dimensions (AdaGauss's anti-collapse).

use candle_core::{Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::features::anti_collapse;
use crate::step::{Rows, Step};

/// Minus the mean diagonal of the Cholesky factor of the features' covariance in the batch, each element counting up to
/// a limit: features that use few of their dimensions have small ones (AdaGauss, Rypesc et al. 2024). In a step with
/// fewer rows than it needs, one more than features, it is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AntiCollapse {
    /// Weight in the objective; 1 in AdaGauss.
    pub weight: f64,
    /// Rows whose features have the covariance.
    pub rows: Rows,
    /// Above which an element of the diagonal no longer counts; 1 in AdaGauss.
    pub limit: f64,
}

impl Settings for AntiCollapse {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        Ok(cil_engine::bounds::positive("limit", self.limit, 1e6)?)
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for AntiCollapse {
    fn name(&self) -> &'static str {
        "anti-collapse"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let features = &step.student.features;
        if rows.len() <= features.dim(1)? {
            return Ok(None);
        }
        anti_collapse(&narrow(features, &rows)?, self.limit).map(Some)
    }
}
