//! The engine: device, kernels and threads.
//!
//! The choice is made once, here, and recorded in `env.json`; a choice that this machine cannot satisfy is refused,
//! never replaced by another.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use cil_data::dataset::Dataset;
use cil_engine::cpu::InstructionPath;
use cil_engine::ranks::{Alone, Ranks, shared};
use cil_engine::reference::ReferenceExecutor;
use cil_engine::{Executor, ExecutorFactory, Graph};
use serde::Serialize;

use crate::cli::args::{DeviceName, Global, Kernels};
use crate::cli::failure::bad_input;
use ranks::{number_on_machine, same};

#[cfg(feature = "cuda")]
mod gpu;
pub mod machine;
pub mod ranks;

/// Device, kernels and threads of a command.
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
    /// The GPU, if one computes.
    pub gpu: Option<machine::Gpu>,
    /// The processes that share every batch.
    pub ranks: Arc<dyn Ranks>,
    /// Keeps images where batches of them are needed.
    device_cache: gpu::DeviceCache,
}

impl Engine {
    /// The engine that the arguments ask for; sets the number of threads of the process.
    pub fn new(global: &Global) -> Result<Self> {
        Self::at(place(global)?, global)
    }

    fn at(place: Place, global: &Global) -> Result<Self> {
        if let Some(threads) = global.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(threads))
                .build_global()
                .context("cannot set the number of threads")?;
        }
        let threads = rayon::current_num_threads();
        match place {
            Place::Processor => {
                let (executors, kernels) = kernels(global.kernels)?;
                let (device, device_cache) = (Device::Cpu, gpu::DeviceCache::default());
                let ranks = Arc::new(Alone);
                Ok(Self { executors, device, kernels, threads, gpu: None, ranks, device_cache })
            }
            Place::Gpu(number, kernels) => {
                let (executors, device_cache) = gpu::open(number, kernels, !global.no_cuda_graphs)?;
                let device = device_cache.device();
                let gpu = device_cache.facts()?;
                let (kernels, ranks) = (kernels.name(), Arc::new(Alone));
                Ok(Self { executors, device, kernels, threads, gpu, ranks, device_cache })
            }
        }
    }

    /// [`Engine::new`], which works on a share of every batch where there are several processes.
    ///
    /// # Errors
    /// As there, or if what the arguments ask for cannot share a batch, or is another on another rank.
    pub fn of_ranks(global: &Global, ranks: &Arc<dyn Ranks>) -> Result<Self> {
        if ranks.count() == 1 {
            return Self::new(global);
        }
        if global.kernels == Kernels::Reference {
            return Err(bad_input(
                "--kernels reference shares no batch between processes of an MPI; leave it out",
            ));
        }
        let engine = Self::at(place_of_rank(global, &**ranks)?, global)?;
        let right = "use --kernels NAME with kernels that all ranks have";
        same(&**ranks, "the kernels", engine.kernels, right)?;
        same(&**ranks, "the version", env!("CIL_CODE_VERSION"), "start the same program everywhere")?;
        if let Some(gpu) = &engine.gpu {
            let right = "use GPUs, drivers and libraries of one kind, or --device cpu";
            same(&**ranks, "the GPU", &gpu.to_string(), right)?;
        }
        let ranks = engine.device_cache.join(ranks)?;
        let executors = shared(Arc::clone(&engine.executors), &ranks);
        Ok(Self { executors, ranks, ..engine })
    }

    /// Whether this process is the one that writes and speaks.
    pub fn writes(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// The calls that cuDNN has refused so far, if a GPU computes.
    pub fn refusals(&self) -> Option<Refusals> {
        self.device_cache.refusals()
    }

    /// A data set whose images are kept where this computes: on a GPU, if they take at most half of the memory that is
    /// free there; the processor makes their batches otherwise.
    ///
    /// # Errors
    /// If the GPU refuses them.
    pub fn keep(&self, dataset: Dataset) -> Result<Dataset> {
        self.device_cache.keep(dataset)
    }
}

