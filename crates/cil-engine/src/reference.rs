//! The slow, obvious executor: candle's operations and candle's autograd.
//!
//! It exists to be compared with. It runs in `f32` or `f64`, on every device, and takes whatever type its parameters
//! have. Pooling is written with gathers, because candle's own max-pool gradient is wrong and its average-pool has none
//! for overlapping windows (candle 0.11.1).

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor, Var, bail};

use crate::executor::{
    BatchMoments, Executor, ForwardSpec, Gradients, Keep, Norm, NormStatistics, NormUpdate, Pass, Tape,
    Upstream,
};
use crate::graph::{Graph, Node, Op, Shape};
use crate::parameters::{ParameterKind, Parameters};

/// Runs a graph with candle's own operations.
#[derive(Debug)]
pub struct ReferenceExecutor {
    graph: Graph,
}

impl ReferenceExecutor {
    /// An executor of `graph`.
    pub fn new(graph: Graph) -> Self {
        Self { graph }
    }
}

struct State {
    input: Option<Var>,
    weights: BTreeMap<String, Var>,
    taps: BTreeMap<String, Tensor>,
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

/// One forward pass under way.
struct Run<'a> {
    spec: ForwardSpec,
    values: BTreeMap<String, Tensor>,
    nodes: &'a [Node],
    outputs: Vec<Tensor>,
    moments: Vec<(String, Tensor, Tensor)>,
    statistics: Vec<NormStatistics>,
}

impl Executor for ReferenceExecutor {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn forward(&self, parameters: &Parameters, input: &Tensor, spec: ForwardSpec) -> Result<Pass> {
        let expected = self.graph.input_shape().dims(input.dims().first().copied().unwrap_or(0));
        if input.dims() != expected {
            bail!("the input has dimensions {:?}, the network takes {expected:?}", input.dims());
        }
        let (keep_weights, keep_input) = match spec.keep {
            Keep::Nothing => (false, false),
            Keep::Tape { weights, input } => (weights, input),
        };
        let (mut weights, mut values) = (BTreeMap::new(), BTreeMap::new());
        for wanted in self.graph.parameter_specs() {
            let tensor = parameters.get(&wanted.name)?;
            if tensor.dims() != wanted.dims {
                bail!(
                    "parameter {} has dimensions {:?}, the network takes {:?}",
                    wanted.name,
                    tensor.dims(),
                    wanted.dims
                );
            }
            let value = if keep_weights && wanted.kind == ParameterKind::Weight {
                let var = Var::from_tensor(tensor)?;
                let value = var.as_tensor().clone();
                weights.insert(wanted.name.clone(), var);
                value
            } else {
                tensor.detach()
            };
            values.insert(wanted.name, value);
        }
        let input_var = if keep_input { Some(Var::from_tensor(input)?) } else { None };
        let first = input_var.as_ref().map_or_else(|| input.detach(), |var| var.as_tensor().clone());
        let mut run = Run {
            spec,
            values,
            nodes: self.graph.nodes(),
            outputs: vec![first],
            moments: Vec::new(),
            statistics: Vec::new(),
        };
        for node in &self.graph.nodes()[1..] {
            let output = run.node(node)?;
            run.outputs.push(output);
        }
        let taps: BTreeMap<String, Tensor> = self
            .graph
            .taps()
            .iter()
            .map(|(name, id)| (name.clone(), run.outputs[id.index()].clone()))
            .collect();
        let detached = taps.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect();
        let seen = run.moments.iter().map(|(name, mean, variance)| BatchMoments {
            name: name.clone(),
            mean: mean.detach(),
            variance: variance.detach(),
        });
        let seen = seen.collect();
        let tape = (spec.keep != Keep::Nothing).then(|| {
            let moments =
                run.moments.into_iter().map(|(name, mean, variance)| (name, (mean, variance))).collect();
            Tape::new(parameters, State { input: input_var, weights, taps, moments })
        });
        let statistics = (spec.norm == Norm::Batch).then_some(NormUpdate { norms: run.statistics });
        Ok(Pass { taps: detached, moments: seen, statistics, tape })
    }

    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let state: Box<State> = tape.open(parameters)?;
        let mut parts = Vec::new();
        for (name, gradient) in &upstream.taps {
            let Some(tap) = state.taps.get(name) else {
                bail!("a gradient came for tap {name}, which does not exist")
            };
            parts.push((tap * gradient)?.sum_all()?);
        }
        for (name, gradient) in &upstream.moments {
            let Some((mean, variance)) = state.moments.get(name) else {
                bail!("a gradient came for the moments of {name}, which were not asked for");
            };
            parts.push(((mean * &gradient.mean)?.sum_all()? + (variance * &gradient.variance)?.sum_all()?)?);
        }
        if parts.is_empty() {
            bail!("a backward pass needs at least one gradient from upstream");
        }
        let store = Tensor::stack(&parts, 0)?.sum_all()?.backward()?;
        let of = |var: &Var| match store.get(var.as_tensor()) {
            Some(gradient) => Ok(gradient.clone()),
            None => var.as_tensor().zeros_like(),
        };
        for (name, var) in &state.weights {
            into.add(name, of(var)?)?;
        }
        state.input.as_ref().map(of).transpose()
    }
}

