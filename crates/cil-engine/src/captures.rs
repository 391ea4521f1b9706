//! Steps that a GPU repeats by itself.
//!
//! A step ([`Repeatable`]) names its inputs (which differ from step to step and come from the host), its state (tensors
//! that it replaces) and its work on the host. A GPU then needs the host only for the first two steps of a kind: the
//! second is captured as a CUDA graph, and every later one copies its inputs and launches the graph. On the CPU a step
//! is a call.

use candle_core::{Device, Tensor};

use crate::executor::Executor;

/// A step that leaves a state for the next one.
pub trait Repeatable {
    /// The work of a step on the host. Steps of one kind do the same.
    type Done: Clone + PartialEq;
    /// The error of a step.
    type Error: From<candle_core::Error>;

    /// Every tensor that a step replaces by another, always in one order.
    fn state(&mut self) -> Vec<&mut Tensor>;

    /// One step. It may read its inputs, its state, and what no step changes; the host may read nothing of them, nor
    /// bring anything that other steps do not.
    ///
    /// # Errors
    /// If the step fails.
    fn step(&mut self, inputs: &[Tensor]) -> Result<Self::Done, Self::Error>;

    /// Brings to the device what a step that does that again will find there beside its inputs and its state, such as
    /// its learning rates.
    ///
    /// # Errors
    /// If the device refuses it.
    fn prepare(&mut self, done: &Self::Done) -> Result<(), Self::Error>;

    /// Does on the host what that step did there: the device did its own part.
    fn repeat(&mut self, done: &Self::Done);
}

/// Steps of one [`Repeatable`], as far as they are captured.
#[derive(Debug)]
pub struct Captures<D> {
    on_gpu: Option<OnGpu<D>>,
}

#[cfg(feature = "cuda")]
use crate::cuda::Captures as OnGpu;
#[cfg(not(feature = "cuda"))]
use no_gpu::OnGpu;

impl<D> Default for Captures<D> {
    /// Captures of steps that are calls, as on the processor.
    fn default() -> Self {
        Self { on_gpu: None }
    }
}

impl<D: Clone + PartialEq> Captures<D> {
    /// Creates an empty cache. If `executor` does not support capture, every step runs eagerly. All executors of a step
    /// must be of the same kind.
    pub fn new(executor: &dyn Executor, device: &Device) -> Self {
        Self { on_gpu: OnGpu::new(device, executor.is_capturable()) }
    }

    /// Runs one step of `of` on inputs that lie on the CPU, in `f32` or `u32`. `kind` distinguishes steps
    /// that have equal input shapes but different work.
    ///
    /// Only steps of `of` may use the state until [`Self::leave`].
    ///
    /// # Errors
    /// If the step fails. The state is then unusable.
    pub fn step<R: Repeatable<Done = D>>(
        &mut self,
        of: &mut R,
        inputs: &[Tensor],
        kind: &[usize],
    ) -> Result<D, R::Error> {
        match &mut self.on_gpu {
            Some(on_gpu) => on_gpu.step(of, inputs, kind),
            None => of.step(inputs),
        }
    }

    /// Makes a state one that no later step writes into, as all tensors are.
    ///
    /// # Errors
    /// If the device has no memory.
    pub fn leave<'a>(
        &mut self,
        state: impl FnOnce() -> Vec<&'a mut Tensor>,
    ) -> Result<(), candle_core::Error> {
        match &mut self.on_gpu {
            Some(on_gpu) => on_gpu.leave(state()),
            None => Ok(()),
        }
    }
}

/// Without the feature there is no GPU.
#[cfg(not(feature = "cuda"))]
mod no_gpu {
    use std::convert::Infallible;
    use std::marker::PhantomData;

    use super::{Device, Repeatable, Tensor};

    #[derive(Debug)]
    pub(super) struct OnGpu<D>(Infallible, PhantomData<fn() -> D>);

    impl<D> OnGpu<D> {
        pub(super) fn new(_: &Device, _: bool) -> Option<Self> {
            None
        }

        pub(super) fn step<R: Repeatable<Done = D>>(
            &mut self,
            _: &mut R,
            _: &[Tensor],
            _: &[usize],
        ) -> Result<D, R::Error> {
            match self.0 {}
        }

        pub(super) fn leave(&mut self, _: Vec<&mut Tensor>) -> candle_core::Result<()> {
            match self.0 {}
        }
    }
}
