//! What computes.

use std::sync::Arc;

use cil_engine::cpu::{CpuExecutor, InstructionPath, Memory};
use cil_engine::{Executor, ExecutorFactory, Graph, GraphBuilder, Op, Shape};

use crate::Result;

/// The device that a learner computes on, with the kernels that run its networks.
#[derive(Clone)]
pub struct Device {
    pub(crate) place: candle_core::Device,
    pub(crate) executors: ExecutorFactory,
    name: &'static str,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Device({})", self.name)
    }
}

impl Device {
    /// The best that this build and this machine have. Today that is the processor with the widest instructions that it
    /// has; for an NVIDIA GPU hand [`Self::custom`] the executor of `cil_engine::cuda`.
    ///
    /// # Errors
    /// If no kernel runs here.
    pub fn best() -> Result<Self> {
        Self::processor()
    }

    /// The processor, with the widest instructions that it has. Results do not depend on the number of threads.
    ///
    /// # Errors
    /// If no kernel runs here.
    pub fn processor() -> Result<Self> {
        let path = CpuExecutor::new(smallest_graph()?)?.path();
        let name = match path {
            InstructionPath::Avx512 => "avx512",
            InstructionPath::Avx2 => "avx2",
            InstructionPath::Portable => "portable",
        };
        // The networks of a run share their buffers, since few of them work at a time.
        let memory = Memory::default();
        let executors = move |graph: Graph| {
            Ok(Arc::new(CpuExecutor::with_path(graph, path)?.sharing(&memory)) as Arc<dyn Executor>)
        };
        Ok(Self { place: candle_core::Device::Cpu, executors: Arc::new(executors), name })
    }

    /// Any executor, on any device of candle.
    pub fn custom(place: candle_core::Device, executors: ExecutorFactory) -> Self {
        Self { place, executors, name: "custom" }
    }

    /// Name of the kernels: `avx512`, `avx2`, `portable` or `custom`.
    pub fn kernels(&self) -> &'static str {
        self.name
    }
}

/// A graph of one node, to ask which instructions its executor would take.
fn smallest_graph() -> Result<Graph> {
    let mut graph = GraphBuilder::new(Shape::Vector { width: 1 });
    let node = graph.add("relu", Op::Relu, &[graph.input()])?;
    graph.tap("output", node);
    Ok(graph.build()?)
}
