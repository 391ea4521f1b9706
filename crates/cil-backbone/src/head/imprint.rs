//! Weights that new classes begin with.
//!
//! A class begins as the direction of its mean feature, at the mean length of the old classes' weights.

use candle_core::{D, Result, Tensor, bail};

use super::normalized;

/// The weight rows of new classes from their images' features: the direction of the mean normalised feature, with the
/// mean length of `old` weight rows (LUCIR's imprinting, Hou et al. 2019, published code).
///
/// `features`: per new class `[images, width]`; `old`: `[old classes, width]`. Result: `[new classes, width]`.
///
/// # Errors
/// If there is no old or no new class, a new class has no image, or widths differ.
pub fn imprinted(features: &[Tensor], old: &Tensor) -> Result<Tensor> {
    let (classes, width) = old.dims2()?;
    if classes == 0 || features.is_empty() {
        bail!("imprinting {} new classes by the length of {classes} old ones needs both", features.len());
    }
    let mut rows = Vec::with_capacity(features.len());
    for (class, features) in features.iter().enumerate() {
        let (images, found) = features.dims2()?;
        if images == 0 {
            bail!("new class {class} has no image to imprint its weight from");
        }
        if found != width {
            bail!("new class {class} has features of width {found}, the old weights are of width {width}");
        }
        rows.push(normalized(&normalized(features)?.mean_keepdim(0)?)?);
    }
    at_mean_length(&Tensor::cat(&rows, 0)?, old)
}

/// Rows times the mean length of `old` weight rows.
///
/// # Errors
/// If there is no old row.
pub fn at_mean_length(rows: &Tensor, old: &Tensor) -> Result<Tensor> {
    rows.broadcast_mul(&old.sqr()?.sum(D::Minus1)?.sqrt()?.mean_all()?)
}
