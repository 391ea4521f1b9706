//! Winograd convolutions of wide layers, whose weights are larger than their maps.
//!
//! Where every group of images read all weights, reading them would cost more than the products. So all images go
//! through each step together: patches of all images, then products position by position, with every weight read once,
//! then the outputs of all images. The gradient of the weights is worked out block by block, over all images.

use std::sync::Arc;

use rayon::prelude::*;

use super::buffers::{Buffer, Pool, with_scratch};
use super::conv::{Backward, Forward, Weights, after, bias_samples, complete, fill_bias, totals};
use super::conv_plan::{ConvPlan, Frame, unpack_block};
use super::layout::{Block, LANES};
use super::load::Source;
use super::simd::Cpu;
use super::winograd::{Framed, Strip, Tiles};
use super::winograd_lines::Map;

/// Out blocks whose weights are read together.
const PAIR: usize = 2;

/// A batch in groups of images.
#[derive(Clone, Copy)]
struct Groups {
    tiles: Tiles,
    rows: usize,
    size: usize,
}

impl Groups {
    fn new(tiles: Tiles, rows: usize) -> Self {
        Self { tiles, rows, size: tiles.group() }
    }

    fn count(self) -> usize {
        self.rows.div_ceil(self.size)
    }

    /// Images of a group.
    fn images(self, group: usize) -> usize {
        self.size.min(self.rows - group * self.size)
    }

    /// Its tiles; all groups have the same room.
    fn strip(self, group: usize) -> Strip {
        let tiles = self.tiles.rows * self.tiles.columns;
        Strip { first: 0, rows: self.images(group) * self.tiles.rows, capacity: self.size * tiles + 1 }
    }

    /// Values of one group's planes for one position.
    fn plane(self, block: Block) -> usize {
        block.blocks() * self.strip(0).capacity * LANES
    }

    /// Values of one group's planes for all positions.
    fn len(self, block: Block) -> usize {
        self.tiles.positions() * self.plane(block)
    }
}

/// Products of all groups, `[positions][groups][out blocks][capacity][16]`, from their factors,
/// `[groups][positions][blocks][capacity][16]`.
fn multiply(
    cpu: Cpu,
    groups: Groups,
    (factors, input): (&[f32], Block),
    weights: &[f32],
    (products, output): (&mut [f32], Block),
) {
    let (plane, out_plane) = (groups.plane(input), groups.plane(output));
    let blocks = output.blocks();
    products.par_chunks_exact_mut(groups.count() * out_plane).enumerate().for_each(|(position, products)| {
        for first in (0..blocks).step_by(PAIR) {
            let count = PAIR.min(blocks - first);
            for (group, products) in products.chunks_exact_mut(out_plane).enumerate() {
                let x = &factors[group * groups.len(input) + position * plane..][..plane];
                let each = out_plane / blocks;
                let out = (&mut products[first * each..][..count * each], first, count);
                let strip = groups.strip(group);
                groups.tiles.multiply_position(cpu, position, (x, input.blocks()), weights, out, strip);
            }
        }
    });
}

/// The transform of one group of framed images.
fn transform(
    cpu: Cpu,
    groups: Groups,
    map: Map,
    group: usize,
    (framed, frame): (&[f32], &Frame),
    to: &mut [f32],
) {
    let start = if map == Map::Patch { 0 } else { frame.origin() };
    let from = Framed { values: framed, frame, start };
    groups.tiles.transform(cpu, map, from, groups.strip(group), to);
}

/// Runs a convolution on a batch.
pub(super) fn forward(cpu: Cpu, pool: &Arc<Pool>, plan: &ConvPlan, tiles: Tiles, pass: Forward<'_>) {
    let Forward { source, copy, weights, bias, out, moments, then } = pass;
    let (image, lanes) = (plan.output.image(), plan.output.blocks() * LANES);
    let groups = Groups::new(tiles, out.len() / image);
    let mut factors = pool.take(groups.count() * groups.len(plan.input));
    let mut copies = copy.map(|copy| copy.chunks_mut(groups.size * plan.input.image()));
    let tasks: Vec<_> = factors
        .chunks_exact_mut(groups.len(plan.input))
        .enumerate()
        .map(|(group, factors)| (group, factors, copies.as_mut().and_then(Iterator::next)))
        .collect();
    tasks.into_par_iter().for_each(|(group, factors, copy)| {
        let range = (group * groups.size, groups.images(group));
        source.framed(cpu, &plan.x_frame, range, copy, |x| {
            transform(cpu, groups, Map::Patch, group, (x, &plan.x_frame), factors);
        });
    });
    let mut products = pool.take(groups.count() * groups.len(plan.output));
    multiply(cpu, groups, (&factors, plan.input), weights, (&mut products, plan.output));
    let mut moments = moments.map(|moments| moments.chunks_mut(groups.size * 2 * lanes));
    let tasks: Vec<_> = out
        .chunks_mut(groups.size * image)
        .enumerate()
        .map(|(group, out)| (group, out, moments.as_mut().and_then(Iterator::next)))
        .collect();
    tasks.into_par_iter().for_each(|(group, out, moments)| {
        if let Some(bias) = bias {
            out.chunks_exact_mut(image).for_each(|out| fill_bias(out, bias, plan.output.plane()));
        }
        collect(cpu, groups, group, &products, (plan.output, out), bias.is_some());
        after(cpu, plan, group * groups.size, out, moments, then);
    });
}

