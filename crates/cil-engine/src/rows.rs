//! Losses of rows of logits, and rows of length 1, as single nodes of candle's autograd on a GPU.
//!
//! Written in candle's operations such a loss is some fifty launches of a few microseconds each, and the number of
//! launches is what bounds a step of a small network on a GPU (docs/cuda-design.md). Here it is two, and one for its
//! gradient. Elsewhere each function gives `None`, and the caller uses candle's operations; the tests compare the two.

use candle_core::{Result, Tensor};

/// The divisor of a weighted sum over rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The number of rows: ABD's data weighting.
    Rows,
    /// The sum of the rows' weights: PyTorch's `weight=`, and so R-DFCIL's fine-tuning.
    Weights,
}

/// The weighted mean over rows of minus the logarithm of the softmax at each row's column.
///
/// `logits`: f32 `[rows, columns]`; `picked`: u32 `[rows]`; `weights`: f32 `[rows]`, all 1 if absent, and without a
/// gradient. A column that is not there makes the result NaN. `None` if they are not on a GPU.
///
/// # Errors
/// If they do not fit each other, or the GPU has no memory.
pub fn cross_entropy(
    logits: &Tensor,
    picked: &Tensor,
    weights: Option<&Tensor>,
    divided_by: Divisor,
) -> Result<Option<Tensor>> {
    on_gpu::cross_entropy(logits, picked, weights, divided_by)
}

/// `temperature`² times the mean over rows of the Kullback-Leibler divergence of `softmax(student / temperature)` from
/// `softmax(teacher / temperature)` (Hinton et al. 2015). Only `student` gets a gradient.
///
/// Both: f32 `[rows, columns]`. `None` if they are not on a GPU.
///
/// # Errors
/// If they do not fit each other, or the GPU has no memory.
pub fn divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Option<Tensor>> {
    on_gpu::divergence(student, teacher, temperature)
}

/// Rows divided by the square root of their sum of squares and `floor`: f32 `[rows, columns]`, the same shape comes
/// back. `None` if they are not such a matrix on a GPU.
///
/// # Errors
/// If the GPU has no memory.
pub fn unit_rows(rows: &Tensor, floor: f64) -> Result<Option<Tensor>> {
    on_gpu::unit_rows(rows, floor)
}

#[cfg(feature = "cuda")]
use crate::cuda::rows as on_gpu;

#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
mod on_gpu {
    use super::{Divisor, Result, Tensor};

    pub(super) fn cross_entropy(
        _: &Tensor,
        _: &Tensor,
        _: Option<&Tensor>,
        _: Divisor,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    pub(super) fn divergence(_: &Tensor, _: &Tensor, _: f64) -> Result<Option<Tensor>> {
        Ok(None)
    }

    pub(super) fn unit_rows(_: &Tensor, _: f64) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