/// Calls that cuDNN refused, each counted once for a shape; other calls computed the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// Convolutions joined with what follows them: each layer of a frozen network is then a pass more.
    pub joined: usize,
    /// Algorithms that it had offered.
    pub algorithms: usize,
    /// Gradients added to those that are there.
    pub additions: usize,
}

/// The name of the kernels that the arguments ask for, such as `avx2`.
///
/// # Errors
/// If this processor has no such instructions.
pub fn kernels_name(global: &Global) -> Result<&'static str> {
    match place(global)? {
        Place::Processor => Ok(kernels(global.kernels)?.1),
        Place::Gpu(_, kernels) => Ok(kernels.name()),
    }
}

/// Where it is computed, and on a GPU how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Processor,
    Gpu(usize, OnGpu),
}

/// The implementation that runs the networks on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnGpu {
    Exact,
    Tf32,
    Bf16,
    Reference,
}

impl OnGpu {
    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Reference => "reference",
        }
    }
}

fn place(global: &Global) -> Result<Place> {
    let on_gpu = match global.kernels {
        // The rounding that PyTorch's convolutions have unless told otherwise.
        Kernels::Auto | Kernels::Tf32 => Some(OnGpu::Tf32),
        Kernels::Exact => Some(OnGpu::Exact),
        Kernels::Bf16 => Some(OnGpu::Bf16),
        Kernels::Reference => Some(OnGpu::Reference),
        Kernels::Avx512 | Kernels::Avx2 | Kernels::Portable => None,
    };
    match (global.device, on_gpu) {
        (DeviceName::Cpu, _) | (DeviceName::Auto, None) => Ok(Place::Processor),
        (DeviceName::Cuda(number), Some(on_gpu)) => Ok(Place::Gpu(number, on_gpu)),
        (DeviceName::Cuda(number), None) => Err(bad_input(format!(
            "--device cuda:{number}: the kernels that --kernels names run on the CPU only; use --kernels exact, \
             tf32 or bf16"
        ))),
        (DeviceName::Auto, Some(on_gpu)) if gpu::count() > 0 => Ok(Place::Gpu(0, on_gpu)),
        (DeviceName::Auto, Some(_)) => Ok(Place::Processor),
    }
}

/// Where this rank computes: on GPUs, those of a machine are given to its ranks in turn.
fn place_of_rank(global: &Global, ranks: &dyn Ranks) -> Result<Place> {
    let place = place(global)?;
    let device = if let Place::Gpu(..) = place { "cuda" } else { "cpu" };
    same(ranks, "--device", device, "use --device cpu, or --device cuda where all ranks have a GPU")?;
    match place {
        Place::Gpu(0, kernels) => Ok(Place::Gpu(number_on_machine(ranks)? % gpu::count().max(1), kernels)),
        Place::Gpu(number, _) => Err(bad_input(format!(
            "--device cuda:{number} names one GPU, and each of {} processes needs its own; use --device cuda",
            ranks.count()
        ))),
        Place::Processor => Ok(Place::Processor),
    }
}

fn kernels(choice: Kernels) -> Result<(ExecutorFactory, &'static str)> {
    let path = match choice {
        Kernels::Reference => return Ok((reference(), "reference")),
        Kernels::Auto => InstructionPath::best(),
        Kernels::Avx512 => InstructionPath::Avx512,
        Kernels::Avx2 => InstructionPath::Avx2,
        Kernels::Portable => InstructionPath::Portable,
        Kernels::Exact | Kernels::Tf32 | Kernels::Bf16 => {
            return Err(bad_input("--kernels exact, tf32 and bf16 run on a GPU only; use --device cuda"));
        }
    };
    let name = path.name();
    let executors = path.executors().map_err(|_| {
        bad_input(format!("--kernels {name}: this processor has no such instructions; use --kernels auto"))
    })?;
    Ok((executors, name))
}

