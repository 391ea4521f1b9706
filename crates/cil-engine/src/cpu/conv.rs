//! Convolutions over a batch: frames groups of images, runs the kernels, and adds weight gradients in a fixed order.
//!
//! The number of threads never changes a result: images are independent, and a weight gradient is summed over chunks
//! of images whose number depends on the batch and the layer only.

use std::sync::Arc;

use rayon::prelude::*;

use super::buffers::{Buffer, Pool, with_scratch};
use super::conv_kernels::{Convolution, convolve};
use super::conv_plan::ConvPlan;
use super::conv_wide;
use super::layout::LANES;
use super::load::{Completion, Normalised, Source};
use super::norm_kernels;
use super::simd::Cpu;
use super::weight_kernels::{WeightGradient, weight_gradient};
use super::winograd::Framed;

/// Inputs and outputs of one convolution's forward pass.
pub(super) struct Forward<'a> {
    pub(super) source: Source<'a>,
    /// Receives the input, where that is normalised on the way.
    pub(super) copy: Option<&'a mut [f32]>,
    pub(super) weights: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: &'a mut [f32],
    /// Receives each sample's mean and squares, `[rows][2][lanes]`.
    pub(super) moments: Option<&'a mut [f32]>,
    /// The operation that follows at once, in place; its `x` is not read.
    pub(super) then: Option<Normalised<'a>>,
}

struct ForwardTask<'a> {
    first: usize,
    out: &'a mut [f32],
    copy: Option<&'a mut [f32]>,
    moments: Option<&'a mut [f32]>,
}

/// Runs a convolution on a batch.
pub(super) fn forward(cpu: Cpu, pool: &Arc<Pool>, plan: &ConvPlan, pass: Forward<'_>) {
    if let Some(tiles) = plan.wide_tiles() {
        return conv_wide::forward(cpu, pool, plan, tiles, pass);
    }
    let Forward { source, copy, weights, bias, out, moments, then } = pass;
    let (len, lanes, group) = (plan.output.image(), plan.output.blocks() * LANES, plan.group());
    let mut copies = copy.map(|copy| copy.chunks_mut(group * plan.input.image()));
    let mut moments = moments.map(|moments| moments.chunks_mut(group * 2 * lanes));
    let tasks: Vec<_> = out
        .chunks_mut(group * len)
        .enumerate()
        .map(|(at, out)| ForwardTask {
            first: at * group,
            out,
            copy: copies.as_mut().and_then(Iterator::next),
            moments: moments.as_mut().and_then(Iterator::next),
        })
        .collect();
    tasks.into_par_iter().for_each(|task| {
        let ForwardTask { first, out, copy, moments } = task;
        if let Some(bias) = bias {
            out.chunks_exact_mut(len).for_each(|out| fill_bias(out, bias, plan.output.plane()));
        }
        let count = out.len() / len;
        source.framed(cpu, &plan.x_frame, (first, count), copy, |x| {
            run(cpu, plan, x, weights, out, bias.is_some());
        });
        after(cpu, plan, first, out, moments, then);
    });
}

/// Processes outputs while they are in the cache: moments, or the batch norm after the convolution.
pub(super) fn after(
    cpu: Cpu,
    plan: &ConvPlan,
    first: usize,
    out: &mut [f32],
    moments: Option<&mut [f32]>,
    then: Option<Normalised<'_>>,
) {
    let (len, lanes) = (plan.output.image(), plan.output.blocks() * LANES);
    if let Some(moments) = moments {
        for (out, moments) in out.chunks_exact(len).zip(moments.chunks_exact_mut(2 * lanes)) {
            sample_moments(cpu, out, plan.output.plane(), moments);
        }
    }
    if let Some(then) = then {
        for (at, out) in out.chunks_exact_mut(len).enumerate() {
            let at = (first + at) * len;
            then.by.apply_in_place(cpu, at, then.residual, then.activation, plan.output, out);
        }
    }
}

/// Completes the gradients of images from `first` on; `sums` receives theirs.
pub(super) fn complete(
    cpu: Cpu,
    plan: &ConvPlan,
    completion: Option<Completion<'_>>,
    first: usize,
    dx: &mut [f32],
    mut sums: Option<&mut [f32]>,
) {
    let Some(completion) = completion else { return };
    let lanes = 2 * plan.input.blocks() * LANES;
    for (at, dx) in dx.chunks_exact_mut(plan.input.image()).enumerate() {
        let sums = sums.as_deref_mut().map(|sums| &mut sums[at * lanes..][..lanes]);
        completion.apply(cpu, first + at, plan.input.plane(), dx, sums);
    }
}

