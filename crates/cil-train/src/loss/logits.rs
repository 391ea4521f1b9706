//! Distillation of the old model's logits on the old columns.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::log_softmax;

use super::{absolute, filled_dims2};

/// `T² · KL(old ‖ student)` over the old columns, averaged over rows ([`dtid::kl::kl`]). Never negative.
///
/// `student`: `[rows, K]` logits; `old`: `[rows, M]` with `M ≤ K`, of the frozen old model, detached. Li & Hoiem's
/// LwF has temperature 2 (p. 5); FACIL's and ABD's code leave out the `T²`.
pub fn logit_kd(student: &Tensor, old: &Tensor, temperature: f64) -> Result<Tensor> {
    dtid::kl::kl(&old_columns(student, old)?, old, temperature)
}

/// Mean over rows and old columns of `|student - old|`. Never negative; zero when both agree.
///
/// `student`: `[rows, K]` logits; `old`: `[rows, M]` with `M ≤ K`, of the frozen old model, detached. R-DFCIL's hard
/// distillation, there on generated images alone.
pub fn logit_l1(student: &Tensor, old: &Tensor) -> Result<Tensor> {
    absolute(&(old_columns(student, old)? - old.detach())?)?.mean_all()
}

/// `T² · KL(old, with 0 for the new classes ‖ student)` over all classes seen, averaged over rows. Never negative; zero
/// where the student gives new classes nothing and agrees on the others.
///
/// `student`: `[rows, K]` logits; `old`: `[rows, M]` with `M ≤ K`, of the frozen old model, detached. ABD's code for
/// its comparison DeepInversion, on generated images, where it is a cross-entropy without the `T²`, and T is 2.
pub fn global_kd(student: &Tensor, old: &Tensor, temperature: f64) -> Result<Tensor> {
    dtid::kl::check_temperature(temperature)?;
    old_columns(student, old)?;
    let student = log_softmax(&(student / temperature)?, D::Minus1)?.narrow(1, 0, old.dim(1)?)?;
    let old = log_softmax(&(old.detach() / temperature)?, D::Minus1)?;
    let per_row = (old.exp()? * (&old - &student)?)?.sum(D::Minus1)?;
    per_row.mean_all()? * temperature.powi(2)
}

fn old_columns(student: &Tensor, old: &Tensor) -> Result<Tensor> {
    let (n_rows, n_old) = filled_dims2(old, "the old model's logits")?;
    let (student_rows, n_seen) = student.dims2()?;
    if student_rows != n_rows || n_old > n_seen {
        bail!("the old model's logits are {:?}, the student's {:?}", old.dims(), student.dims())
    }
    student.narrow(1, 0, n_old)
}
