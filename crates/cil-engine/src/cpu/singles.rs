//! Nodes that run alone: everything but convolutions and batch norms, forward and backward.

use candle_core::{Device, Result, Tensor, bail};

use super::buffers::Buffer;
use super::forward::State;
use super::layout::{Block, LANES, each_sample};
use super::linear::Linear;
use super::norm_kernels;
use super::{CpuExecutor, norm, spatial};
use crate::executor::Gradients;
use crate::fusion::Activation;
use crate::graph::Op;
use crate::parameters::Parameters;

/// Runs `work(input sample, output sample)` on a batch.
fn each(
    (from, x): (Block, &[f32]),
    (to, out): (Block, &mut [f32]),
    work: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let len = from.image();
    each_sample(out, to.image(), |row, out| work(&x[row * len..][..len], out));
}

/// Works out one node into `out`; for a max-pool, returns the pixels that won.
pub(super) fn forward(
    executor: &CpuExecutor,
    parameters: &Parameters,
    state: &State,
    at: usize,
    out: &mut [f32],
) -> Result<Option<Vec<u32>>> {
    let (node, blocks, cpu) = (&executor.graph.nodes()[at], &executor.plan.blocks, executor.cpu);
    let first = node.inputs.first().map_or(0, |id| id.index());
    let (from, block) = (blocks[first], blocks[at]);
    let x = state.output(executor, first)?;
    let activate = |activation: Activation, out: &mut [f32]| {
        each((from, x), (block, out), |x, out| {
            norm_kernels::affine(cpu, Some(x), (&[1.0; LANES], &[0.0; LANES]), None, activation, out);
        });
    };
    match &node.op {
        Op::Input | Op::Conv2d { .. } | Op::BatchNorm { .. } => {
            bail!("node {} does not run alone", node.name)
        }
        Op::Linear { bias, .. } => {
            let dims = [block.channels, from.channels];
            let weight = executor.parameter(parameters, at, "weight", &dims)?;
            let bias = bias.then(|| executor.parameter(parameters, at, "bias", &dims[..1])).transpose()?;
            linear(state.rows, from, block).forward(x, &weight, bias.as_deref(), out);
        }
        Op::Relu => activate(Activation::Relu, out),
        Op::LeakyRelu { slope } => activate(Activation::Leaky(*slope as f32), out),
        Op::Tanh => each((from, x), (block, out), |x, out| tanh(block, x, out)),
        Op::Add => {
            let other = state.output(executor, node.inputs[1].index())?;
            each_sample(out, block.image(), |row, out| {
                let (x, other) = (&x[row * block.image()..], &other[row * block.image()..]);
                for ((out, x), other) in out.iter_mut().zip(x).zip(other) {
                    *out = x + other;
                }
            });
        }
        Op::Concat => {
            let second = node.inputs[1].index();
            let (other_block, other) = (blocks[second], state.output(executor, second)?);
            each_sample(out, block.image(), |row, out| {
                out.fill(0.0);
                let (x, other) = (&x[row * from.image()..], &other[row * other_block.image()..]);
                spatial::copy_channels((from, 0, x), (block, 0, out), from.channels);
                let count = other_block.channels;
                spatial::copy_channels((other_block, 0, other), (block, from.channels, out), count);
            });
        }
        Op::AvgPool { kernel, stride } => {
            each((from, x), (block, out), |x, out| {
                spatial::avg_pool(from, block, (*kernel, *stride), x, out)
            });
        }
        Op::MaxPool { kernel, stride, padding } => {
            use rayon::prelude::*;
            let (shape, len) = ((*kernel, *stride, *padding), block.image());
            let mut places = vec![0; out.len()];
            let samples = out.par_chunks_exact_mut(len).zip(places.par_chunks_exact_mut(len));
            samples.zip(x.par_chunks_exact(from.image())).for_each(|((out, places), x)| {
                spatial::max_pool(from, block, shape, x, out, places);
            });
            return Ok(Some(places));
        }
        Op::GlobalAvgPool => each((from, x), (block, out), |x, out| spatial::global_pool(from, x, out)),
        Op::UpsampleNearest { factor } => {
            each((from, x), (block, out), |x, out| spatial::upsample(from, *factor, x, out));
        }
        Op::Reshape => each((from, x), (block, out), |x, out| spatial::reshape(from, block, x, out)),
        Op::SubsamplePad { stride, .. } => {
            each((from, x), (block, out), |x, out| spatial::subsample(from, block, *stride, x, out));
        }
        Op::Narrow { start, length } => each((from, x), (block, out), |x, out| {
            out.fill(0.0);
            spatial::copy_channels((from, *start, x), (block, 0, out), *length);
        }),
    }
    Ok(None)
}

fn linear(rows: usize, from: Block, to: Block) -> Linear {
    Linear { rows, inputs: from.channels, outputs: to.channels }
}

