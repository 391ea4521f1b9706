//! A convolution with what follows it in inference, as one call of cuDNN.
//!
//! The first call for a shape shows whether cuDNN supports it; where it does not, the caller adds and activates in a
//! pass of its own. Both compute the same.

use std::ffi::c_void;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;

use super::super::gpu::Gpu;
use super::choice::is_unavailable;
use super::{Geometry, Library, Operands, Product, State, choice, explain, prepared, values_of};

/// The operations after the convolution.
#[derive(Clone, Copy, Debug)]
pub(in crate::cuda) struct Tail {
    /// One value a channel, in the type of the maps.
    pub(in crate::cuda) bias: u64,
    /// A map that is added before the activation.
    pub(in crate::cuda) residual: Option<u64>,
    /// Whether what is below 0 becomes 0.
    pub(in crate::cuda) relu: bool,
}

impl Tail {
    /// Its place among those that cuDNN is asked for.
    fn kind(self) -> usize {
        2 * usize::from(self.relu) + usize::from(self.residual.is_some())
    }
}

/// cuDNN's activations: none, and ReLU.
pub(super) struct Activations([sys::cudnnActivationDescriptor_t; 2]);

impl Activations {
    pub(super) fn new() -> std::result::Result<Self, CudnnError> {
        use sys::cudnnActivationMode_t as Mode;
        let all = Self([result::create_activation_descriptor()?, result::create_activation_descriptor()?]);
        // The only one that the joined call takes (NVIDIA's reference). ReLU may then make 0 of the NaN of a network
        // that diverged; training, whose passes are not joined, keeps it.
        let nan = sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN;
        for (it, mode) in all.0.iter().zip([Mode::CUDNN_ACTIVATION_IDENTITY, Mode::CUDNN_ACTIVATION_RELU]) {
            // SAFETY: the descriptors were just made.
            unsafe { result::set_activation_descriptor(*it, mode, nan, 0.0)? };
        }
        Ok(all)
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        for it in self.0 {
            // SAFETY: made in `new`, destroyed here only. A failure would leak a few bytes.
            let _ = unsafe { sys::cudnnDestroyActivationDescriptor(it) };
        }
    }
}

impl Library {
    /// Computes `y` from `x`, with what follows; `false`, and nothing, where cuDNN has no such call for the shape.
    ///
    /// # Errors
    /// As [`Library::run`].
    pub(in crate::cuda) fn run_joined(
        &self,
        gpu: &Gpu,
        it: Geometry,
        at: Operands,
        tail: Tail,
    ) -> Result<bool> {
        let mut state = self.lock();
        let State { handle, activations, prepared: all, refusals, .. } = &mut *state;
        let (handle, activation) = (*handle, activations.0[usize::from(tail.relu)]);
        let prepared = prepared(all, it)?;
        let choice = choice(&mut prepared.forward, handle, prepared.of, Product::Forward, it)?;
        let (algorithm, bytes) = choice.first();
        // cuDNN's manual: with no activation this is the only algorithm.
        let precomputed = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        if prepared.joined[tail.kind()] == Some(false) || !tail.relu && algorithm != precomputed {
            return Ok(false);
        }
        let what = format!("computing a joined {:?} of {it:?}", Product::Forward);
        let bias = match prepared.bias {
            Some(bias) => bias,
            None => *prepared.bias.insert(describe_bias(it).map_err(|error| explain(error, &what))?),
        };
        let super::Described { x, y, weight, convolution } = prepared.of;
        let (alpha, beta) = (1f32, if tail.residual.is_some() { 1f32 } else { 0f32 });
        let (alpha, beta): (*const f32, *const f32) = (&raw const alpha, &raw const beta);
        let (alpha, beta): (*const c_void, *const c_void) = (alpha.cast(), beta.cast());
        let pointer = |address: u64| address as *mut c_void;
        // Without a map to add, its place is taken by the result, times 0.
        let added = pointer(tail.residual.unwrap_or(at.y));
        let work = gpu.take(bytes)?;
        // SAFETY: the descriptors are of the shapes whose memory the executor gives, all on this GPU.
        let done = unsafe {
            result::convolution_bias_activation_forward(
                handle,
                alpha,
                x,
                pointer(at.x),
                weight,
                pointer(at.weight),
                convolution,
                algorithm,
                pointer(work.address()),
                bytes,
                beta,
                y,
                added,
                bias,
                pointer(tail.bias),
                activation,
                y,
                pointer(at.y),
            )
        };
        let known = &mut prepared.joined[tail.kind()];
        match done {
            Ok(()) => {
                *known = Some(true);
                Ok(true)
            }
            Err(error) if known.is_none() && is_unavailable(error) => {
                *known = Some(false);
                refusals.joined += 1;
                Ok(false)
            }
            Err(error) => Err(explain(error, &what)),
        }
    }
}

fn describe_bias(it: Geometry) -> std::result::Result<sys::cudnnTensorDescriptor_t, CudnnError> {
    let (format, values, _) = values_of(it);
    let bias = result::create_tensor_descriptor()?;
    // SAFETY: the descriptor was just made.
    unsafe { result::set_tensor4d_descriptor(bias, format, values, [1, it.to.channels, 1, 1])? };
    Ok(bias)
}