fn collect(
    cpu: Cpu,
    groups: Groups,
    group: usize,
    products: &[f32],
    (block, out): (Block, &mut [f32]),
    add: bool,
) {
    let plane = groups.plane(block);
    let from = (&products[group * plane..], groups.count() * plane);
    groups.tiles.collect(cpu, from, groups.strip(group), (block, out), add);
}

/// Runs a convolution's backward pass.
pub(super) fn backward(
    cpu: Cpu,
    pool: &Arc<Pool>,
    plan: &ConvPlan,
    tiles: Tiles,
    pass: Backward<'_>,
) -> Weights {
    let Backward { dy, x, dx, add, completion, sums, rows, bias } = pass;
    let groups = Groups::new(tiles, rows);
    let lanes = plan.output.blocks() * LANES;
    let mut samples = bias.then(|| pool.take(rows * lanes));
    let mut spread = x.map(|_| pool.take(groups.count() * groups.len(plan.output)));
    let mut patches = dx.is_some().then(|| pool.take(groups.count() * groups.len(plan.output)));
    {
        let len = groups.len(plan.output);
        let mut spread = spread.as_mut().map(|values| values.chunks_exact_mut(len));
        let mut patches = patches.as_mut().map(|values| values.chunks_exact_mut(len));
        let mut samples = samples.as_mut().map(|samples| samples.chunks_mut(groups.size * lanes));
        let tasks: Vec<_> = (0..groups.count())
            .map(|group| {
                let spread = spread.as_mut().and_then(Iterator::next);
                let patches = patches.as_mut().and_then(Iterator::next);
                (group, spread, patches, samples.as_mut().and_then(Iterator::next))
            })
            .collect();
        tasks.into_par_iter().for_each(|(group, spread, patches, samples)| {
            let range = (group * groups.size, groups.images(group));
            dy.framed(cpu, &plan.dy_frame, range, None, |dy| {
                let framed = (dy, &plan.dy_frame);
                if let Some(spread) = spread {
                    transform(cpu, groups, Map::Spread, group, framed, spread);
                }
                if let Some(patches) = patches {
                    transform(cpu, groups, Map::Patch, group, framed, patches);
                }
                if let Some(samples) = samples {
                    bias_samples(cpu, plan, dy, samples);
                }
            });
        });
    }
    if let (Some((dx, transposed)), Some(patches)) = (dx, patches) {
        let mut products = pool.take(groups.count() * groups.len(plan.input));
        multiply(cpu, groups, (&patches, plan.output), transposed, (&mut products, plan.input));
        let mut sums = sums.map(|sums| sums.chunks_mut(groups.size * 2 * plan.input.blocks() * LANES));
        let tasks: Vec<_> = dx
            .chunks_mut(groups.size * plan.input.image())
            .enumerate()
            .map(|(group, dx)| (group, dx, sums.as_mut().and_then(Iterator::next)))
            .collect();
        tasks.into_par_iter().for_each(|(group, dx, sums)| {
            collect(cpu, groups, group, &products, (plan.input, dx), add);
            complete(cpu, plan, completion, group * groups.size, dx, sums);
        });
    }
    let weights = x.zip(spread).map(|(x, spread)| weights(cpu, pool, plan, groups, x, &spread));
    (weights, samples.map(|samples| totals(&samples, lanes, plan.output.channels)))
}

/// The gradient of the weights, from the input and the spread gradient of the output.
fn weights(
    cpu: Cpu,
    pool: &Arc<Pool>,
    plan: &ConvPlan,
    groups: Groups,
    x: Source<'_>,
    spread: &Buffer,
) -> Vec<f32> {
    let tiles = groups.tiles;
    let (plane, out_plane) = (groups.plane(plan.input), groups.plane(plan.output));
    let mut factors = pool.take(groups.count() * groups.len(plan.input));
    factors.par_chunks_exact_mut(groups.len(plan.input)).enumerate().for_each(|(group, factors)| {
        let range = (group * groups.size, groups.images(group));
        x.framed(cpu, &plan.x_frame, range, None, |x| {
            transform(cpu, groups, Map::Patch, group, (x, &plan.x_frame), factors);
        });
    });
    let (inputs, window, blocks) = (plan.input.channels, plan.window, plan.input.blocks());
    let mut weights = vec![0.0; plan.output.channels * inputs * window];
    weights.par_chunks_mut(LANES * inputs * window).enumerate().for_each(|(block, weights)| {
        let each = blocks * LANES * LANES;
        with_scratch(tiles.positions() * each, |transformed| {
            transformed.fill(0.0);
            for (position, dw) in transformed.chunks_exact_mut(each).enumerate() {
                for group in 0..groups.count() {
                    let x = &factors[group * groups.len(plan.input) + position * plane..][..plane];
                    let dy = &spread[group * groups.len(plan.output) + position * out_plane..][..out_plane];
                    let strip = groups.strip(group);
                    tiles.weights_position(cpu, (x, blocks), (dy, block), strip, dw);
                }
            }
            with_scratch(window * each, |packed| {
                tiles.transform_weights_back(cpu, transformed, packed);
                unpack_block(packed, (inputs, window), weights);
            });
        });
    });
    weights
}