impl Run<'_> {
    fn parameter(&self, node: &Node, suffix: &str) -> &Tensor {
        &self.values[&format!("{}.{suffix}", node.name)]
    }

    fn node(&mut self, node: &Node) -> Result<Tensor> {
        let x = self.outputs[node.inputs[0].index()].clone();
        let from = self.nodes[node.inputs[0].index()].shape;
        match &node.op {
            Op::Input => bail!("node {} is a second input", node.name),
            Op::Conv2d { stride, padding, bias, .. } => {
                let y = convolution(&x, self.parameter(node, "weight"), node.shape, *stride, *padding)?;
                if *bias {
                    y.broadcast_add(&per_channel(self.parameter(node, "bias"), node.shape)?)
                } else {
                    Ok(y)
                }
            }
            Op::Linear { bias, .. } => {
                let y = x.matmul(&self.parameter(node, "weight").t()?)?;
                if *bias { y.broadcast_add(self.parameter(node, "bias")) } else { Ok(y) }
            }
            Op::BatchNorm { affine, epsilon } => self.batch_norm(node, &x, *affine, *epsilon),
            Op::Relu => x.relu(),
            Op::LeakyRelu { slope } => x.relu()? - (x.neg()?.relu()? * *slope)?,
            Op::Tanh => x.tanh(),
            Op::Add => &x + &self.outputs[node.inputs[1].index()],
            Op::Concat => Tensor::cat(&[&x, &self.outputs[node.inputs[1].index()]], 1),
            Op::AvgPool { kernel, stride } => average_pool(&x, node.shape, *kernel, *stride),
            Op::MaxPool { kernel, stride, padding } => {
                max_pool(&x, from, node.shape, *kernel, *stride, *padding)
            }
            Op::GlobalAvgPool => x.flatten_from(2)?.mean(D::Minus1),
            Op::UpsampleNearest { factor } => {
                let Shape::Map { height, width, .. } = node.shape else {
                    bail!("node {} is no map", node.name)
                };
                let rows = indices(height, |y| y / factor, x.device())?;
                let columns = indices(width, |at| at / factor, x.device())?;
                x.contiguous()?.index_select(&rows, 2)?.contiguous()?.index_select(&columns, 3)
            }
            Op::Reshape => x.reshape(node.shape.dims(x.dim(0)?)),
            Op::SubsamplePad { stride, out_channels } => {
                let Shape::Map { height, width, .. } = node.shape else {
                    bail!("node {} is no map", node.name)
                };
                let rows = indices(height, |y| y * stride, x.device())?;
                let columns = indices(width, |at| at * stride, x.device())?;
                let taken =
                    x.contiguous()?.index_select(&rows, 2)?.contiguous()?.index_select(&columns, 3)?;
                let (rows, channels) = (taken.dim(0)?, taken.dim(1)?);
                if channels == *out_channels {
                    return Ok(taken);
                }
                let zeros = Tensor::zeros(
                    (rows, out_channels - channels, height, width),
                    taken.dtype(),
                    taken.device(),
                )?;
                Tensor::cat(&[&taken, &zeros], 1)
            }
            Op::Narrow { start, length } => x.narrow(1, *start, *length)?.contiguous(),
        }
    }

    fn batch_norm(&mut self, node: &Node, x: &Tensor, affine: bool, epsilon: f64) -> Result<Tensor> {
        let channels = node.shape.channels();
        let count = x.elem_count() / channels.max(1);
        let rows = x.transpose(0, 1)?.contiguous()?.reshape((channels, count))?;
        let mean = rows.mean(1)?;
        let variance = rows.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?.mean(1)?;
        if self.spec.moments {
            self.moments.push((node.name.clone(), mean.clone(), variance.clone()));
        }
        let (centre, spread) = match self.spec.norm {
            Norm::Batch => {
                let correction = count as f64 / count.saturating_sub(1).max(1) as f64;
                let unbiased_variance = (variance.detach() * correction)?;
                let name = node.name.clone();
                self.statistics.push(NormStatistics { name, mean: mean.detach(), unbiased_variance });
                (mean, variance)
            }
            Norm::Running => {
                (self.parameter(node, "running_mean").clone(), self.parameter(node, "running_var").clone())
            }
        };
        let deviation = (spread + epsilon)?.sqrt()?;
        let centred = x.broadcast_sub(&per_channel(&centre, node.shape)?)?;
        let normalised = centred.broadcast_div(&per_channel(&deviation, node.shape)?)?;
        if !affine {
            return Ok(normalised);
        }
        let scaled = normalised.broadcast_mul(&per_channel(self.parameter(node, "weight"), node.shape)?)?;
        scaled.broadcast_add(&per_channel(self.parameter(node, "bias"), node.shape)?)
    }
}

