//! Old features held where they matter to the old model's answers (EFC).

use candle_core::{Result, Tensor, bail};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use cil_engine::bounds::positive;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::features::elastic;
use crate::step::{Rows, Step};

/// Mean of `d (lambda E + damping) d'`, `d` being how far the student's features are from the old teacher's and `E` the
/// empirical feature matrix that was kept of the task before: directions that matter to the old head's answers are held
/// by lambda, all by the damping (EFC, Magistri et al. 2024).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ElasticFeatures {
    /// Weight in the objective; 1 in EFC.
    pub weight: f64,
    /// Rows whose features are held.
    pub rows: Rows,
    /// What the feature matrix counts; 10 in EFC.
    pub lambda: f64,
    /// What every direction counts; 0.1 in EFC.
    pub damping: f64,
}

impl Settings for ElasticFeatures {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn needs_feature_matrix(&self) -> bool {
        true
    }

    fn check(&self, head: HeadKind) -> anyhow::Result<()> {
        if !matches!(head, HeadKind::Linear | HeadKind::WithoutBias) {
            anyhow::bail!(
                "elastic-features is of a linear head, and the recipe's is {head:?}; use head = \"linear\" or \
                 \"without-bias\""
            );
        }
        positive("lambda", self.lambda, 1e6)?;
        Ok(positive("damping", self.damping, 1e6)?)
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for ElasticFeatures {
    fn name(&self) -> &'static str {
        "elastic-features"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let Some(matrix) = step.feature_matrix else {
            bail!("no feature matrix was kept of the task before")
        };
        let (student, old) = (narrow(&step.student.features, &rows)?, narrow(&old.features, &rows)?);
        elastic(&student, &old, matrix, (self.lambda, self.damping)).map(Some)
    }
}