/// Sums of every framed image's gradient.
pub(super) fn bias_samples(cpu: Cpu, plan: &ConvPlan, dy: &[f32], samples: &mut [f32]) {
    let planes = dy.chunks_exact(plan.dy_frame.plane());
    for (sums, plane) in samples.chunks_exact_mut(LANES).zip(planes) {
        norm_kernels::plane_sum(cpu, plane, sums);
    }
}

/// The convolution of framed images.
fn run(cpu: Cpu, plan: &ConvPlan, framed: &[f32], weights: &[f32], out: &mut [f32], add: bool) {
    if let Some(tiles) = plan.tiles {
        let from = Framed { values: framed, frame: &plan.x_frame, start: 0 };
        return tiles.convolve(cpu, from, weights, (plan.output, out), add);
    }
    let call = &mut Convolution {
        images: out.len() / plan.output.image(),
        x: framed,
        x_grid: plan.x_grid,
        x_image: plan.x_frame.len(),
        channels: plan.input.channels,
        taps: &plan.taps,
        weights,
        packed_taps: plan.window,
        out,
        out_grid: plan.output_frame().grid(0, 1),
        out_image: plan.output.image(),
        out_blocks: plan.output.blocks(),
        height: plan.output.height,
        width: plan.output.width,
        add,
    };
    convolve(cpu, call);
}

/// Mean and squares of one sample's planes.
pub(super) fn sample_moments(cpu: Cpu, sample: &[f32], plane: usize, moments: &mut [f32]) {
    let (means, squares) = moments.split_at_mut(moments.len() / 2);
    let results = means.chunks_exact_mut(LANES).zip(squares.chunks_exact_mut(LANES));
    for (plane, (mean, squares)) in sample.chunks_exact(plane).zip(results) {
        norm_kernels::moments(cpu, plane, mean, squares);
    }
}

pub(super) fn fill_bias(out: &mut [f32], bias: &[f32], plane: usize) {
    for (plane, bias) in out.chunks_exact_mut(plane).zip(bias.chunks(LANES)) {
        for pixel in plane.chunks_exact_mut(LANES) {
            pixel[..bias.len()].copy_from_slice(bias);
            pixel[bias.len()..].fill(0.0);
        }
    }
}

/// Inputs and outputs of one convolution's backward pass.
pub(super) struct Backward<'a> {
    pub(super) dy: Source<'a>,
    /// The input, if the weight gradient is wanted.
    pub(super) x: Option<Source<'a>>,
    /// The input's gradient and the transposed weights, if that is wanted.
    pub(super) dx: Option<(&'a mut [f32], &'a [f32])>,
    /// Whether the input's gradient is added to what is there.
    pub(super) add: bool,
    /// The operation on the input's gradient when it is complete.
    pub(super) completion: Option<Completion<'a>>,
    /// Receives the sums of the completion, `[rows][2][lanes]`.
    pub(super) sums: Option<&'a mut [f32]>,
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
    sums: Option<&'a mut [f32]>,
    dw: Option<&'a mut [f32]>,
    db: Option<&'a mut [f32]>,
}

