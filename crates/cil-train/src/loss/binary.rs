//! Binary cross-entropy of every class (iCaRL).

use candle_core::{Result, Tensor, bail};
use cil_engine::uploads;

use super::filled_dims2;

/// Sum over classes and mean over rows of the cross-entropy between `sigmoid(logit)` and a target from 0 to 1. Never
/// negative. Finite for every finite logit.
///
/// `logits`, `targets`: `[rows, classes]`; targets are detached. PyTorch's `binary_cross_entropy_with_logits`, summed
/// over classes; candle 0.11.1's own is NaN for a sure prediction.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (n_rows, _) = filled_dims2(logits, "logits")?;
    if targets.dims() != logits.dims() {
        bail!("the targets are {:?}, the logits {:?}", targets.dims(), logits.dims())
    }
    // ln(1 + e^x) - x t, without overflow, and with the gradient 1/2 - t at 0.
    let size = super::absolute(logits)?;
    let softplus = (((logits + &size)? * 0.5)? + (size.neg()?.exp()? + 1.0)?.log()?)?;
    (softplus - (logits * targets.detach())?)?.sum_all()? / n_rows as f64
}

/// iCaRL's targets: the old model's sigmoids for old classes, whatever the label, and the label for new ones.
///
/// `labels`: u32 `[rows]`; `old`: `[rows, M]` logits of the old model, if there is one; `classes`: `M` and the new
/// ones. Rebuffi et al. 2017, algorithm 3: `[rows, classes]`, in the type of `like`.
pub fn distilled_targets(
    labels: &Tensor,
    old: Option<&Tensor>,
    classes: usize,
    like: &Tensor,
) -> Result<Tensor> {
    let n_old = old.map_or(Ok(0), |it| it.dim(1))? as u32;
    let new: Vec<u32> = (n_old..classes as u32).collect();
    let new = uploads::constant(&new, like.device())?;
    let new = labels.unsqueeze(1)?.broadcast_eq(&new.unsqueeze(0)?)?.to_dtype(like.dtype())?;
    match old {
        Some(old) => Tensor::cat(&[&candle_nn::ops::sigmoid(&old.detach())?, &new], 1),
        None => Ok(new),
    }
}
