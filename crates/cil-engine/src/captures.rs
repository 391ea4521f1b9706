//! Steps that a GPU repeats by itself.
//!
//! One decision: a step is a value ([`Repeatable`]) that says what differs from one to the next (its inputs, which the
//! host brings), what it puts new tensors in the place of (its state), and what it does on the host. A GPU then needs
//! the host for the first two steps of a kind alone: the second is captured as a CUDA graph, and every later one is its
//! inputs and one launch. On the processor a step is a call.

use candle_core::{Device, Tensor};

use crate::executor::Executor;

/// A step that leaves a state for the next one.
pub trait Repeatable {
    /// What a step did on the host. Steps of one kind do the same.
    type Done: Clone + PartialEq;
    /// What may go wrong.
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
    /// Nothing captured yet. Nothing ever is where `executor`, which must be all executors' kind, cannot be captured.
    pub fn new(executor: &dyn Executor, device: &Device) -> Self {
        Self { on_gpu: OnGpu::new(device, executor.is_capturable()) }
    }

    /// One step of `of` on inputs that lie with the processor, in `f32` or `u32`. `kind` tells steps apart whose inputs
    /// are of the same shapes and that are not alike all the same.
    ///
    /// The state is of use to `of` alone until [`Self::leave`].
    ///
    /// # Errors
    /// If the step fails. The state is of no use then.
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
