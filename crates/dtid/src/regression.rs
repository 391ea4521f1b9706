//! Double logit regression, the loss of Deep Model Consolidation (Zhang et al., WACV 2020).
//!
//! No softmax and no temperature: the student's raw logits are regressed on the two teachers' centred ones.

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::dual::centre_rows;

/// The mean that is subtracted from the teachers' logits to bring both to a common level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centring {
    /// From each row of each teacher, its mean over that teacher's classes: eq. 4 of the paper.
    Row,
    /// From each column, its mean over the batch: what FACIL's `dmc.py` does. With one row the target is all zeros.
    Batch,
}

/// Mean over rows and columns of `(student - target)²`, the target being both teachers' centred logits side by side.
/// Never negative; zero when the student equals the target. The student is not centred.
///
/// `student`: `[rows, M + N]`; `old`: `[rows, M]`; `new`: `[rows, N]`; at least one row and one class each. Eq. 3.
pub fn double_logit_regression(
    student: &Tensor,
    old: &Tensor,
    new: &Tensor,
    centring: Centring,
) -> Result<Tensor> {
    let target = match centring {
        Centring::Row => Tensor::cat(&[centre_rows(&old.detach())?, centre_rows(&new.detach())?], 1)?,
        Centring::Batch => {
            let both = Tensor::cat(&[old.detach(), new.detach()], 1)?;
            both.broadcast_sub(&both.mean_keepdim(0)?)?
        }
    };
    if target.dims() != student.dims() || target.elem_count() == 0 {
        bail!("the teachers' logits side by side are {:?}, the student's {:?}", target.dims(), student.dims())
    }
    (student - target)?.sqr()?.mean_all()
}
