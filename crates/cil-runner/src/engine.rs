//! What computes: device, kernels and threads.
//!
//! One decision: the choice is made once, here, and is told in `env.json`; what cannot be had is refused, nothing else is
//! taken in its place.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use cil_engine::cpu::{CpuExecutor, InstructionPath, Memory};
use cil_engine::reference::ReferenceExecutor;
use cil_engine::{Executor, ExecutorFactory, Graph, GraphBuilder, Op, Shape};

use crate::args::{DeviceName, Global, Kernels};
use crate::failure::bad_input;

/// What computes.
#[derive(Clone)]
pub struct Engine {
    /// Makes what runs a graph.
    pub executors: ExecutorFactory,
    /// Where tensors live.
    pub device: Device,
    /// Name of the kernels in use, such as `avx2`.
    pub kernels: &'static str,
    /// Threads in use.
    pub threads: usize,
}

impl Engine {
    /// The engine that the arguments ask for; sets the number of threads of the process.
    pub fn new(global: &Global) -> Result<Self> {
        if global.device == DeviceName::Cuda {
            return Err(bad_input(
                "--device cuda: this program computes on the processor only; cpu is right",
            ));
        }
        if let Some(threads) = global.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(threads))
                .build_global()
                .context("cannot set the number of threads")?;
        }
        let (executors, kernels) = kernels(global.kernels)?;
        Ok(Self { executors, device: Device::Cpu, kernels, threads: rayon::current_num_threads() })
    }
}

/// The name of the kernels that the arguments ask for, such as `avx2`.
///
/// # Errors
/// If this processor has no such instructions.
pub fn kernels_name(global: &Global) -> Result<&'static str> {
    Ok(kernels(global.kernels)?.1)
}

fn kernels(choice: Kernels) -> Result<(ExecutorFactory, &'static str)> {
    let path = match choice {
        Kernels::Reference => {
            let reference = |graph: Graph| Ok(Arc::new(ReferenceExecutor::new(graph)) as Arc<dyn Executor>);
            return Ok((Arc::new(reference), "reference"));
        }
        Kernels::Auto => CpuExecutor::new(probe()?)?.path(),
        Kernels::Avx512 => InstructionPath::Avx512,
        Kernels::Avx2 => InstructionPath::Avx2,
        Kernels::Portable => InstructionPath::Portable,
    };
    let name = match path {
        InstructionPath::Avx512 => "avx512",
        InstructionPath::Avx2 => "avx2",
        InstructionPath::Portable => "portable",
    };
    CpuExecutor::with_path(probe()?, path)
        .map_err(|_| bad_input(format!("--kernels {name}: this processor has no such instructions")))?;
    // All networks of a run share their buffers: few of them work at a time.
    let memory = Memory::default();
    let executors = move |graph: Graph| {
        Ok(Arc::new(CpuExecutor::with_path(graph, path)?.sharing(&memory)) as Arc<dyn Executor>)
    };
    Ok((Arc::new(executors), name))
}

/// The smallest graph, to ask an executor what it would use.
fn probe() -> Result<Graph> {
    let mut graph = GraphBuilder::new(Shape::Vector { width: 1 });
    let node = graph.add("relu", Op::Relu, &[graph.input()])?;
    graph.tap("out", node);
    Ok(graph.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_and_refused() {
        let (executors, name) = kernels(Kernels::Portable).unwrap();
        assert_eq!(name, "portable");
        executors(probe().unwrap()).unwrap();
        assert_eq!(kernels(Kernels::Reference).unwrap().1, "reference");
        assert_ne!(kernels(Kernels::Auto).unwrap().1, "reference");
    }
}