fn reference() -> ExecutorFactory {
    Arc::new(|graph: Graph| Ok(Arc::new(ReferenceExecutor::new(graph)) as Arc<dyn Executor>))
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use std::sync::Arc;

    use anyhow::Result;
    use candle_core::Device;
    use cil_data::dataset::Dataset;
    use cil_engine::ExecutorFactory;
    use cil_engine::ranks::Ranks;

    use super::{OnGpu, Refusals, machine};
    use crate::cli::failure::bad_input;

    pub(super) fn count() -> usize {
        0
    }

    /// The processor's own memory.
    #[derive(Clone, Default)]
    pub(super) struct DeviceCache {}

    impl DeviceCache {
        pub(super) fn device(&self) -> Device {
            Device::Cpu
        }

        #[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
        pub(super) fn facts(&self) -> Result<Option<machine::Gpu>> {
            Ok(None)
        }

        pub(super) fn refusals(&self) -> Option<Refusals> {
            None
        }

        #[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
        pub(super) fn join(&self, ranks: &Arc<dyn Ranks>) -> Result<Arc<dyn Ranks>> {
            Ok(Arc::clone(ranks))
        }

        #[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
        pub(super) fn keep(&self, dataset: Dataset) -> Result<Dataset> {
            Ok(dataset)
        }
    }

    pub(super) fn open(number: usize, _: OnGpu, _: bool) -> Result<(ExecutorFactory, DeviceCache)> {
        Err(bad_input(format!(
            "--device cuda:{number}: this program was built without the feature cuda (docs/cuda.md); use --device cpu"
        )))
    }
}

#[cfg(test)]
mod tests {
    use cil_engine::{GraphBuilder, Op, Shape};
    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;

    /// The smallest graph, to ask an executor what it would use.
    fn probe() -> Result<Graph> {
        let mut graph = GraphBuilder::new(Shape::Vector { width: 1 });
        let node = graph.add("relu", Op::Relu, &[graph.input()])?;
        graph.tap("out", node);
        Ok(graph.build()?)
    }

    #[test]
    fn kernels_are_named_and_refused() {
        let (executors, name) = kernels(Kernels::Portable).unwrap();
        assert_eq!(name, "portable");
        executors(probe().unwrap()).unwrap();
        assert_eq!(kernels(Kernels::Reference).unwrap().1, "reference");
        assert_ne!(kernels(Kernels::Auto).unwrap().1, "reference");
        assert!(kernels(Kernels::Bf16).is_err_and(|error| error.to_string().contains("use --device cuda")));
    }

    #[test]
    fn a_device_is_chosen_and_what_it_lacks_is_refused() {
        let global = |line: &[&str]| {
            let line = ["cil-runner"].iter().chain(line);
            Cli::try_parse_from(line).map(|it| it.global).unwrap()
        };
        let chosen = |line: &[&str]| place(&global(line));
        assert_eq!(chosen(&["--device", "cpu"]).unwrap(), Place::Processor);
        assert_eq!(chosen(&["--kernels", "portable"]).unwrap(), Place::Processor);
        assert_eq!(chosen(&["--device", "cuda:2"]).unwrap(), Place::Gpu(2, OnGpu::Tf32));
        let exact = Place::Gpu(0, OnGpu::Exact);
        assert_eq!(chosen(&["--device", "cuda", "--kernels", "exact"]).unwrap(), exact);
        let message = chosen(&["--device", "cuda", "--kernels", "avx2"]).unwrap_err().to_string();
        assert!(message.contains("use --kernels exact, tf32 or bf16"), "{message}");
        #[cfg(not(feature = "cuda"))]
        {
            let refused = Engine::new(&global(&["--device", "cuda"])).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("built without the feature cuda"), "{refused}");
        }
    }
}
