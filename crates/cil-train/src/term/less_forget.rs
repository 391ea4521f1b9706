//! Features keep their direction (LUCIR's less-forget constraint, PODNet's POD-flat).

use candle_core::{Result, Tensor};
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{ClassScale, Settings, Term, narrow};
use crate::loss::features::less_forget;
use crate::step::{Rows, Step};

/// One minus the cosine between the student's and the old teacher's features (LUCIR).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LessForget {
    /// Weight before the factor below; 5 on CIFAR-100, 10 on ImageNet (LUCIR's code).
    pub weight: f64,
    /// Whether the weight is multiplied by sqrt(old classes / new classes), as LUCIR does.
    pub adaptive: bool,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for LessForget {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        let scale = self.adaptive.then_some(ClassScale::OldOverNew);
        Ok(Box::new(SameDirection { name: "less-forget", scale, rows: self.rows }))
    }
}

/// The same by PODNet (POD-flat), whose weight grows otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodFlat {
    /// Weight before the factor below; 1 on CIFAR-100, 10 on ImageNet (PODNet's code).
    pub weight: f64,
    /// Whether the weight is multiplied by sqrt(classes seen / new classes), as PODNet does.
    pub adaptive: bool,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for PodFlat {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        let scale = self.adaptive.then_some(ClassScale::SeenOverNew);
        Ok(Box::new(SameDirection { name: "pod-flat", scale, rows: self.rows }))
    }
}

/// Either term.
#[derive(Debug)]
struct SameDirection {
    name: &'static str,
    scale: Option<ClassScale>,
    rows: Rows,
}

impl Term for SameDirection {
    fn name(&self) -> &'static str {
        self.name
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let loss = less_forget(&narrow(&step.student.features, &rows)?, &narrow(&old.features, &rows)?)?;
        Ok(Some((loss * ClassScale::of(self.scale, step))?))
    }
}
