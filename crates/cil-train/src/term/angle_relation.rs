//! Angles between images' features, distilled (Park et al. 2019; R-DFCIL).

use candle_core::{Result, Tensor, bail};
use cil_backbone::{HeadKind, POOLED};
use cil_engine::{Graph, Init, ParameterKind, ParameterSpec, Shape};
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::features::{Projections, angle_relation};
use crate::step::{Rows, Step};

/// Widest projection, in widths of the features; 2 in R-DFCIL.
const WIDEST_PROJECTION: usize = 64;
/// The student's projection and the old teacher's.
const PROJECTIONS: [&str; 2] = ["relation.student", "relation.old"];

/// Absolute difference between the angles that the student's and the old teacher's features form (R-DFCIL).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AngleRelation {
    /// Weight in the objective; 0.5 before the factor in R-DFCIL.
    pub weight: f64,
    /// Rows whose features form angles, three at a time.
    pub rows: Rows,
    /// Width of the learned space that each is projected into, in widths of the features; 0 for none, 2 in R-DFCIL.
    pub projection: usize,
}

impl Settings for AngleRelation {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        if self.projection > WIDEST_PROJECTION {
            anyhow::bail!("projection is {}; use a value from 0 to {WIDEST_PROJECTION}", self.projection)
        }
        Ok(())
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        let Some(Shape::Vector { width }) = graph.tap_shape(POOLED) else {
            bail!("the backbone returns no features")
        };
        Ok(Box::new(Angles { rows: self.rows, width, projected: self.projection * width }))
    }
}

/// The term on a network's features.
#[derive(Debug)]
struct Angles {
    rows: Rows,
    /// Width of the features.
    width: usize,
    /// Width of the space that both are projected into; 0 without projections.
    projected: usize,
}

impl Term for Angles {
    fn name(&self) -> &'static str {
        "angle-relation"
    }

    fn values(&self, _n_new: usize) -> Vec<ParameterSpec> {
        let spec = |name: &str| ParameterSpec {
            name: name.to_owned(),
            dims: vec![self.projected, self.width],
            kind: ParameterKind::Weight,
            init: Init::TorchDefault,
        };
        if self.projected == 0 { Vec::new() } else { PROJECTIONS.map(spec).into() }
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let (student, old) = (narrow(&step.student.features, &rows)?, narrow(&old.features, &rows)?);
        let projections = match PROJECTIONS.map(|name| step.aux_nets.get(name)) {
            _ if self.projected == 0 => None,
            [Some(student), Some(old)] => Some(Projections { student, old }),
            _ => bail!("the projections of angle-relation are missing"),
        };
        angle_relation(&student, &old, projections).map(Some)
    }
}
