//! Variational information distillation on a feature map (Ahn et al., CVPR 2019).
//!
//! `I(teacher; student) ≥ H(teacher) + E[ln q(teacher | student)]`; with `q` a Gaussian whose mean is regressed from
//! the student and whose variance is one number per channel, minus the bound is the loss below up to a constant.
//! The regressors and the variance parameters are the caller's: they train with the student.

use candle_core::{DType, Device, Result, Tensor, bail};

/// Added to every variance. RepDistiller's port of the authors' code.
pub const VARIANCE_FLOOR: f64 = 1e-5;

/// Variance that training starts from. RepDistiller's port of the authors' code.
pub const INITIAL_VARIANCE: f64 = 5.0;

/// Mean over batch, channels and positions of `½ [(teacher - mean)² / s² + ln s²]`, `s² = softplus(a) + 1e-5`.
///
/// `mean`: `[rows, channels, ..]`, regressed from the student; `teacher`: the same shape, detached here;
/// `raw_variance`: `a`, `[channels]`. Not bounded by zero: at least `½ ln 1e-5`; over `s²` it is least at each channel's
/// mean squared residual.
pub fn vid(mean: &Tensor, teacher: &Tensor, raw_variance: &Tensor) -> Result<Tensor> {
    if mean.rank() < 2 || mean.dims() != teacher.dims() || mean.elem_count() == 0 {
        bail!("the regressed map is {:?}, the teacher's {:?}", mean.dims(), teacher.dims())
    }
    let n_channels = mean.dim(1)?;
    if raw_variance.dims() != [n_channels] {
        bail!("the variances are {:?}, the map has {n_channels} channels", raw_variance.dims())
    }
    let mut per_channel = vec![1; mean.rank()];
    per_channel[1] = n_channels;
    let variance = variance(raw_variance)?.reshape(per_channel)?;
    let fit = (teacher.detach() - mean)?.sqr()?.broadcast_div(&variance)?.mean_all()?;
    (fit + variance.log()?.mean_all()?)? * 0.5
}

/// `softplus(raw) + 1e-5`, any shape; positive, and exact in value and gradient for large `|raw|` and at zero.
pub fn variance(raw: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[raw, &raw.zeros_like()?], 0)?.log_sum_exp(0)? + VARIANCE_FLOOR
}

/// The raw parameters `[channels]` at which [`variance`] is [`INITIAL_VARIANCE`]: `ln(exp(5 - 1e-5) - 1)`.
pub fn initial_raw_variance(n_channels: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let raw = (INITIAL_VARIANCE - VARIANCE_FLOOR).exp_m1().ln();
    Tensor::full(raw, n_channels, device)?.to_dtype(dtype)
}
