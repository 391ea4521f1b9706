//! Rotations as labels: a class turned by a right angle is another class.

use candle_core::{DType, Result, Tensor, bail};

use super::cross_entropy::cross_entropy;
use super::filled_dims2;

/// Turns of an image by right angles, none included.
pub const TURNS: usize = 4;

/// Mean cross-entropy over images and their three turned copies of which class an image has and by how many right
/// angles it is turned, a class at a time: class `c` turned `k` times is column `4 c + k` of a linear classifier. Never
/// negative. Lee et al. (ICML 2020); PASS (Zhu et al. 2021) and EFC's base task.
///
/// `features`: `[images, width]`; `turned`: `[3 images, width]`, of all images turned once, then twice, then three
/// times; `labels`: u32 `[images]`, from 0; `weight`: `[4 classes, width]`; `bias`: `[4 classes]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn rotation(
    features: &Tensor,
    turned: &Tensor,
    labels: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (n_rows, width) = filled_dims2(features, "the features")?;
    if turned.dims() != [(TURNS - 1) * n_rows, width] {
        bail!("the features of turned images are {:?}, of the images {:?}", turned.dims(), features.dims())
    }
    let all = Tensor::cat(&[features, turned], 0)?;
    let logits = all.matmul(&weight.t()?)?.broadcast_add(bias)?;
    let upright = (labels.to_dtype(DType::I64)? * TURNS as f64)?;
    let labels = (0..TURNS).map(|turn| &upright + turn as f64).collect::<Result<Vec<_>>>()?;
    cross_entropy(&logits, &Tensor::cat(&labels, 0)?.to_dtype(DType::U32)?)
}
