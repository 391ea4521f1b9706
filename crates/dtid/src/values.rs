//! Values of maps as they lie in memory: what losses that take one parallel pass share.

use candle_core::{Device, Result, Storage, Tensor, WithDType, bail};

/// A type of numbers in maps: computed with as they are, summed in `f64`.
pub trait Value: WithDType {
    /// In `f64`, exactly.
    fn wide(self) -> f64;
    /// The nearest to a number.
    fn narrow(value: f64) -> Self;
}

impl Value for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn narrow(value: f64) -> Self {
        value as f32
    }
}

impl Value for f64 {
    fn wide(self) -> f64 {
        self
    }

    fn narrow(value: f64) -> Self {
        value
    }
}

/// The result of `work` on a tensor's values in row-major order; copied only where they do not lie so, or lie on a GPU.
///
/// # Errors
/// If they are of another type, or `work` fails.
pub fn with_values<T: Value, Out>(tensor: &Tensor, work: impl FnOnce(&[T]) -> Result<Out>) -> Result<Out> {
    let tensor = tensor.contiguous()?.to_device(&Device::Cpu)?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((from, to))) => work(&T::cpu_storage_as_slice(storage)?[from..to]),
        _ => bail!("a map did not come to the processor"),
    }
}

/// Samples that one parallel task takes at least, so that small samples do not cost more in tasks than in work.
pub fn grain(values_per_sample: usize) -> usize {
    (16384 / values_per_sample.max(1)).max(1)
}
