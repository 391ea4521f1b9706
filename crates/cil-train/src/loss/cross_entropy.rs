//! Cross-entropy on class labels, plain and weighted.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::log_softmax;
use cil_engine::rows;
pub use cil_engine::rows::Divisor;

use super::filled_dims2;

/// Mean over rows of `-ln p(label)`. Never negative; with one class it is zero.
///
/// `logits`: `[rows, classes]`; `labels`: u32 `[rows]`, columns of `logits`.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_labels(logits, labels)?;
    match rows::cross_entropy(logits, labels, None, Divisor::Rows)? {
        Some(loss) => Ok(loss),
        None => per_row(logits, labels)?.mean_all(),
    }
}

/// Weighted sum over rows of `-ln p(label)`, divided as `divisor` says; 0 if all weights are 0. Never
/// negative for weights that are not.
///
/// `logits`: `[rows, classes]`; `labels`: u32 `[rows]`; `class_weights`: `[classes]`, see [`balanced_class_weights`];
/// `row_weights`: `[rows]`. A row's weight is the product of both; one left out is 1. Weights are detached.
pub fn weighted_cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    class_weights: Option<&Tensor>,
    row_weights: Option<&Tensor>,
    divisor: Divisor,
) -> Result<Tensor> {
    check_labels(logits, labels)?;
    let class_weights = match class_weights {
        Some(weights) if weights.dims() != [logits.dim(1)?] => {
            bail!("the class weights are {:?}, the logits {:?}", weights.dims(), logits.dims())
        }
        Some(weights) => Some(weights.detach().index_select(labels, 0)?),
        None => None,
    };
    let weights = match (class_weights, row_weights.map(Tensor::detach)) {
        (Some(of_classes), Some(of_rows)) => Some((of_classes * of_rows)?),
        (one, other) => one.or(other),
    };
    if let Some(loss) = rows::cross_entropy(logits, labels, weights.as_ref(), divisor)? {
        return Ok(loss);
    }
    let per_row = per_row(logits, labels)?;
    let weights = match weights {
        Some(weights) => weights,
        None => per_row.ones_like()?,
    };
    let sum = (per_row * &weights)?.sum_all()?;
    match divisor {
        Divisor::Weights => sum / weights.sum_all()?.maximum(f64::from(f32::MIN_POSITIVE))?,
        Divisor::Rows => sum / logits.dim(0)? as f64,
    }
}

/// Cross-entropy to targets of which `smoothing` is spread over all classes, the label's too (PyTorch's
/// `label_smoothing`): mean over rows, or with weights, `[rows]` and detached, the weighted sum divided by the rows.
///
/// `logits`: `[rows, classes]`; `labels`: u32 `[rows]`.
///
/// # Errors
/// As [`weighted_cross_entropy`].
pub fn smoothed_cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    row_weights: Option<&Tensor>,
    smoothing: f64,
) -> Result<Tensor> {
    let on_labels = match row_weights {
        None => cross_entropy(logits, labels)?,
        Some(_) => weighted_cross_entropy(logits, labels, None, row_weights, Divisor::Rows)?,
    };
    if smoothing == 0.0 {
        return Ok(on_labels);
    }
    let of_classes = log_softmax(logits, D::Minus1)?.mean(D::Minus1)?.neg()?;
    let on_all = match row_weights {
        None => of_classes.mean_all()?,
        Some(weights) => (of_classes * weights.detach())?.mean_all()?,
    };
    (on_labels * (1.0 - smoothing))? + (on_all * smoothing)?
}

/// One weight per class, inverse to its count, such that the counted images weigh 1 on average; 0 for a class
/// without images. R-DFCIL's weights are the same up to a factor, which [`Divisor::Weights`] takes out.
pub fn balanced_class_weights(counts: &[usize]) -> Vec<f32> {
    let n_images: usize = counts.iter().sum();
    let n_present = counts.iter().filter(|it| **it > 0).count();
    let weight = |count: usize| n_images as f32 / (n_present * count) as f32;
    counts.iter().map(|count| if *count == 0 { 0.0 } else { weight(*count) }).collect()
}

fn check_labels(logits: &Tensor, labels: &Tensor) -> Result<()> {
    let (n_rows, _) = filled_dims2(logits, "logits")?;
    if labels.dims() != [n_rows] {
        bail!("the labels are {:?}, the logits {:?}", labels.dims(), logits.dims())
    }
    Ok(())
}

/// `-ln p(label)`: `[rows]`.
fn per_row(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    log_softmax(logits, D::Minus1)?.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}