/// Hyperbolic tangent of real channels only.
fn tanh(block: Block, x: &[f32], out: &mut [f32]) {
    for (number, (x, out)) in
        x.chunks_exact(block.plane()).zip(out.chunks_exact_mut(block.plane())).enumerate()
    {
        let lanes = LANES.min(block.channels - number * LANES);
        for (x, out) in x.chunks_exact(LANES).zip(out.chunks_exact_mut(LANES)) {
            out[..lanes].iter_mut().zip(x).for_each(|(out, x)| *out = x.tanh());
            out[lanes..].fill(0.0);
        }
    }
}

/// Gradients of the nodes that one node reads, from its own; adds those of its weights to `into`.
pub(super) fn backward(
    executor: &CpuExecutor,
    parameters: &Parameters,
    state: &State,
    at: usize,
    mut gradient: Buffer,
    into: &mut Gradients,
) -> Result<Vec<(usize, Buffer)>> {
    let (node, blocks, cpu) = (&executor.graph.nodes()[at], &executor.plan.blocks, executor.cpu);
    let inputs: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
    let Some(&first) = inputs.first() else { return Ok(Vec::new()) };
    let (from, block) = (blocks[first], blocks[at]);
    let wanted = state.schedule.carries[first];
    let fresh = |block: Block| executor.pool.take(state.rows * block.image());
    let mut results = Vec::new();
    let dy = &*gradient;
    match &node.op {
        Op::Input | Op::Conv2d { .. } | Op::BatchNorm { .. } => {
            bail!("node {} does not run alone", node.name)
        }
        Op::Linear { bias, .. } => {
            let linear = linear(state.rows, from, block);
            if state.weights {
                let weight = linear.weight_gradient(dy, state.output(executor, first)?);
                let weight = Tensor::from_vec(weight, (block.channels, from.channels), &Device::Cpu)?;
                into.add(&format!("{}.weight", node.name), weight)?;
                if *bias {
                    let bias = Tensor::from_vec(linear.bias_gradient(dy), block.channels, &Device::Cpu)?;
                    into.add(&format!("{}.bias", node.name), bias)?;
                }
            }
            if wanted {
                let weight =
                    executor.parameter(parameters, at, "weight", &[block.channels, from.channels])?;
                let mut dx = fresh(from);
                linear.input_gradient(dy, &weight, &mut dx);
                results.push((first, dx));
            }
        }
        Op::Add => {
            if inputs.get(1).is_some_and(|second| state.schedule.carries[*second]) {
                results.push((inputs[1], gradient.duplicate()));
            }
            results.push((first, gradient));
        }
        Op::Concat => {
            let mut start = 0;
            for input in &inputs {
                let to = blocks[*input];
                if state.schedule.carries[*input] {
                    let mut dx = fresh(to);
                    each((block, dy), (to, &mut dx), |dy, dx| {
                        dx.fill(0.0);
                        spatial::copy_channels((block, start, dy), (to, 0, dx), to.channels);
                    });
                    results.push((*input, dx));
                }
                start += to.channels;
            }
        }
        _ if !wanted => {}
        Op::Relu | Op::LeakyRelu { .. } => {
            let slope = if let Op::LeakyRelu { slope } = node.op { slope } else { 0.0 };
            let mask = state.output(executor, if slope < 0.0 { first } else { at })?;
            norm::mask_batch(cpu, &mut gradient, mask, slope as f32, block);
            results.push((first, gradient));
        }
        Op::Tanh => {
            let out = state.output(executor, at)?;
            each_sample(&mut gradient, block.image(), |row, dy| {
                let out = &out[row * block.image()..];
                dy.iter_mut().zip(out).for_each(|(dy, out)| *dy *= 1.0 - out * out);
            });
            results.push((first, gradient));
        }
        op => {
            let mut dx = fresh(from);
            let (source, target) = ((block, dy), (from, &mut *dx));
            match op {
                Op::AvgPool { kernel, stride } => each(source, target, |dy, dx| {
                    spatial::avg_pool_back(from, block, (*kernel, *stride), dy, dx);
                }),
                Op::MaxPool { .. } => {
                    let places = state.places[at].as_deref().unwrap_or_default();
                    let len = block.image();
                    each_sample(&mut dx, from.image(), |row, dx| {
                        spatial::max_pool_back(&places[row * len..][..len], &dy[row * len..][..len], dx);
                    });
                }
                Op::GlobalAvgPool => each(source, target, |dy, dx| spatial::global_pool_back(from, dy, dx)),
                Op::UpsampleNearest { factor } => {
                    each(source, target, |dy, dx| spatial::upsample_back(from, *factor, dy, dx));
                }
                Op::Reshape => each(source, target, |dy, dx| spatial::reshape(block, from, dy, dx)),
                Op::SubsamplePad { stride, .. } => {
                    each(source, target, |dy, dx| spatial::subsample_back(from, block, *stride, dy, dx));
                }
                Op::Narrow { start, length } => each(source, target, |dy, dx| {
                    dx.fill(0.0);
                    spatial::copy_channels((block, 0, dy), (from, *start, dx), *length);
                }),
                _ => bail!("node {} has no gradient", node.name),
            }
            results.push((first, dx));
        }
    }
    results.retain(|(node, _)| state.schedule.carries[*node]);
    Ok(results)
}
