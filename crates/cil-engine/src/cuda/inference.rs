//! Inference: a batch norm is folded into the convolution before it.
//!
//! The folded weights are computed once for each version of the parameters by one launch for 32 convolutions; a layer
//! is then one call of cuDNN.

use candle_core::{Result, bail};

use super::CudaExecutor;
use super::convolution::{Operands, Product, Tail};
use super::forward::{State, geometry};
use super::launch::{FOLDS, Folds, Grid, arguments};
use super::memory::Buffer;
use super::plan::Convolution;
use super::weights::Weights;
use crate::executor::{ForwardSpec, Keep, Norm};
use crate::fusion::{Activation, NormUnit};
use crate::graph::Op;

/// Whether a pass of that kind reads folded weights: only its taps are read.
pub(super) fn is_inference(spec: ForwardSpec) -> bool {
    spec.norm == Norm::Running && !spec.moments && spec.keep == Keep::Nothing
}

/// Folded weights of all convolutions that a batch norm follows.
#[derive(Debug)]
pub(super) struct Folded {
    /// By node: where weight and bias of a convolution lie.
    places: Vec<Option<(u64, u64)>>,
    _buffer: Option<Buffer>,
}

impl Folded {
    pub(super) fn new(executor: &CudaExecutor, weights: &Weights) -> Result<Self> {
        let (graph, plan) = (&executor.graph, &executor.plan);
        let bytes = executor.precision.element().bytes();
        let mut all = Vec::new();
        let mut total = 0;
        for (end, at) in plan.folded.iter().enumerate().filter_map(|(end, at)| Some((end, (*at)?))) {
            let (Some(unit), Some(convolution)) = (&plan.norms[end], plan.convolutions[at]) else { continue };
            let channels = graph.nodes()[at].shape.channels();
            let inputs = graph.nodes()[convolution.input].shape.channels();
            let count = channels * inputs * convolution.kernel * convolution.kernel;
            let (weight, bias) = (total, total + (count * bytes).next_multiple_of(256));
            total = bias + (channels * bytes).next_multiple_of(256);
            all.push((at, unit.norm, inputs, convolution.kernel, count, weight as u64, bias as u64));
        }
        let mut places = vec![None; graph.nodes().len()];
        if all.is_empty() {
            return Ok(Self { places, _buffer: None });
        }
        let buffer = executor.gpu.take(total)?;
        for part in all.chunks(FOLDS) {
            let last = i32::from(executor.precision.channels_last());
            let mut table = Folds { last, ..Folds::default() };
            for (slot, &(at, norm, inputs, side, count, weight, bias)) in part.iter().enumerate() {
                let Op::BatchNorm { epsilon, .. } = graph.nodes()[norm].op else { continue };
                (table.weight[slot], table.bias[slot]) = (weights.plain(at), weights.bias(at));
                [table.scale[slot], table.shift[slot], table.mean[slot], table.variance[slot]] =
                    weights.of_norm(norm);
                let (weight, bias) = (buffer.address() + weight, buffer.address() + bias);
                (table.to_weight[slot], table.to_bias[slot]) = (weight, bias);
                (table.channels[slot], table.side[slot]) = (inputs as i32, side as i32);
                (table.count[slot], table.epsilon[slot]) = (count as i32, epsilon as f32);
                places[at] = Some((weight, bias));
            }
            let largest = part.iter().map(|it| it.4).max().unwrap_or(0);
            let grid = Grid(Grid::over(largest).0.min(64), part.len() as u32);
            executor.gpu.launch(executor.precision.element(), "fold", grid, arguments![&table])?;
        }
        Ok(Self { places, _buffer: Some(buffer) })
    }
}

/// A unit with the convolution before it.
pub(super) fn convolve(
    executor: &CudaExecutor,
    state: &State,
    node: usize,
    unit: &NormUnit,
    it: Convolution,
) -> Result<Buffer> {
    let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
    let count = map.count(state.rows)?;
    let folded = state.weights.folded(executor)?;
    let Some((weight, bias)) = folded.places[unit.source] else {
        bail!("no folded weight of node {}", executor.graph.nodes()[unit.source].name)
    };
    let x = state.output(executor, it.input)?.address();
    let residual = unit.residual.map(|node| state.output(executor, node)).transpose()?.map(Buffer::address);
    let y = gpu.take(count * element.bytes())?;
    let at = Operands { x, weight, y: y.address() };
    let geometry = geometry(executor, state.rows, unit.source, it);
    if !matches!(unit.activation, Activation::Leaky(_)) {
        let tail = Tail { bias, residual, relu: unit.activation == Activation::Relu };
        if gpu.library().run_joined(gpu, geometry, at, tail)? {
            return Ok(y);
        }
    }
    gpu.library().run(gpu, geometry, Product::Forward, at)?;
    let arguments: &[_] = arguments![&y, bias, residual.unwrap_or(0), map, count, unit.activation.slope()];
    gpu.launch(element, "finish", Grid::over(count), arguments)?;
    Ok(y)
}
