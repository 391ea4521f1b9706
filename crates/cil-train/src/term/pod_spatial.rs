//! The old teacher's maps, by their pooled outputs (PODNet).

use candle_core::{Result, Tensor, bail};

use super::{MapSlopes, Term};
use crate::loss::pod::pod_spatial;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::PodSpatial`].
#[derive(Debug)]
pub(super) struct PodSpatial {
    /// Taps of all stages.
    pub(super) maps: Vec<String>,
    pub(super) adaptive: bool,
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

    /// On every row: the mean over stages, times the factor.
    fn loss_on_maps(&self, step: &Step<'_>, weight: f64, slopes: &mut MapSlopes) -> Result<Option<Tensor>> {
        let Some(old) = step.old else { return Ok(None) };
        let new_classes = step.classes - step.old_classes;
        let factor = if self.adaptive { (step.classes as f64 / new_classes as f64).sqrt() } else { 1.0 };
        let share = factor / self.maps.len() as f64;
        let mut sum: Option<Tensor> = None;
        for name in &self.maps {
            let (Some(map), Some(target)) = (step.student.maps.get(name), old.maps.get(name)) else {
                bail!("student or teacher hands out no {name}")
            };
            let (loss, slope) = pod_spatial(map, target, weight * share)?;
            slopes.maps.push((name.clone(), 0..step.labels.len(), slope));
            sum = Some(match sum {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        sum.map(|sum| sum * share).transpose()
    }
}
