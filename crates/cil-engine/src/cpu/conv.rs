//! Convolutions over a batch: frames each image, runs the kernels, and adds weight gradients in a fixed order.
//!
//! The number of threads never changes a result: images are independent, and a weight gradient is summed over chunks
//! of images whose number depends on the batch and the layer only.

use std::sync::Arc;

use rayon::prelude::*;

use super::buffers::{Buffer, Pool, with_scratch};
use super::conv_kernels::{Convolution, WeightGradient, convolve, weight_gradient};
use super::conv_plan::{ConvPlan, Frame};
use super::layout::LANES;
use super::norm_kernels;
use super::simd::Cpu;

/// Where a convolution reads a batch.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Channel-major images of up to four channels.
    Plain(&'a [f32]),
    /// Blocked maps.
    Blocked(&'a [f32]),
}

impl Source<'_> {
    /// Runs `work` on one framed sample.
    fn framed<T>(&self, frame: &Frame, sample: usize, work: impl FnOnce(&[f32]) -> T) -> T {
        if let (true, Self::Blocked(values)) = (frame.is_bare(), self) {
            let len = frame.block.image();
            return work(&values[sample * len..][..len]);
        }
        with_scratch(frame.len(), |framed| {
            self.load(frame, sample, framed);
            work(framed)
        })
    }

    fn load(&self, frame: &Frame, sample: usize, framed: &mut [f32]) {
        let block = frame.block;
        let (Self::Plain(values) | Self::Blocked(values)) = self;
        if let Self::Plain(_) = self {
            framed.fill(0.0);
            let image = &values[sample * block.elements()..][..block.elements()];
            for (at, row) in image.chunks_exact(block.width).enumerate() {
                let (channel, y) = (at / block.height, at % block.height);
                let to = &mut framed[frame.origin() + y * frame.row() + channel..];
                for (pixel, value) in to.iter_mut().step_by(frame.pixel).zip(row) {
                    *pixel = *value;
                }
            }
            return;
        }
        let (row, width) = (frame.row(), block.width * LANES);
        for (number, plane) in framed.chunks_exact_mut(frame.plane()).enumerate() {
            let first = frame.before * row;
            let last = first + block.height * row;
            plane[..first].fill(0.0);
            plane[last..].fill(0.0);
            for (y, framed) in plane[first..last].chunks_exact_mut(row).enumerate() {
                let (left, rest) = framed.split_at_mut(frame.before * LANES);
                let (to, right) = rest.split_at_mut(width);
                left.fill(0.0);
                right.fill(0.0);
                let at = sample * block.image() + number * block.plane() + y * width..;
                to.copy_from_slice(&values[at][..width]);
            }
        }
    }
}

/// Runs a convolution on a batch. `moments` receives each sample's mean and squares, `[rows][2][lanes]`.
pub(super) fn forward(
    cpu: Cpu,
    plan: &ConvPlan,
    source: Source<'_>,
    (weights, bias): (&[f32], Option<&[f32]>),
    out: &mut [f32],
    moments: Option<&mut [f32]>,
) {
    let (len, lanes) = (plan.output.image(), plan.output.blocks() * LANES);
    let mut moments = moments.map(|moments| moments.chunks_exact_mut(2 * lanes));
    let samples = out.chunks_exact_mut(len).enumerate();
    let tasks: Vec<_> =
        samples.map(|(sample, out)| (sample, out, moments.as_mut().and_then(Iterator::next))).collect();
    tasks.into_par_iter().for_each(|(sample, out, moments)| {
        if let Some(bias) = bias {
            fill_bias(out, bias, plan.output.plane());
        }
        source.framed(&plan.x_frame, sample, |x| {
            let call = &mut Convolution {
                x,
                x_grid: plan.x_grid,
                channels: plan.input.channels,
                taps: &plan.taps,
                weights,
                packed_taps: plan.window,
                out,
                out_grid: plan.output_frame().grid(0, 1),
                out_blocks: plan.output.blocks(),
                height: plan.output.height,
                width: plan.output.width,
                add: bias.is_some(),
            };
            convolve(cpu, call);
        });
        if let Some(moments) = moments {
            sample_moments(cpu, out, plan.output.plane(), moments);
        }
    });
}

/// Mean and squares of one sample's planes.
pub(super) fn sample_moments(cpu: Cpu, sample: &[f32], plane: usize, moments: &mut [f32]) {
    let (means, squares) = moments.split_at_mut(moments.len() / 2);
    let results = means.chunks_exact_mut(LANES).zip(squares.chunks_exact_mut(LANES));
    for (plane, (mean, squares)) in sample.chunks_exact(plane).zip(results) {
        norm_kernels::moments(cpu, plane, mean, squares);
    }
}

fn fill_bias(out: &mut [f32], bias: &[f32], plane: usize) {
    for (plane, bias) in out.chunks_exact_mut(plane).zip(bias.chunks(LANES)) {
        for pixel in plane.chunks_exact_mut(LANES) {
            pixel[..bias.len()].copy_from_slice(bias);
            pixel[bias.len()..].fill(0.0);
        }
    }
}

/// What one convolution's backward pass reads and writes.
pub(super) struct Backward<'a> {
    pub(super) dy: Source<'a>,
    /// The input, if the weight gradient is wanted.
    pub(super) x: Option<Source<'a>>,
    /// The input's gradient and the transposed weights, if that is wanted.
    pub(super) dx: Option<(&'a mut [f32], &'a [f32])>,
    /// Whether the input's gradient is added to what is there.
    pub(super) add: bool,
    pub(super) rows: usize,
    /// Whether the bias's gradient is wanted.
    pub(super) bias: bool,
}