/// Runs a convolution's backward pass.
pub(super) fn backward(cpu: Cpu, pool: &Arc<Pool>, plan: &ConvPlan, pass: Backward<'_>) -> Weights {
    if let Some(tiles) = plan.wide_tiles() {
        return conv_wide::backward(cpu, pool, plan, tiles, pass);
    }
    let Backward { dy, x, dx, add, completion, sums, rows, bias } = pass;
    let len = plan.gradient_len();
    let group = plan.group();
    let chunk = if x.is_some() { rows.div_ceil(chunks(len)) } else { group };
    let number = rows.div_ceil(chunk);
    let mut partial = x.map(|_| pool.take(number * len));
    let mut dw = partial.as_mut().map(|partial| partial.chunks_exact_mut(len));
    let (dx, transposed) = dx.unzip();
    let mut dx = dx.map(|dx| dx.chunks_mut(chunk * plan.input.image()));
    let mut sums = sums.map(|sums| sums.chunks_mut(chunk * 2 * plan.input.blocks() * LANES));
    let lanes = plan.output.blocks() * LANES;
    let mut samples = bias.then(|| pool.take(rows * lanes));
    let mut db = samples.as_mut().map(|samples| samples.chunks_mut(chunk * lanes));
    let tasks: Vec<_> = (0..number)
        .map(|task| Task {
            first: task * chunk,
            rows: chunk.min(rows - task * chunk),
            dx: dx.as_mut().and_then(Iterator::next),
            sums: sums.as_mut().and_then(Iterator::next),
            dw: dw.as_mut().and_then(Iterator::next),
            db: db.as_mut().and_then(Iterator::next),
        })
        .collect();
    let work = |task: &mut Task<'_>, mut dw: Option<&mut [f32]>| {
        for row in (0..task.rows).step_by(group) {
            let (first, count) = (task.first + row, group.min(task.rows - row));
            dy.framed(cpu, &plan.dy_frame, (first, count), None, |dy| {
                if let (Some(dx), Some(weights)) = (&mut task.dx, transposed) {
                    let image = plan.input.image();
                    let dx = &mut dx[row * image..][..count * image];
                    input_gradient(cpu, plan, dy, weights, dx, add);
                    let lanes = 2 * plan.input.blocks() * LANES;
                    let sums = task.sums.as_deref_mut().map(|sums| &mut sums[row * lanes..]);
                    complete(cpu, plan, completion, first, dx, sums);
                }
                if let Some(db) = &mut task.db {
                    bias_samples(cpu, plan, dy, &mut db[row * lanes..]);
                }
                if let (Some(dw), Some(x)) = (&mut dw, x) {
                    x.framed(cpu, &plan.x_frame, (first, count), None, |x| weights_of(cpu, plan, x, dy, dw));
                }
            });
        }
    };
    tasks.into_par_iter().for_each(|mut task| match (task.dw.take(), plan.tiles) {
        (Some(dw), Some(tiles)) => with_scratch(plan.weights_len(), |transformed| {
            transformed.fill(0.0);
            work(&mut task, Some(transformed));
            let blocks = plan.output.blocks();
            let each =
                transformed.chunks_exact(plan.weights_len() / blocks).zip(dw.chunks_exact_mut(len / blocks));
            each.for_each(|(from, to)| tiles.transform_weights_back(cpu, from, to));
        }),
        (Some(dw), None) => {
            dw.fill(0.0);
            work(&mut task, Some(dw));
        }
        (None, _) => work(&mut task, None),
    });
    let weights = partial.map(|partial| {
        let sum = sum_chunks(pool, &partial, len);
        let mut weights = vec![0.0; plan.output.channels * plan.input.channels * plan.window];
        plan.unpack(&sum, &mut weights);
        weights
    });
    (weights, samples.map(|samples| totals(&samples, lanes, plan.output.channels)))
}

/// Adds framed images' contribution to a weight gradient.
fn weights_of(cpu: Cpu, plan: &ConvPlan, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if let Some(tiles) = plan.tiles {
        let images = x.len() / plan.x_frame.len();
        let x = Framed { values: x, frame: &plan.x_frame, start: 0 };
        let dy = Framed { values: dy, frame: &plan.dy_frame, start: plan.dy_frame.origin() };
        return tiles.weight_gradient(cpu, x, dy, images, dw);
    }
    let call = &mut WeightGradient {
        images: x.len() / plan.x_frame.len(),
        x,
        x_grid: plan.x_grid,
        x_image: plan.x_frame.len(),
        channels: plan.input.channels,
        taps: &plan.taps,
        dy,
        dy_grid: plan.dy_frame.grid(plan.dy_frame.origin(), 1),
        dy_image: plan.dy_frame.len(),
        out_blocks: plan.output.blocks(),
        height: plan.output.height,
        width: plan.output.width,
        dw,
    };
    weight_gradient(cpu, call);
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

/// The gradient to the input of framed images.
fn input_gradient(cpu: Cpu, plan: &ConvPlan, dy: &[f32], weights: &[f32], dx: &mut [f32], add: bool) {
    if let (Some(tiles), true) = (plan.tiles, plan.input_tiled) {
        let start = if tiles.up() { plan.dy_frame.origin() } else { 0 };
        let dy = Framed { values: dy, frame: &plan.dy_frame, start };
        return match tiles.up() {
            true => tiles.up_input_gradient(cpu, dy, weights, (plan.input, dx), add),
            false => tiles.convolve(cpu, dy, weights, (plan.input, dx), add),
        };
    }
    for parity in &plan.parities {
        let call = &mut Convolution {
            images: dx.len() / plan.input.image(),
            x: dy,
            x_grid: plan.dy_frame.grid(0, 1),
            x_image: plan.dy_frame.len(),
            channels: plan.output.channels,
            taps: &parity.taps,
            weights,
            packed_taps: plan.window,
            out: dx,
            out_grid: parity.grid,
            out_image: plan.input.image(),
            out_blocks: plan.input.blocks(),
            height: parity.height,
            width: parity.width,
            add,
        };
        convolve(cpu, call);
    }
}

/// Totals over samples of `[rows][lanes]` sums, in `f64`.
pub(super) fn totals(samples: &[f32], lanes: usize, channels: usize) -> Vec<f32> {
    let mut totals = vec![0f64; lanes];
    for sample in samples.chunks_exact(lanes) {
        totals.iter_mut().zip(sample).for_each(|(total, value)| *total += f64::from(*value));
    }
    totals[..channels].iter().map(|total| *total as f32).collect()
}
