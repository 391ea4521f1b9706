//! The CUDA executor: cuDNN's convolutions and own kernels, on one NVIDIA GPU.
//!
//! A batch norm runs together with the addition and activation behind it; everything else is one kernel a node. All
//! work goes to one stream and the host waits for nothing: a pass returns before it has run. [`Precision`] says what
//! values are stored and multiplied as; weights, gradients of weights and all statistics are `f32` in every precision.
//!
//! docs/cuda-design.md says how it works, docs/cuda.md how to build it and what was measured.

mod aside;
mod backward;
#[expect(unsafe_code, reason = "a captured graph is the driver's")]
mod captures;
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
#[expect(unsafe_code, reason = "cuBLAS's interface in C")]
mod libraries;
pub(crate) mod measures;
#[expect(unsafe_code, reason = "memory on the GPU that nobody has written yet")]
mod memory;
#[expect(unsafe_code, reason = "NCCL's interface in C")]
mod nccl;
#[expect(unsafe_code, reason = "page-locked memory that the GPU reads")]
mod pinned;
mod plan;
#[expect(unsafe_code, reason = "memory that nobody has written yet")]
pub(crate) mod rows;
mod shares;
mod singles;
mod steps;
#[expect(unsafe_code, reason = "the driver's interface in C, and memory that nobody has written yet")]
mod tensors;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{Error, Result};

pub(crate) use captures::Captures;
pub use convolution::Refusals;
pub use gpu::Gpu;
pub use images::{Colours, Picked, StoredImages};
pub use libraries::Versions;
pub use nccl::NcclRanks;
pub use tensors::Number;

use crate::executor::{Executor, ForwardSpec, Gradients, Keep, Pass, Share, Tape, Upstream};
use crate::graph::Graph;
use crate::parameters::Parameters;
use gpu::Element;

pub(crate) use steps::{Rates, blended, moved, prepare};
pub(crate) use tensors::brought;

/// The types in which values are stored and multiplied.
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
    /// Tensors derived from the last parameters; in a capture they end with it.
    weights: Mutex<Weak<weights::Weights>>,
    /// The same, unless it was made in a capture.
    kept: Mutex<Option<Arc<weights::Weights>>>,
}

impl CudaExecutor {
    /// An executor on `gpu`, whose memory it shares with all others there.
    pub fn new(graph: Graph, gpu: &Gpu, precision: Precision) -> Self {
        let plan = plan::Plan::new(&graph, precision);
        let (weights, kept) = (Mutex::default(), Mutex::default());
        Self { graph, plan, gpu: gpu.clone(), precision, weights, kept }
    }

    /// The error of a pass over `rows` rows; where memory ran out, with the number of rows that would fit.
    fn failed(&self, error: Error, rows: usize, keep: Keep) -> Error {
        const MEBIBYTE: usize = 1 << 20;
        let Some(free) = self.gpu.free_after_oom() else { return error };
        let (fixed, row) = self.plan.bytes_of_pass(self.precision.element().bytes(), keep != Keep::Nothing);
        // Free memory is fragmented, and convolutions need workspace.
        let fit = (free / 10 * 9).saturating_sub(fixed) / row;
        let all = (fixed + rows * row).div_ceil(MEBIBYTE);
        Error::Msg(format!(
            "{error}; {rows} rows of this network take about {all} MiB, {} MiB are free without them: {fit} rows fit",
            free / MEBIBYTE
        ))
    }

    fn forward_rows(
        &self,
        parameters: &Parameters,
        input: &candle_core::Tensor,
        spec: ForwardSpec,
        share: Option<Share>,
    ) -> Result<Pass> {
        let rows = input.dims().first().copied().unwrap_or(0);
        forward::run(self, parameters, input, spec, share)
            .map_err(|error| self.failed(error, rows, spec.keep))
    }

    /// The parameters in the GPU's layout; created once for each version of them.
    fn weights(&self, parameters: &Parameters) -> Result<Arc<weights::Weights>> {
        let mut known = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = known.upgrade().filter(|it| it.version() == parameters.version()) {
            memory::read(&weights);
            return Ok(weights);
        }
        let capturing = memory::is_capturing();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The old ones' memory serves the new ones; a capture may free nothing that was there before it.
        if !capturing {
            *kept = None;
        }
        let weights = Arc::new(weights::Weights::new(self, parameters)?);
        *known = Arc::downgrade(&weights);
        if capturing {
            memory::made(&(weights.clone() as memory::Held));
        } else {
            *kept = Some(weights.clone());
        }
        Ok(weights)
    }
}

impl Executor for CudaExecutor {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn is_capturable(&self) -> bool {
        self.gpu.captures()
    }

    fn forward(
        &self,
        parameters: &Parameters,
        input: &candle_core::Tensor,
        spec: ForwardSpec,
    ) -> Result<Pass> {
        self.forward_rows(parameters, input, spec, None)
    }

    fn forward_share(
        &self,
        parameters: &Parameters,
        input: &candle_core::Tensor,
        spec: ForwardSpec,
        share: &Share,
    ) -> Result<Pass> {
        self.forward_rows(parameters, input, spec, Some(share.clone()))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<candle_core::Tensor>> {
        let state = tape.open::<forward::State>(parameters)?;
        let (rows, keep) = (state.rows, state.spec.keep);
        let done = backward::run(self, &state, upstream, into);
        drop(state);
        done.map_err(|error| self.failed(error, rows, keep))
    }
}
