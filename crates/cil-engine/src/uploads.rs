//! Values that go from the host to a GPU in a step.
//!
//! They are of two kinds. Values that are equal in every step (constants, and the dimensions that candle's kernels read
//! of tensors that are not contiguous) are copied once and stay on the GPU while a [`Kept`] lives. Values that differ
//! are copied by [`fresh`], which keeps nothing. On the CPU neither does anything of its own.

use candle_core::{Device, Result, Shape, Tensor, WithDType};

#[cfg(feature = "cuda")]
pub use crate::cuda::Number;

/// A number that [`fresh`] brings.
#[cfg(not(feature = "cuda"))]
pub trait Number: candle_core::WithDType {}

#[cfg(not(feature = "cuda"))]
impl<T: candle_core::WithDType> Number for T {}

/// While it lives, this thread's candle brings small values to the GPU once and keeps them there by their content:
/// nothing that differs from step to step may be brought by candle meanwhile, or memory would grow with every step.
#[must_use = "nothing is kept once it is dropped"]
#[derive(Debug)]
pub struct Kept(#[expect(dead_code, reason = "it acts when it is dropped")] Option<Box<dyn std::any::Any>>);

/// Keeps what candle brings to `device` from now on, if that is a GPU.
pub fn keep(device: &Device) -> Kept {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Kept(Some(Box::new(device.enable_cuda_graph_htod_cache()))),
        _ => Kept(None),
    }
}

/// Bytes of one upload that candle keeps at most.
const KEPT: usize = 4096;

/// A tensor of values that every step has, `[values]`, however many: they are brought in parts that are small enough to
/// be kept.
///
/// # Errors
/// If the device has no memory.
pub fn constant<T: WithDType>(values: &[T], device: &Device) -> Result<Tensor> {
    let most = KEPT / size_of::<T>();
    if device.is_cpu() || values.len() <= most {
        return Tensor::from_slice(values, values.len(), device);
    }
    let parts = values.chunks(most).map(|part| Tensor::from_slice(part, part.len(), device));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
}

/// A tensor of values that no other step has; nothing of them is kept, and nothing waits.
///
/// # Errors
/// If there are not as many values as the shape has, or the device has no memory.
pub fn fresh<T: Number>(values: Vec<T>, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::cuda::brought(device, &values, shape.into()),
        _ => Tensor::from_vec(values, shape.into(), device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_processor_a_fresh_tensor_is_a_tensor() -> Result<()> {
        let _kept = keep(&Device::Cpu);
        let tensor = fresh(vec![1u32, 2, 3, 4], (2, 2), &Device::Cpu)?;
        assert_eq!(tensor.to_vec2::<u32>()?, [[1, 2], [3, 4]]);
        let many: Vec<u32> = (0..3000).collect();
        assert_eq!(constant(&many, &Device::Cpu)?.to_vec1::<u32>()?, many);
        assert!(fresh(vec![1f32], 2, &Device::Cpu).is_err());
        Ok(())
    }
}
