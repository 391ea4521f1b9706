//! The CUDA executor: cuDNN's convolutions and own kernels, on one NVIDIA GPU.
//!
//! A batch norm runs together with the addition and activation behind it; everything else is one kernel a node. All
//! work goes to one stream and the host waits for nothing: a pass returns before it has run. [`Precision`] says what
//! values are stored and multiplied as; weights, gradients of weights and all statistics are `f32` in every precision.
//!
//! docs/cuda.md says how to build it and what was measured.

mod backward;
#[expect(unsafe_code, reason = "cuDNN's interface in C")]
mod convolution;
#[expect(unsafe_code, reason = "the driver's interface in C")]
mod driver;
mod forward;
#[expect(unsafe_code, reason = "the driver's interface in C, and launches of kernels")]
mod gpu;
#[expect(unsafe_code, reason = "structures that are copied to the GPU")]
mod images;
mod inference;
#[expect(unsafe_code, reason = "structures that are copied to the GPU")]
mod launch;
pub(crate) mod measures;
#[expect(unsafe_code, reason = "memory on the GPU that nobody has written yet")]
mod memory;
mod plan;
mod singles;
mod steps;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Result;

pub use gpu::{Gpu, Number};
pub use images::{Colours, Picked, StoredImages};

use crate::executor::{Executor, ForwardSpec, Gradients, Pass, Tape, Upstream};
use crate::graph::Graph;
use crate::parameters::Parameters;
use gpu::Element;

pub(crate) use gpu::brought;
pub(crate) use steps::{Rates, blended, moved};

/// What values are stored and multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32` throughout, channels first: what is compared with the reference.
    Exact,
    /// `f32`, channels last; convolutions round their operands to TF32 (10 bits) and add in `f32`.
    Tf32,
    /// Maps and their gradients are stored in bf16 (8 bits), channels last; sums are in `f32`.
    Bf16,
}

impl Precision {
    fn element(self) -> Element {
        match self {
            Self::Exact | Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }

    fn channels_last(self) -> bool {
        self != Self::Exact
    }
}

/// Runs a graph on an NVIDIA GPU.
#[derive(Debug)]
pub struct CudaExecutor {
    graph: Graph,
    plan: plan::Plan,
    gpu: Gpu,
    precision: Precision,
    /// What was made of the parameters that were seen last.
    weights: Mutex<Option<Arc<weights::Weights>>>,
}

impl CudaExecutor {
    /// An executor on `gpu`, whose memory it shares with all others there.
    pub fn new(graph: Graph, gpu: &Gpu, precision: Precision) -> Self {
        let plan = plan::Plan::new(&graph, precision);
        Self { graph, plan, gpu: gpu.clone(), precision, weights: Mutex::default() }
    }

    /// What the parameters look like on the GPU; made once for each version of them.
    fn weights(&self, parameters: &Parameters) -> Result<Arc<weights::Weights>> {
        let mut known = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = known.as_ref().filter(|it| it.version() == parameters.version()) {
            return Ok(weights.clone());
        }
        // The old ones' memory serves the new ones.
        *known = None;
        let weights = Arc::new(weights::Weights::new(self, parameters)?);
        *known = Some(weights.clone());
        Ok(weights)
    }
}

impl Executor for CudaExecutor {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn forward(
        &self,
        parameters: &Parameters,
        input: &candle_core::Tensor,
        spec: ForwardSpec,
    ) -> Result<Pass> {
        forward::run(self, parameters, input, spec)
    }

    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<candle_core::Tensor>> {
        let state = tape.open::<forward::State>(parameters)?;
        backward::run(self, &state, upstream, into)
    }
}
