//! The device that a learner computes on.

use cil_engine::ExecutorFactory;
use cil_engine::cpu::InstructionPath;

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
        let path = InstructionPath::best();
        Ok(Self { place: candle_core::Device::Cpu, executors: path.executors()?, name: path.name() })
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
