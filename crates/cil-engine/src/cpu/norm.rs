//! Batch norm over a batch: merges the samples' moments, and turns sums into gradients.
//!
//! Moments of samples are merged by Chan's rule in `f64`, sample after sample, so a large mean costs no digits and the
//! number of threads changes nothing.

use candle_core::Result;
use rayon::prelude::*;

use super::layout::{Block, LANES, grain};
use super::load::{Completion, Mask};
use super::norm_kernels::{self, Channel, Linearised};
use super::simd::Cpu;
use crate::fusion::Activation;
use crate::ranks::{self, Ranks};

/// Mean and biased variance of every channel.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
    /// Divided by count - 1.
    pub(super) unbiased: Vec<f32>,
}

/// Means and sums of squared distances from them, by channel, of `count` values each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Merged {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Merged {
    /// Of `[rows][2][lanes]` samples' means and squares.
    pub(super) fn of(samples: &[f32], block: Block) -> Self {
        let lanes = block.blocks() * LANES;
        let channels = block.channels;
        let each = block.positions() as f64;
        let mut merged = Self { count: 0.0, mean: vec![0.0; channels], squares: vec![0.0; channels] };
        for sample in samples.chunks_exact(2 * lanes) {
            let (means, squares) = sample.split_at(lanes);
            merged.add(each, |at| (f64::from(means[at]), f64::from(squares[at])));
        }
        merged
    }

    /// Adds `count` values of each channel, whose mean and squares `other` has.
    fn add(&mut self, count: f64, other: impl Fn(usize) -> (f64, f64)) {
        let total = self.count + count;
        for (at, (mean, squares)) in self.mean.iter_mut().zip(&mut self.squares).enumerate() {
            let (others_mean, others_squares) = other(at);
            let distance = others_mean - *mean;
            *mean += distance * count / total;
            *squares += others_squares + distance * distance * self.count * count / total;
        }
        self.count = total;
    }

    /// Of the values of all ranks, merged in the order of ranks.
    pub(super) fn of_all(&self, ranks: &dyn Ranks) -> Result<Self> {
        let channels = self.mean.len();
        let own: Vec<f64> =
            std::iter::once(self.count).chain(self.mean.iter().chain(&self.squares).copied()).collect();
        let all = ranks::gather_each(ranks, &own)?;
        let mut merged = Self { count: 0.0, mean: vec![0.0; channels], squares: vec![0.0; channels] };
        for of_rank in &all {
            merged.add(of_rank[0], |at| (of_rank[1 + at], of_rank[1 + channels + at]));
        }
        Ok(merged)
    }

    pub(super) fn moments(&self) -> Moments {
        let over = |count: f64| self.squares.iter().map(|sum| (sum / count) as f32).collect();
        Moments {
            mean: self.mean.iter().map(|mean| *mean as f32).collect(),
            variance: over(self.count.max(1.0)),
            unbiased: over((self.count - 1.0).max(1.0)),
        }
    }
}

/// Moments of a batch in blocked layout.
pub(super) fn batch_moments(cpu: Cpu, values: &[f32], rows: usize, block: Block) -> Vec<f32> {
    let lanes = block.blocks() * LANES;
    let mut moments = vec![0.0; rows * 2 * lanes];
    let samples = moments.par_chunks_exact_mut(2 * lanes).zip(values.par_chunks_exact(block.image()));
    samples.with_min_len(grain(block.image())).for_each(|(moments, sample)| {
        super::conv::sample_moments(cpu, sample, block.plane(), moments);
    });
    moments
}

/// Per-channel numbers in groups of sixteen, zeros past the last.
pub(super) fn channels(values: &[f32]) -> Vec<Channel> {
    let group = |values: &[f32]| {
        let mut channel = [0.0; LANES];
        channel[..values.len()].copy_from_slice(values);
        channel
    };
    values.chunks(LANES).map(group).collect()
}

