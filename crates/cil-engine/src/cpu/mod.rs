//! The CPU executor: hand-written forward and backward in a blocked layout, for `f32`.
//!
//! Maps are stored as `[rows][channels / 16][height][width][16]` whatever the CPU; kernels are written once over a
//! vector of sixteen lanes and compiled for AVX-512, AVX2 and plain arrays ([`InstructionPath`]), chosen at run time.
//! A batch norm runs together with the addition and activation behind it. Results do not depend on the number of
//! threads (of the current rayon pool): images are independent, and sums over them have a fixed order.

mod backward;
mod buffers;
mod choice;
mod conv;
#[expect(unsafe_code, reason = "vector instructions on raw addresses, each checked once per call")]
mod conv_kernels;
mod conv_plan;
mod conv_wide;
mod forward;
mod layout;
#[expect(unsafe_code, reason = "the gemm crate takes raw addresses, checked before")]
mod linear;
mod load;
#[expect(unsafe_code, reason = "vector instructions on raw addresses, each checked once per call")]
mod load_kernels;
mod norm;
#[expect(unsafe_code, reason = "vector instructions on raw addresses, each checked once per call")]
mod norm_kernels;
mod packed;
mod plan;
mod schedule;
#[expect(unsafe_code, reason = "vector instructions")]
mod simd;
mod singles;
mod spatial;
#[cfg(test)]
mod tests;
#[expect(unsafe_code, reason = "vector instructions on raw addresses, each checked once per call")]
mod weight_kernels;
mod winograd;
#[expect(unsafe_code, reason = "vector instructions on raw addresses, each checked once per call")]
mod winograd_kernels;
#[expect(unsafe_code, reason = "vector instructions")]
mod winograd_lines;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Storage, Tensor, bail};

use crate::executor::{Executor, ForwardSpec, Gradients, Pass, Share, Tape, Upstream};
use crate::graph::Graph;
use crate::parameters::Parameters;
use schedule::Schedule;

/// Which instructions the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionPath {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Nothing in particular.
    Portable,
}

/// Buffers of passes, which several executors may share: what one does not use now, another takes.
///
/// A run has a dozen networks, of which two or three work at a time; the memory of the others' passes would lie idle.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<buffers::Pool>);

impl Memory {
    /// Bytes of maps and packed weights that were needed at once; a step like one before it allocates none.
    pub fn allocated(&self) -> usize {
        self.0.allocated()
    }
}

/// Runs a graph on the CPU in `f32`.
#[derive(Debug)]
pub struct CpuExecutor {
    graph: Graph,
    plan: plan::Plan,
    cpu: simd::Cpu,
    pool: Arc<buffers::Pool>,
    packed: packed::Packed,
    /// Made when a kind of pass is first asked for.
    schedules: Mutex<Vec<(ForwardSpec, Arc<Schedule>)>>,
}

impl CpuExecutor {
    /// An executor with the best instructions this CPU has.
    ///
    /// # Errors
    /// None today; a graph that no plan fits would be one.
    pub fn new(graph: Graph) -> Result<Self> {
        Ok(Self::with_cpu(graph, simd::Cpu::best()))
    }

    /// An executor with the given instructions.
    ///
    /// # Errors
    /// If this CPU lacks them.
    pub fn with_path(graph: Graph, path: InstructionPath) -> Result<Self> {
        match simd::Cpu::new(path) {
            Some(cpu) => Ok(Self::with_cpu(graph, cpu)),
            None => bail!("this CPU has no instructions for {path:?}"),
        }
    }

    /// The same with buffers from `memory`; results do not depend on who shares it.
    #[must_use]
    pub fn sharing(mut self, memory: &Memory) -> Self {
        self.pool = memory.0.clone();
        self
    }

    fn with_cpu(graph: Graph, cpu: simd::Cpu) -> Self {
        let plan = plan::Plan::new(&graph);
        Self {
            graph,
            plan,
            cpu,
            pool: Arc::default(),
            packed: packed::Packed::default(),
            schedules: Mutex::default(),
        }
    }

    fn schedule(&self, spec: ForwardSpec) -> Arc<Schedule> {
        let mut schedules = self.schedules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, schedule)) = schedules.iter().find(|(known, _)| *known == spec) {
            return schedule.clone();
        }
        let schedule = Arc::new(Schedule::new(&self.graph, &self.plan, spec));
        schedules.push((spec, schedule.clone()));
        schedule
    }

    /// The instructions in use.
    pub fn path(&self) -> InstructionPath {
        self.cpu.path()
    }

    /// Values of one of a node's parameters.
    fn parameter(
        &self,
        parameters: &Parameters,
        node: usize,
        suffix: &str,
        dims: &[usize],
    ) -> Result<Vec<f32>> {
        let name = format!("{}.{suffix}", self.graph.nodes()[node].name);
        values(parameters.get(&name)?, &name, dims)
    }
}

/// A tensor's values, if it has the expected shape and type.
fn values(tensor: &Tensor, what: &str, dims: &[usize]) -> Result<Vec<f32>> {
    with_values(tensor, what, dims, <[f32]>::to_vec)
}

/// Runs `work` on a tensor's values, if it has the expected shape and type; copies them only if they do not lie in
/// row-major order.
fn with_values<T>(tensor: &Tensor, what: &str, dims: &[usize], work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    if tensor.dims() != dims {
        bail!("{what} has shape {:?}, not {dims:?}", tensor.dims());
    }
    if tensor.dtype() != DType::F32 {
        bail!("{what} is {:?}; the CPU executor runs in f32 only", tensor.dtype());
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("{what} is not on the CPU");
    };
    Ok(work(&storage.as_slice::<f32>()?[start..end]))
}

impl Executor for CpuExecutor {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn forward(&self, parameters: &Parameters, input: &Tensor, spec: ForwardSpec) -> Result<Pass> {
        forward::run(self, parameters, input, spec, None)
    }

    fn forward_share(
        &self,
        parameters: &Parameters,
        input: &Tensor,
        spec: ForwardSpec,
        share: &Share,
    ) -> Result<Pass> {
        forward::run(self, parameters, input, spec, Some(share.clone()))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let state = tape.open::<forward::State>(parameters)?;
        backward::run(self, parameters, *state, upstream, into)
    }
}
