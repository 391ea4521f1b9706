//! Features distilled through a small network of the term's own (AdaGauss).

use candle_core::{Result, Tensor, bail};
use cil_backbone::{HeadKind, POOLED};
use cil_engine::{Graph, Init, ParameterKind, ParameterSpec, Shape};
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::features::{Projector, projected_kd};
use crate::step::{Rows, Step};

/// Widest hidden layer, in widths of the features; 32 in AdaGauss.
const WIDEST: usize = 256;
/// Weights and biases of both layers.
const VALUES: [&str; 4] =
    ["projected-kd.1.weight", "projected-kd.1.bias", "projected-kd.2.weight", "projected-kd.2.bias"];

/// Mean squared difference between the old teacher's features and what a trained network of one hidden layer makes of
/// the student's: the student may move its features as long as the old ones can be computed from them (projected
/// distillation, AdaGauss, Rypesc et al. 2024).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProjectedKd {
    /// Weight in the objective; 10 in AdaGauss.
    pub weight: f64,
    /// Rows to agree on.
    pub rows: Rows,
    /// Width of the hidden layer, in widths of the features; 32 in AdaGauss.
    pub hidden: usize,
}

impl Settings for ProjectedKd {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        if !(1..=WIDEST).contains(&self.hidden) {
            anyhow::bail!("hidden is {}; use a value from 1 to {WIDEST}", self.hidden)
        }
        Ok(())
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        let Some(Shape::Vector { width }) = graph.tap_shape(POOLED) else {
            bail!("the backbone returns no features")
        };
        Ok(Box::new(Projected { rows: self.rows, width, hidden: self.hidden * width }))
    }
}

/// The term on a network's features.
#[derive(Debug)]
struct Projected {
    rows: Rows,
    /// Width of the features.
    width: usize,
    /// Width of the hidden layer.
    hidden: usize,
}

impl Term for Projected {
    fn name(&self) -> &'static str {
        "projected-kd"
    }

    fn values(&self, _n_new: usize) -> Vec<ParameterSpec> {
        let spec = |name: &str, dims: &[usize], init| ParameterSpec {
            name: name.to_owned(),
            dims: dims.to_vec(),
            kind: ParameterKind::Weight,
            init,
        };
        let [first, first_bias, second, second_bias] = VALUES;
        // As PyTorch's linear layers begin.
        let bias = |inputs: usize| Init::Uniform { bound: (inputs as f64).sqrt().recip() };
        vec![
            spec(first, &[self.hidden, self.width], Init::TorchDefault),
            spec(first_bias, &[self.hidden], bias(self.width)),
            spec(second, &[self.width, self.hidden], Init::TorchDefault),
            spec(second_bias, &[self.width], bias(self.hidden)),
        ]
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        let (Some(old), false) = (step.old, rows.is_empty()) else { return Ok(None) };
        let [Some(first), Some(first_bias), Some(second), Some(second_bias)] =
            VALUES.map(|name| step.aux_nets.get(name))
        else {
            bail!("the network of projected-kd is missing")
        };
        let projector = Projector { layers: [(first, first_bias), (second, second_bias)] };
        projected_kd(&narrow(&step.student.features, &rows)?, &narrow(&old.features, &rows)?, &projector)
            .map(Some)
    }
}
