//! Weight aligning: new classes' weight rows brought to the length of old ones' (WA, Zhao et al. 2020).
//!
//! A correction of a head is a function of its tensors, and its result is a head of the same form, so a correction is
//! stored in the model's weights and in no file beside them.

use candle_core::{D, DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// How the length of a weight row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Sum of absolute values; the default of the authors' code.
    L1,
    /// Root of the sum of squares.
    L2,
}

/// Mean length of `old` weight rows over that of `new` ones: the factor of the new classes' logits that makes both
/// alike (Zhao et al. 2020, eq. 8).
///
/// `old`: `[old classes, width]`, `new`: `[new classes, width]`.
///
/// # Errors
/// If there is no old or no new class, widths differ, or every new weight is 0.
pub fn alignment(old: &Tensor, new: &Tensor, length: Length) -> Result<f64> {
    let ((n_old, width), (n_new, new_width)) = (old.dims2()?, new.dims2()?);
    if n_old == 0 || n_new == 0 || width != new_width {
        bail!("weights of old classes are {:?}, of new ones {:?}", old.dims(), new.dims());
    }
    let mean = |rows: &Tensor| -> Result<f64> {
        let lengths = match length {
            Length::L1 => rows.abs()?.sum(D::Minus1)?,
            Length::L2 => rows.sqr()?.sum(D::Minus1)?.sqrt()?,
        };
        lengths.to_dtype(DType::F64)?.mean_all()?.to_scalar()
    };
    match mean(new)? {
        0.0 => bail!("every weight of the {n_new} new classes is 0; there is no length to align"),
        new => Ok(mean(old)? / new),
    }
}
