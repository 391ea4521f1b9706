//! Rotations of new images as labels (Lee et al. 2020; PASS, Zhu et al. 2021).

use candle_core::{DType, Result, Tensor, bail};
use cil_backbone::POOLED;
use cil_engine::{Graph, Init, ParameterKind, ParameterSpec, Shape};
use serde::{Deserialize, Serialize};

use super::{Settings, Term, narrow};
use crate::loss::rotation::{TURNS, rotation};
use crate::step::{Rows, Step};

/// The classifier of classes and turns.
const VALUES: [&str; 2] = ["rotation.weight", "rotation.bias"];

/// Cross-entropy of a classifier of the term's own on which new class an image has and by how many right angles it is
/// turned. The student computes features of each new image upright and turned by one, two and three right angles, so a
/// step costs four times as much. The classifier has new weights in each task and is dropped after it; the method's
/// head classifies upright images alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rotation {
    /// Weight in the objective.
    pub weight: f64,
}

impl Settings for Rotation {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![Rows::New]
    }

    fn turns_images(&self) -> bool {
        true
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        let Some(Shape::Vector { width }) = graph.tap_shape(POOLED) else {
            bail!("the backbone returns no features")
        };
        Ok(Box::new(Turned { width }))
    }
}

/// The term on a network's features.
#[derive(Debug)]
struct Turned {
    /// Width of the features.
    width: usize,
}

impl Term for Turned {
    fn name(&self) -> &'static str {
        "rotation"
    }

    fn values(&self, n_new: usize) -> Vec<ParameterSpec> {
        let (kind, columns) = (ParameterKind::Weight, TURNS * n_new);
        let [weight, bias] = VALUES.map(str::to_owned);
        // As PyTorch's linear layers begin.
        let bound = (self.width as f64).sqrt().recip();
        vec![
            ParameterSpec { name: weight, dims: vec![columns, self.width], kind, init: Init::TorchDefault },
            ParameterSpec { name: bias, dims: vec![columns], kind, init: Init::Uniform { bound } },
        ]
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let (rows, Some(turned)) = (step.rows(Rows::New), step.turned) else { return Ok(None) };
        let [Some(weight), Some(bias)] = VALUES.map(|name| step.aux_nets.get(name)) else {
            bail!("the classifier of rotation is missing")
        };
        let labels = (step.labels(&rows)?.to_dtype(DType::I64)? - step.old_classes as f64)?;
        let features = narrow(&step.student.features, &rows)?;
        rotation(&features, turned, &labels.to_dtype(DType::U32)?, weight, bias).map(Some)
    }
}
