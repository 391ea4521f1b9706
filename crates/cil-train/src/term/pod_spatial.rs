//! The old teacher's maps, by their pooled outputs (PODNet).

use candle_core::{Result, Tensor, bail};

use super::{Growth, MapGrads, Term, narrow};
use crate::loss::pod::pod_spatial;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::PodSpatial`].
#[derive(Debug)]
pub(super) struct PodSpatial {
    /// Taps of all stages.
    pub(super) maps: Vec<String>,
    pub(super) growth: Growth,
    pub(super) rows: Rows,
}

impl Term for PodSpatial {
    fn name(&self) -> &'static str {
        "pod-spatial"
    }

    fn loss(&self, _step: &Step<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn maps(&self) -> Vec<String> {
        self.maps.clone()
    }

    /// The mean over stages, times the factor.
    fn loss_on_maps(&self, step: &Step<'_>, weight: f64, grads: &mut MapGrads) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let share = self.growth.factor(step) / self.maps.len() as f64;
        let mut sum: Option<Tensor> = None;
        for name in &self.maps {
            let (Some(map), Some(target)) = (step.student.maps.get(name), old.maps.get(name)) else {
                bail!("student or teacher returns no {name}")
            };
            let (loss, grad) = pod_spatial(&narrow(map, &rows)?, &narrow(target, &rows)?, weight * share)?;
            grads.maps.push((name.clone(), rows.clone(), grad));
            sum = Some(match sum {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        sum.map(|sum| sum * share).transpose()
    }
}
