//! The old teacher's maps, by their pooled outputs (PODNet).

use candle_core::{Result, Tensor, bail};
use cil_engine::Graph;
use serde::{Deserialize, Serialize};

use super::{ClassScale, MapGrads, Settings, Term, narrow, stage_maps};
use crate::loss::pod::pod_spatial;
use crate::step::{Rows, Step};

/// Distance between the student's and the old teacher's maps by their sums over width and over height, the mean
/// over all stages and over rows (POD-spatial of PODNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodSpatial {
    /// Weight before the factor below; 3 on CIFAR-100, 8 on ImageNet (PODNet's code).
    pub weight: f64,
    /// Whether the weight is multiplied by sqrt(classes seen / new classes), as PODNet does.
    pub adaptive: bool,
    /// Rows to agree on.
    pub rows: Rows,
}

impl Settings for PodSpatial {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn stages(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        let maps = stage_maps(graph, &[])?.into_iter().map(|(name, _)| name).collect();
        let scale = self.adaptive.then_some(ClassScale::SeenOverNew);
        Ok(Box::new(PooledMaps { maps, scale, rows: self.rows }))
    }
}

/// The term on a network's maps.
#[derive(Debug)]
struct PooledMaps {
    /// Taps of all stages.
    maps: Vec<String>,
    scale: Option<ClassScale>,
    rows: Rows,
}

impl Term for PooledMaps {
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
        let share = ClassScale::of(self.scale, step) / self.maps.len() as f64;
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
