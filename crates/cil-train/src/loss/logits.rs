//! Distillation of the old model's logits on the old columns.

use candle_core::{Result, Tensor, bail};

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

fn old_columns(student: &Tensor, old: &Tensor) -> Result<Tensor> {
    let (n_rows, n_old) = filled_dims2(old, "the old model's logits")?;
    let (student_rows, n_seen) = student.dims2()?;
    if student_rows != n_rows || n_old > n_seen {
        bail!("the old model's logits are {:?}, the student's {:?}", old.dims(), student.dims())
    }
    student.narrow(1, 0, n_old)
}
