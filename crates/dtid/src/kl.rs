//! Kullback-Leibler distillation from one teacher.
//!
//! This module does not choose rows, columns or weights; see [`crate::dual`].

use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::log_softmax;
use cil_engine::rows;

/// Bounds of the temperature. Outside, the softmax is a step or flat to the last bit of `f32`; 2 in LwF, 20 at most
/// in Hinton et al. 2015.
const TEMPERATURES: std::ops::RangeInclusive<f64> = 0.01..=10_000.0;

/// `T² · KL(teacher ‖ student)`, averaged over rows. Never negative; zero when both agree up to a constant per row.
///
/// `student`, `teacher`: `[rows, classes]` logits, at least one row and one class. With one class it is zero, with
/// no gradient. The factor `T²` keeps the gradient's size independent of `temperature` (Hinton et al. 2015,
/// section 2). LwF as FACIL and ABD release it is `T²` times smaller and adds the teacher's entropy, a constant.
pub fn kl(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    check_logits(student, teacher)?;
    check_temperature(temperature)?;
    if let Some(loss) = rows::divergence(student, teacher, temperature)? {
        return Ok(loss);
    }
    let student = log_softmax(&(student / temperature)?, D::Minus1)?;
    let teacher = log_softmax(&(teacher.detach() / temperature)?, D::Minus1)?;
    let per_row = (teacher.exp()? * (&teacher - &student)?)?.sum(D::Minus1)?;
    per_row.mean_all()? * temperature.powi(2)
}

/// Refuses a temperature that no softmax has.
///
/// # Errors
/// Naming it.
pub fn check_temperature(temperature: f64) -> Result<()> {
    if !TEMPERATURES.contains(&temperature) {
        let (least, most) = (TEMPERATURES.start(), TEMPERATURES.end());
        bail!("temperature is {temperature:?}; use a value from {least} to {most}")
    }
    Ok(())
}

fn check_logits(student: &Tensor, teacher: &Tensor) -> Result<()> {
    let (n_rows, n_classes) = student.dims2()?;
    if n_rows == 0 || n_classes == 0 {
        bail!("distillation needs at least one row and one class, got [{n_rows}, {n_classes}]")
    }
    if teacher.dims() != student.dims() {
        bail!("the teacher's logits are {:?}, the student's {:?}", teacher.dims(), student.dims())
    }
    Ok(())
}
