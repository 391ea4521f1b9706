//! Variational information distillation on a feature map (Ahn et al., CVPR 2019).
//!
//! `I(teacher; student) ≥ H(teacher) + E[ln q(teacher | student)]`; with `q` a Gaussian whose mean is regressed from
//! the student and whose variance is one number per channel, minus the bound is the loss below up to a constant.
//! The regressors and the variance parameters are the caller's: they train with the student.
//!
//! The loss is written twice, as operations that candle differentiates ([`vid`]), slow and obvious, and as one parallel
//! pass that yields loss and gradients at once ([`vid_grads`]), since maps are large. In the latter, sums over samples
//! run in their order and in `f64`: the number of threads does not matter.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use crate::values::{Value, grain, with_values};

/// Added to every variance. RepDistiller's port of the authors' code.
pub const VARIANCE_FLOOR: f64 = 1e-5;

/// Variance that training starts from. RepDistiller's port of the authors' code.
pub const INITIAL_VARIANCE: f64 = 5.0;

/// Mean over batch, channels and positions of `½ [(teacher - mean)² / s² + ln s²]`, `s² = softplus(a) + 1e-5`.
///
/// `mean`: `[rows, channels, ..]`, regressed from the student; `teacher`: the same shape, detached here;
/// `raw_variance`: `a`, `[channels]`. Not bounded by zero: at least `½ ln 1e-5`; over `s²` it is least at each
/// channel's mean squared residual.
pub fn vid(mean: &Tensor, teacher: &Tensor, raw_variance: &Tensor) -> Result<Tensor> {
    let n_channels = check(mean, teacher, raw_variance)?;
    let mut per_channel = vec![1; mean.rank()];
    per_channel[1] = n_channels;
    let variance = variance(raw_variance)?.reshape(per_channel)?;
    let fit = (teacher.detach() - mean)?.sqr()?.broadcast_div(&variance)?.mean_all()?;
    (fit + variance.log()?.mean_all()?)? * 0.5
}

/// A loss and its gradients.
#[derive(Clone, Debug)]
pub struct VidGrads {
    /// The loss, unweighted; a scalar.
    pub loss: Tensor,
    /// Weight times the gradient to the mean, of its shape.
    pub mean: Tensor,
    /// Weight times the gradient to the raw variances, `[channels]`.
    pub raw_variance: Tensor,
}

