//! PODNet's classification loss (Douillard et al. 2020, section 3.2).
//!
//! The released code and the paper differ, so each is a named form; the published numbers are those of the code.

use candle_core::{D, DType, Result, Tensor, bail};
use cil_engine::uploads;
use serde::{Deserialize, Serialize};

use super::filled_dims2;

/// Which of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum NcaForm {
    /// The released code's (c09fc54, `nca` with its published settings): the label's own logit is missing from the
    /// denominator, and the largest logit stands there in its place. Where the label's is the largest this is
    /// cross-entropy; elsewhere the largest counts twice. The code's margin is taken off every logit and cancels out.
    Released,
    /// The paper's eq. 5: the label's own logit is missing from the denominator, a margin is taken off it, and what is
    /// below 0 counts 0.
    Paper {
        /// Taken off the label's score before the scale; 0.6 in the paper.
        margin: f64,
    },
}

/// The loss of every row: `[rows]`. Never negative.
///
/// `logits`: `[rows, classes]`, scores times the head's scale; `labels`: u32 `[rows]`, columns of `logits`; `scale`:
/// the head's, `[1]`, for the paper's margin.
///
/// # Errors
/// If labels do not fit, or the paper's form has no scale or only one class.
pub fn nca(logits: &Tensor, labels: &Tensor, form: NcaForm, scale: Option<&Tensor>) -> Result<Tensor> {
    let (n_rows, n_classes) = filled_dims2(logits, "logits")?;
    if labels.dims() != [n_rows] {
        bail!("the labels are {:?}, the logits {:?}", labels.dims(), logits.dims())
    }
    let logits = logits.contiguous()?;
    let own = logits.gather(&labels.unsqueeze(1)?, 1)?;
    match form {
        NcaForm::Released => {
            let largest = logits.gather(&logits.detach().argmax_keepdim(D::Minus1)?, 1)?;
            let shift = largest.detach();
            let powers = logits.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?;
            // At least 1, so that taking the own power out again costs no digits.
            let powers = ((powers - (&own - &shift)?.exp()?)? + (largest - &shift)?.exp()?)?;
            ((powers.log()? + shift)? - own)?.squeeze(1)
        }
        NcaForm::Paper { margin } => {
            let Some(scale) = scale else {
                bail!("the paper's margin is times the head's scale; it has none")
            };
            if n_classes < 2 {
                bail!("the paper's form compares a class with others; there is one class");
            }
            let others = logits.gather(&others(labels, n_classes)?, 1)?;
            let shift = others.detach().max_keepdim(D::Minus1)?;
            let powers = others.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?;
            let own = own.broadcast_sub(&(scale * margin)?)?;
            ((powers.log()? + shift)? - own)?.squeeze(1)?.relu()
        }
    }
}

/// `[rows, classes - 1]`: the columns that are not a row's label.
fn others(labels: &Tensor, n_classes: usize) -> Result<Tensor> {
    let columns: Vec<u32> = (0..n_classes as u32 - 1).collect();
    let columns = uploads::constant(&columns, labels.device())?.unsqueeze(0)?;
    // Those from the label on lie one further.
    let further = columns.broadcast_ge(&labels.unsqueeze(1)?)?.to_dtype(DType::U32)?;
    columns.broadcast_add(&further)
}