/// Weight gradient `[out, in, k, k]` and bias gradient, those that were wanted.
pub(super) type Weights = (Option<Vec<f32>>, Option<Vec<f32>>);

struct Task<'a> {
    first: usize,
    rows: usize,
    dx: Option<&'a mut [f32]>,
    dw: Option<&'a mut [f32]>,
    db: Option<&'a mut [f32]>,
}

/// Runs a convolution's backward pass.
pub(super) fn backward(cpu: Cpu, pool: &Arc<Pool>, plan: &ConvPlan, pass: Backward<'_>) -> Weights {
    let Backward { dy, x, dx, add, rows, bias } = pass;
    let len = plan.weights_len();
    let chunk = if x.is_some() { rows.div_ceil(chunks(len)) } else { 1 };
    let number = rows.div_ceil(chunk);
    let mut partial = x.map(|_| pool.zeros(number * len));
    let mut dw = partial.as_mut().map(|partial| partial.chunks_exact_mut(len));
    let (dx, transposed) = dx.unzip();
    let mut dx = dx.map(|dx| dx.chunks_mut(chunk * plan.input.image()));
    let lanes = plan.output.blocks() * LANES;
    let mut samples = bias.then(|| pool.take(rows * lanes));
    let mut db = samples.as_mut().map(|samples| samples.chunks_mut(chunk * lanes));
    let tasks: Vec<_> = (0..number)
        .map(|task| Task {
            first: task * chunk,
            rows: chunk.min(rows - task * chunk),
            dx: dx.as_mut().and_then(Iterator::next),
            dw: dw.as_mut().and_then(Iterator::next),
            db: db.as_mut().and_then(Iterator::next),
        })
        .collect();
    tasks.into_par_iter().for_each(|mut task| {
        for row in 0..task.rows {
            let sample = task.first + row;
            dy.framed(&plan.dy_frame, sample, |dy| {
                if let (Some(dx), Some(weights)) = (&mut task.dx, transposed) {
                    let dx = &mut dx[row * plan.input.image()..][..plan.input.image()];
                    input_gradient(cpu, plan, dy, weights, dx, add);
                }
                if let Some(db) = &mut task.db {
                    let planes = dy.chunks_exact(plan.dy_frame.plane());
                    for (sums, plane) in db[row * lanes..][..lanes].chunks_exact_mut(LANES).zip(planes) {
                        norm_kernels::plane_sum(cpu, plane, sums);
                    }
                }
                if let (Some(dw), Some(x)) = (&mut task.dw, x) {
                    x.framed(&plan.x_frame, sample, |x| {
                        let call = &mut WeightGradient {
                            x,
                            x_grid: plan.x_grid,
                            channels: plan.input.channels,
                            taps: &plan.taps,
                            dy,
                            dy_grid: plan.dy_frame.grid(plan.dy_frame.origin(), 1),
                            out_blocks: plan.output.blocks(),
                            height: plan.output.height,
                            width: plan.output.width,
                            dw,
                        };
                        weight_gradient(cpu, call);
                    });
                }
            });
        }
    });
    let weights = partial.map(|partial| {
        let sum = sum_chunks(pool, &partial, len);
        let mut weights = vec![0.0; plan.output.channels * plan.input.channels * plan.window];
        plan.unpack(&sum, &mut weights);
        weights
    });
    (weights, samples.map(|samples| totals(&samples, lanes, plan.output.channels)))
}

/// Chunks of images whose weight gradients are added up one after the other: fewer for more weights.
fn chunks(weights: usize) -> usize {
    ((1 << 21) / weights.max(1)).clamp(4, 16)
}

fn sum_chunks(pool: &Arc<Pool>, partial: &[f32], len: usize) -> Buffer {
    let mut sum = pool.take(len);
    let step = 4096;
    sum.par_chunks_mut(step).enumerate().for_each(|(at, sum)| {
        for (number, chunk) in partial.chunks_exact(len).enumerate() {
            let chunk = &chunk[at * step..][..sum.len()];
            if number == 0 {
                sum.copy_from_slice(chunk);
            } else {
                sum.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
            }
        }
    });
    sum
}

fn input_gradient(cpu: Cpu, plan: &ConvPlan, dy: &[f32], weights: &[f32], dx: &mut [f32], add: bool) {
    for parity in &plan.parities {
        let call = &mut Convolution {
            x: dy,
            x_grid: plan.dy_frame.grid(0, 1),
            channels: plan.output.channels,
            taps: &parity.taps,
            weights,
            packed_taps: plan.window,
            out: dx,
            out_grid: parity.grid,
            out_blocks: plan.input.blocks(),
            height: parity.height,
            width: parity.width,
            add,
        };
        convolve(cpu, call);
    }
}

/// Totals over samples of `[rows][lanes]` sums, in `f64`.
fn totals(samples: &[f32], lanes: usize, channels: usize) -> Vec<f32> {
    let mut totals = vec![0f64; lanes];
    for sample in samples.chunks_exact(lanes) {
        totals.iter_mut().zip(sample).for_each(|(total, value)| *total += f64::from(*value));
    }
    totals[..channels].iter().map(|total| *total as f32).collect()
}
