//! What both heads are made of, and how they are kept.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, DVector};

/// A head's values: `weights` `[rows, width]`, as many rows a class as its form has, and a bias for each row.
pub(super) struct Answer {
    pub(super) weights: DMatrix<f64>,
    pub(super) biases: DVector<f64>,
    pub(super) power: Option<f64>,
}

/// Rounded as it is kept.
pub(super) fn kept(mut values: DMatrix<f64>) -> DMatrix<f64> {
    values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
    values
}

/// `[rows, columns]` in f32.
pub(super) fn tensor(values: &DMatrix<f64>) -> Result<Tensor> {
    let rows = Tensor::from_slice(values.transpose().as_slice(), values.shape(), &Device::Cpu)?;
    Ok(rows.to_dtype(DType::F32)?)
}

/// Rows divided by their length.
pub(super) fn directions(mut rows: DMatrix<f64>) -> DMatrix<f64> {
    for mut row in rows.row_iter_mut() {
        let length = (row.norm_squared() + 1e-24).sqrt();
        row /= length;
    }
    rows
}