/// The values of one batch norm that backward needs.
#[derive(Clone, Debug)]
pub(super) struct Normalisation {
    /// The subtracted value.
    pub(super) centre: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`
    pub(super) inverse: Vec<f32>,
    /// The learned scale, or ones.
    pub(super) gamma: Vec<f32>,
    /// Factor and summand that do it all: `x * scale + shift`.
    pub(super) scale: Vec<Channel>,
    pub(super) shift: Vec<Channel>,
    /// Whether centre and variance came from this batch.
    pub(super) batch: bool,
    /// The batch's mean, if moments were asked for.
    pub(super) mean: Option<Vec<f32>>,
}

impl Normalisation {
    pub(super) fn new(
        centre: &[f32],
        variance: &[f32],
        affine: Option<(&[f32], &[f32])>,
        epsilon: f64,
    ) -> Self {
        let inverse: Vec<f32> =
            variance.iter().map(|variance| (1.0 / (f64::from(*variance) + epsilon).sqrt()) as f32).collect();
        let gamma = affine.map_or_else(|| vec![1.0; centre.len()], |(gamma, _)| gamma.to_vec());
        let scale: Vec<f32> = inverse.iter().zip(&gamma).map(|(inverse, gamma)| inverse * gamma).collect();
        let shift: Vec<f32> = (0..centre.len())
            .map(|at| {
                (affine.map_or(0.0, |(_, beta)| f64::from(beta[at]))
                    - f64::from(centre[at]) * f64::from(scale[at])) as f32
            })
            .collect();
        let (scale, shift) = (channels(&scale), channels(&shift));
        Self { centre: centre.to_vec(), inverse, gamma, scale, shift, batch: false, mean: None }
    }

    /// `activation(x * scale + shift + residual)` of a batch.
    pub(super) fn apply(
        &self,
        cpu: Cpu,
        x: &[f32],
        residual: Option<&[f32]>,
        activation: Activation,
        block: Block,
        out: &mut [f32],
    ) {
        super::layout::each_sample(out, block.image(), |row, out| {
            let at = row * block.image();
            for (number, out) in out.chunks_exact_mut(block.plane()).enumerate() {
                let at = at + number * block.plane();
                let residual = residual.map(|residual| &residual[at..][..out.len()]);
                let by = (&self.scale[number], &self.shift[number]);
                norm_kernels::affine(cpu, Some(&x[at..][..out.len()]), by, residual, activation, out);
            }
        });
    }

    /// The same of one sample, in place; `at` is where the sample begins in the residual.
    pub(super) fn apply_in_place(
        &self,
        cpu: Cpu,
        at: usize,
        residual: Option<&[f32]>,
        activation: Activation,
        block: Block,
        sample: &mut [f32],
    ) {
        for (number, out) in sample.chunks_exact_mut(block.plane()).enumerate() {
            let residual = residual.map(|residual| &residual[at + number * block.plane()..][..out.len()]);
            let by = (&self.scale[number], &self.shift[number]);
            norm_kernels::affine(cpu, None, by, residual, activation, out);
        }
    }

    /// Sums over the batch of the gradient and of gradient times `(x - centre)`, from those of its samples.
    pub(super) fn totals(samples: &[f32], block: Block) -> (Vec<f64>, Vec<f64>) {
        let lanes = block.blocks() * LANES;
        let (mut plain, mut product) = (vec![0f64; block.channels], vec![0f64; block.channels]);
        for sample in samples.chunks_exact(2 * lanes) {
            for lane in 0..block.channels {
                plain[lane] += f64::from(sample[lane]);
                product[lane] += f64::from(sample[lanes + lane]);
            }
        }
        (plain, product)
    }

    /// The same of the batch of all ranks, added up in their order.
    pub(super) fn totals_of_all(
        (plain, product): (&[f64], &[f64]),
        ranks: &dyn Ranks,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut sums = vec![0.0; 2 * plain.len()];
        for of_rank in ranks::gather_each(ranks, &[plain, product].concat())? {
            sums.iter_mut().zip(of_rank).for_each(|(sum, value)| *sum += value);
        }
        let product = sums.split_off(plain.len());
        Ok((sums, product))
    }

    /// The gradient before the norm as a function of the gradient behind it, from the batch's sums and the gradient to
    /// the batch's moments.
    pub(super) fn linearise(
        &self,
        (plain, product): (&[f64], &[f64]),
        moments: Option<(&[f32], &[f32])>,
        count: usize,
    ) -> Vec<Linearised> {
        let count = count as f64;
        let width = self.centre.len();
        let (mut slope, mut shift) = (vec![0f32; width], vec![0f32; width]);
        let scale: Vec<f32> =
            self.inverse.iter().zip(&self.gamma).map(|(inverse, gamma)| inverse * gamma).collect();
        for at in 0..width {
            let (mut linear, mut constant) = (0f64, 0f64);
            if self.batch {
                let inverse = f64::from(self.inverse[at]);
                let factor = f64::from(self.gamma[at]) * inverse / count;
                linear -= factor * inverse * inverse * product[at];
                constant -= factor * plain[at];
            }
            if let (Some((to_mean, to_variance)), Some(mean)) = (moments, &self.mean) {
                let more = 2.0 * f64::from(to_variance[at]) / count;
                linear += more;
                // `centre` may be a running mean.
                constant += f64::from(to_mean[at]) / count
                    + more * (f64::from(self.centre[at]) - f64::from(mean[at]));
            }
            (slope[at], shift[at]) = (linear as f32, constant as f32);
        }
        let parts = channels(&scale)
            .into_iter()
            .zip(channels(&self.centre))
            .zip(channels(&slope))
            .zip(channels(&shift));
        parts.map(|(((scale, centre), slope), shift)| Linearised { scale, centre, slope, shift }).collect()
    }
}

/// The gradient before a batch norm, of a batch.
pub(super) fn apply_linearised(
    cpu: Cpu,
    gradient: &[f32],
    x: &[f32],
    by: &[Linearised],
    block: Block,
    out: &mut [f32],
) {
    super::layout::each_sample(out, block.image(), |row, out| {
        for (number, out) in out.chunks_exact_mut(block.plane()).enumerate() {
            let at = row * block.image() + number * block.plane();
            let (gradient, x) = (&gradient[at..][..out.len()], &x[at..][..out.len()]);
            norm_kernels::linearised(cpu, gradient, x, &by[number], out);
        }
    });
}

/// Masks a gradient by an activation's output, in place.
pub(super) fn mask_batch(cpu: Cpu, gradient: &mut [f32], output: &[f32], slope: f32, block: Block) {
    complete_batch(
        cpu,
        gradient,
        &Completion { x: &[], mask: Mask::Output(output), slope, centre: None },
        None,
        block,
    );
}

/// Completes a batch's gradient in place; `sums` receives what [`Completion::apply`] says, `[rows][2][lanes]`.
pub(super) fn complete_batch(
    cpu: Cpu,
    gradient: &mut [f32],
    completion: &Completion<'_>,
    sums: Option<&mut [f32]>,
    block: Block,
) {
    let (len, grain) = (block.image(), grain(block.image()));
    match sums {
        Some(sums) => {
            let sums = sums.par_chunks_exact_mut(2 * block.blocks() * LANES);
            let samples = gradient.par_chunks_exact_mut(len).zip(sums).enumerate().with_min_len(grain);
            samples.for_each(|(row, (gradient, sums))| {
                completion.apply(cpu, row, block.plane(), gradient, Some(sums));
            });
        }
        None => super::layout::each_sample(gradient, len, |row, gradient| {
            completion.apply(cpu, row, block.plane(), gradient, None);
        }),
    }
}
