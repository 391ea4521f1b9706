//! Measures of one map against another that must not bring maps to the host, each with its gradient.
//!
//! These run on a GPU only. For maps on the CPU a function returns `None`, and the caller computes the loss itself; the
//! tests compare both.

use std::ops::Range;

use candle_core::{Result, Tensor};

/// A measure and its gradients; all detached.
#[derive(Clone, Debug)]
pub struct Gaussian {
    /// The measure; a scalar.
    pub loss: Tensor,
    /// Weight times the gradient to the mean, of its shape.
    pub mean: Tensor,
    /// Weight times the gradient to the raw variances, `[channels]`.
    pub raw_variance: Tensor,
}

/// Minus the log likelihood of `target` under normal distributions around `mean`, up to a constant: the mean over all
/// values of `((target - mean)^2 / s + ln s) / 2`, `s = softplus(raw variance) + floor` by channel.
///
/// `mean`, `target`: f32 `[rows, channels, ..]`; `raw_variance`: f32 `[channels]`. `None` if they are not on a GPU.
///
/// # Errors
/// If they do not fit each other, or the GPU has no memory.
pub fn gaussian(
    mean: &Tensor,
    target: &Tensor,
    raw_variance: &Tensor,
    floor: f64,
    weight: f64,
) -> Result<Option<Gaussian>> {
    on_gpu::gaussian(mean, target, raw_variance, floor, weight)
}

/// Mean over samples of the distance between two maps' profiles, and `weight` times its gradient to the first.
///
/// A sample's profile is the sums of squares over the width, then those over the height, of every channel, brought to
/// length 1 unless it is shorter than `shortest`. `map`, `target`: f32 `[rows, channels, height, width]`. `None` if
/// they are not on a GPU.
///
/// # Errors
/// If they do not fit each other, or the GPU has no memory.
pub fn profiles(
    map: &Tensor,
    target: &Tensor,
    shortest: f64,
    weight: f64,
) -> Result<Option<(Tensor, Tensor)>> {
    on_gpu::profiles(map, target, shortest, weight)
}

/// The sum of parts that are some rows each of `[n_rows, ..]`, in their order; rows that no part has are 0. `None` if
/// they are not on a GPU.
///
/// # Errors
/// If a part has rows beyond, or other dimensions than the first.
pub fn sum_of_rows(parts: &[(Range<usize>, Tensor)], n_rows: usize) -> Result<Option<Tensor>> {
    on_gpu::sum_of_rows(parts, n_rows)
}

#[cfg(feature = "cuda")]
use crate::cuda::measures as on_gpu;

#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
mod on_gpu {
    use super::{Gaussian, Range, Result, Tensor};

    pub(super) fn gaussian(_: &Tensor, _: &Tensor, _: &Tensor, _: f64, _: f64) -> Result<Option<Gaussian>> {
        Ok(None)
    }

    pub(super) fn profiles(_: &Tensor, _: &Tensor, _: f64, _: f64) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    pub(super) fn sum_of_rows(_: &[(Range<usize>, Tensor)], _: usize) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