/// [`vid`] and its gradients times `weight`, all detached.
///
/// # Errors
/// If the shapes do not fit, the types are not all `f32` or all `f64`, or the tensors are not on the CPU.
pub fn vid_grads(mean: &Tensor, teacher: &Tensor, raw_variance: &Tensor, weight: f64) -> Result<VidGrads> {
    check(mean, teacher, raw_variance)?;
    match mean.dtype() {
        DType::F32 => grads_of::<f32>(mean, teacher, raw_variance, weight),
        DType::F64 => grads_of::<f64>(mean, teacher, raw_variance, weight),
        other => bail!("the regressed map is {other:?}, use F32 or F64"),
    }
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

/// The number of channels.
fn check(mean: &Tensor, teacher: &Tensor, raw_variance: &Tensor) -> Result<usize> {
    if mean.rank() < 2 || mean.dims() != teacher.dims() || mean.elem_count() == 0 {
        bail!("the regressed map is {:?}, the teacher's {:?}", mean.dims(), teacher.dims())
    }
    let n_channels = mean.dim(1)?;
    if raw_variance.dims() != [n_channels] {
        bail!("the variances are {:?}, the map has {n_channels} channels", raw_variance.dims())
    }
    Ok(n_channels)
}

fn grads_of<T: Value>(
    mean: &Tensor,
    teacher: &Tensor,
    raw_variance: &Tensor,
    weight: f64,
) -> Result<VidGrads> {
    let form = Form::new(mean.dims());
    let raw: Vec<f64> = with_values(raw_variance, |raw: &[T]| Ok(raw.iter().map(|it| it.wide()).collect()))?;
    let (loss, to_mean, to_raw) = with_values(mean, |mean: &[T]| {
        with_values(teacher, |teacher: &[T]| Ok(form.grads(mean, teacher, &raw, weight)))
    })?;
    let device = mean.device();
    Ok(VidGrads {
        loss: Tensor::full(T::narrow(loss), (), device)?,
        mean: Tensor::from_vec(to_mean, mean.dims(), device)?,
        raw_variance: Tensor::from_vec(to_raw, raw_variance.dims(), device)?,
    })
}

/// `[rows, channels, positions]`.
#[derive(Clone, Copy)]
struct Form {
    rows: usize,
    channels: usize,
    positions: usize,
}

impl Form {
    fn new(dims: &[usize]) -> Self {
        Self { rows: dims[0], channels: dims[1], positions: dims[2..].iter().product() }
    }

    /// The loss, and weight times its gradients to the mean and to the raw variances.
    fn grads<T: Value>(self, mean: &[T], teacher: &[T], raw: &[f64], weight: f64) -> (f64, Vec<T>, Vec<T>) {
        let spreads: Vec<(f64, f64)> = raw.iter().map(|raw| softplus(*raw)).collect();
        let elements = (self.rows * self.channels * self.positions) as f64;
        let factors: Vec<T> = spreads.iter().map(|it| T::narrow(weight / elements / it.0)).collect();
        let mut to_mean = vec![T::narrow(0.0); mean.len()];
        let mut squares = vec![0f64; self.rows * self.channels];
        let sample = self.channels * self.positions;
        squares
            .par_chunks_exact_mut(self.channels)
            .zip(to_mean.par_chunks_exact_mut(sample))
            .zip(mean.par_chunks_exact(sample).zip(teacher.par_chunks_exact(sample)))
            .with_min_len(grain(sample))
            .for_each(|((squares, to_mean), (mean, teacher))| {
                let planes = mean.chunks_exact(self.positions).zip(teacher.chunks_exact(self.positions));
                let to_planes = to_mean.chunks_exact_mut(self.positions).zip(&factors);
                for ((square, (mean, teacher)), (to_mean, factor)) in
                    squares.iter_mut().zip(planes).zip(to_planes)
                {
                    *square = plane(mean, teacher, to_mean, *factor);
                }
            });
        let (mut loss, mut to_raw) = (0.0, Vec::with_capacity(self.channels));
        for (square, (variance, grad)) in self.over_rows(&squares).into_iter().zip(spreads) {
            let (fit, share) = (square / elements, 1.0 / self.channels as f64);
            loss += 0.5 * (fit / variance + share * variance.ln());
            to_raw.push(T::narrow(weight * 0.5 * grad * (share - fit / variance) / variance));
        }
        (loss, to_mean, to_raw)
    }

    /// Sums over rows, in their order, of a table `[rows, channels]`.
    fn over_rows(self, table: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for row in table.chunks_exact(self.channels) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

/// One channel's variance and its grad over the raw parameter.
fn softplus(raw: f64) -> (f64, f64) {
    (raw.max(0.0) + (-raw.abs()).exp().ln_1p() + VARIANCE_FLOOR, 1.0 / (1.0 + (-raw).exp()))
}

/// Writes `(mean - teacher) * factor`; the sum of squared differences, in eight partial sums.
fn plane<T: Value>(mean: &[T], teacher: &[T], grad: &mut [T], factor: T) -> f64 {
    const LANES: usize = 8;
    let ((mean, mean_rest), (teacher, teacher_rest)) =
        (mean.as_chunks::<LANES>(), teacher.as_chunks::<LANES>());
    let (grad, grad_rest) = grad.as_chunks_mut::<LANES>();
    let mut lanes = [0f64; LANES];
    for ((mean, teacher), grad) in mean.iter().zip(teacher).zip(grad) {
        for lane in 0..LANES {
            let difference = mean[lane] - teacher[lane];
            grad[lane] = difference * factor;
            lanes[lane] += difference.wide() * difference.wide();
        }
    }
    let mut sum = lanes.iter().sum::<f64>();
    for ((mean, teacher), grad) in mean_rest.iter().zip(teacher_rest).zip(grad_rest) {
        let difference = *mean - *teacher;
        *grad = difference * factor;
        sum += difference.wide() * difference.wide();
    }
    sum
}
