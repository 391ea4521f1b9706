//! Angles between images' features, distilled (Park et al. 2019; R-DFCIL).

use candle_core::{Result, Tensor, bail};
use cil_engine::{Init, ParameterKind, ParameterSpec};

use super::{Term, narrow};
use crate::loss::features::{Projections, angle_relation};
use crate::recipe::Rows;
use crate::step::Step;

/// The student's projection and the old teacher's.
const PROJECTIONS: [&str; 2] = ["relation.student", "relation.old"];

/// See [`crate::recipe::TermSpec::AngleRelation`].
#[derive(Debug)]
pub(super) struct AngleRelation {
    pub(super) rows: Rows,
    /// Width of the features.
    pub(super) width: usize,
    /// Width of the space that both are projected into; 0 without projections.
    pub(super) projected: usize,
}

impl Term for AngleRelation {
    fn name(&self) -> &'static str {
        "angle-relation"
    }

    fn values(&self) -> Vec<ParameterSpec> {
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