/// `[channels]` in the form that broadcasts over a batch of `shape`.
fn per_channel(values: &Tensor, shape: Shape) -> Result<Tensor> {
    match shape {
        Shape::Map { channels, .. } => values.reshape((1, channels, 1, 1)),
        Shape::Vector { width } => values.reshape((1, width)),
    }
}

fn indices(count: usize, of: impl Fn(usize) -> usize, device: &Device) -> Result<Tensor> {
    Tensor::from_iter((0..count).map(|at| of(at) as u32), device)
}

/// Values of every window: `[rows, channels, kernel * kernel, out_height * out_width]`.
fn windows(x: &Tensor, to: Shape, kernel: usize, stride: usize) -> Result<Tensor> {
    let Shape::Map { height: out_height, width: out_width, .. } = to else { bail!("windows lie on maps") };
    let width = x.dim(3)?;
    let flat = x.contiguous()?.flatten_from(2)?;
    let one_offset = |offset: usize| {
        let source = |at: usize| {
            let (y, column) =
                (at / out_width * stride + offset / kernel, at % out_width * stride + offset % kernel);
            y * width + column
        };
        flat.index_select(&indices(out_height * out_width, source, x.device())?, 2)
    };
    Tensor::stack(&(0..kernel * kernel).map(one_offset).collect::<Result<Vec<_>>>()?, 2)
}

/// Convolution as a product with the windows; candle's own backward fails where height and width differ in parity
/// under a stride (candle 0.11.1).
fn convolution(x: &Tensor, weight: &Tensor, to: Shape, stride: usize, padding: usize) -> Result<Tensor> {
    let (out_channels, _, kernel, _) = weight.dims4()?;
    let rows = x.dim(0)?;
    let padded = x.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
    let windows = windows(&padded, to, kernel, stride)?;
    let (_, channels, offsets, positions) = windows.dims4()?;
    let windows = windows.reshape((rows, channels * offsets, positions))?;
    let weight = weight.reshape((out_channels, channels * offsets))?;
    weight.broadcast_left(rows)?.contiguous()?.matmul(&windows)?.reshape(to.dims(rows))
}

fn average_pool(x: &Tensor, to: Shape, kernel: usize, stride: usize) -> Result<Tensor> {
    windows(x, to, kernel, stride)?.mean(2)?.reshape(to.dims(x.dim(0)?))
}

fn max_pool(
    x: &Tensor,
    from: Shape,
    to: Shape,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (Shape::Map { height, width, .. }, Shape::Map { channels, height: out_height, width: out_width }) =
        (from, to)
    else {
        bail!("max pooling reads maps");
    };
    let rows = x.dim(0)?;
    let flat = x.contiguous()?.flatten_from(2)?;
    let values: Vec<f64> = flat.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?;
    let mut winners = Vec::with_capacity(rows * channels * out_height * out_width);
    for plane in values.chunks_exact(height * width) {
        for at in 0..out_height * out_width {
            let (top, left) = (at / out_width * stride, at % out_width * stride);
            let window =
                (top..top + kernel).flat_map(|y| (left..left + kernel).map(move |column| (y, column)));
            let inside = window.filter_map(|(y, column)| {
                let (y, column) = (y.checked_sub(padding)?, column.checked_sub(padding)?);
                (y < height && column < width).then_some(y * width + column)
            });
            let first = inside.fold(None, |best: Option<usize>, here| match best {
                Some(best) if plane[best] >= plane[here] => Some(best),
                _ => Some(here),
            });
            let Some(first) = first else { bail!("a max-pool window lies wholly in the padding") };
            winners.push(first as u32);
        }
    }
    let winners = Tensor::from_vec(winners, (rows, channels, out_height * out_width), x.device())?;
    flat.gather(&winners, 2)?.reshape((rows, channels, out_height, out_width))
}
