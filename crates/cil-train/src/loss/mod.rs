//! The losses of the class-incremental methods, as pure functions of tensors.
//!
//! A function here sees exactly the rows and columns it is about, and neither a step, a weight nor a recipe; the terms
//! choose those. Everything that comes from a frozen model is detached inside. Distillation from two teachers is in
//! [`dtid`], inversion losses are in [`dfgr`].

use candle_core::{Result, Tensor, bail};

pub mod binary;
pub mod cross_entropy;
pub mod features;
pub mod logits;
pub mod margin_ranking;
pub mod nca;
pub mod pod;
pub mod rotation;

/// `|x|` with the gradient 0 at zero; candle 0.11.1's own `abs` has 1 there.
fn absolute(x: &Tensor) -> Result<Tensor> {
    x * x.sign()?
}

/// The shape of a matrix with at least one row and one column, else an error that names `what`.
fn filled_dims2(matrix: &Tensor, what: &str) -> Result<(usize, usize)> {
    match matrix.dims2()? {
        (n_rows, n_columns) if n_rows > 0 && n_columns > 0 => Ok((n_rows, n_columns)),
        (n_rows, n_columns) => bail!("{what} must not be empty, got [{n_rows}, {n_columns}]"),
    }
}
