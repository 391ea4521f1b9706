//! Which instructions the networks of a run use, and what makes their executors.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::{CpuExecutor, InstructionPath, Memory, simd};
use crate::executor::{Executor, ExecutorFactory};
use crate::graph::Graph;

impl InstructionPath {
    /// The widest instructions that this CPU has.
    pub fn best() -> Self {
        simd::Cpu::best().path()
    }

    /// Its name on a command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Makes executors with these instructions. They share their buffers, since few networks of a run work at a time;
    /// results do not depend on that.
    ///
    /// # Errors
    /// If this CPU has no such instructions.
    pub fn executors(self) -> Result<ExecutorFactory> {
        if simd::Cpu::new(self).is_none() {
            bail!("this CPU has no instructions for {self:?}");
        }
        let memory = Memory::default();
        Ok(Arc::new(move |graph: Graph| {
            Ok(Arc::new(CpuExecutor::with_path(graph, self)?.sharing(&memory)) as Arc<dyn Executor>)
        }))
    }
}
