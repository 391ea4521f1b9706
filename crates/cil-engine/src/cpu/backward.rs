//! The backward pass, unit by unit from the last.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use super::buffers::Buffer;
use super::conv::{self, Source};
use super::conv_plan::ConvPlan;
use super::forward::State;
use super::layout;
use super::norm::{self, Normalisation, channels};
use super::norm_kernels::Activation;
use super::plan::{Kind, NormUnit};
use super::{CpuExecutor, singles, values};
use crate::executor::{Gradients, MomentGradient, Upstream};
use crate::graph::Op;
use crate::parameters::Parameters;

/// A pass under way.
struct Run<'a> {
    executor: &'a CpuExecutor,
    parameters: &'a Parameters,
    state: State,
    upstream: &'a Upstream,
    into: &'a mut Gradients,
    /// By node; a gradient may serve two nodes until one of them writes into it.
    gradients: Vec<Option<Arc<Buffer>>>,
}

pub(super) fn run(
    executor: &CpuExecutor,
    parameters: &Parameters,
    state: State,
    upstream: &Upstream,
    into: &mut Gradients,
) -> Result<Option<Tensor>> {
    let graph = &executor.graph;
    for name in upstream.taps.keys() {
        if graph.tap_shape(name).is_none() {
            bail!("the network has no tap named {name} to receive a gradient");
        }
    }
    for name in upstream.moments.keys() {
        if !state.moments {
            bail!("{name} receives a gradient to its moments, but the forward pass returned none");
        }
        if !graph.batch_norms().contains(&name.as_str()) {
            bail!("the network has no batch norm named {name} to receive a gradient");
        }
    }
    let gradients = vec![None; graph.nodes().len()];
    let mut run = Run { executor, parameters, state, upstream, into, gradients };
    for (name, id) in graph.taps() {
        let (Some(tensor), true) = (upstream.taps.get(name), run.state.carries[id.index()]) else { continue };
        let block = executor.plan.blocks[id.index()];
        let plain = values(tensor, name, &graph.node(*id).shape.dims(run.state.rows))?;
        let mut buffer = executor.pool.take(run.state.rows * block.image());
        layout::pack_batch(block, &plain, &mut buffer);
        run.accumulate(id.index(), Arc::new(buffer));
    }
    for unit in executor.plan.units.iter().rev() {
        let gradient = run.gradients[unit.node].take();
        if !run.state.carries[unit.node] {
            continue;
        }
        match (&unit.kind, gradient) {
            (Kind::Norm(norm), gradient) => run.norm(unit.node, norm, gradient)?,
            (_, None) => {}
            (Kind::Conv(conv), Some(gradient)) => run.conv(unit.node, conv, &gradient)?,
            (Kind::Single, Some(gradient)) => {
                let (gradient, state) = (owned(gradient), &run.state);
                let results = singles::backward(executor, parameters, state, unit.node, gradient, run.into)?;
                for (node, gradient) in results {
                    run.accumulate(node, Arc::new(gradient));
                }
            }
        }
        run.state.outputs[unit.node] = None;
    }
    run.input_gradient()
}

/// The buffer itself, or a copy if someone else reads it.
fn owned(gradient: Arc<Buffer>) -> Buffer {
    Arc::try_unwrap(gradient).unwrap_or_else(|shared| shared.duplicate())
}

impl Run<'_> {
    /// Adds a contribution to a node's gradient.
    fn accumulate(&mut self, node: usize, gradient: Arc<Buffer>) {
        let sum = match self.gradients[node].take() {
            None => gradient,
            Some(there) => {
                let mut sum = owned(there);
                let len = self.executor.plan.blocks[node].image();
                layout::each_sample(&mut sum, len, |row, sum| {
                    sum.iter_mut().zip(&gradient[row * len..]).for_each(|(sum, value)| *sum += value);
                });
                Arc::new(sum)
            }
        };
        self.gradients[node] = Some(sum);
    }

    fn add_weights(&mut self, node: usize, suffix: &str, values: Vec<f32>, dims: &[usize]) -> Result<()> {
        let name = format!("{}.{suffix}", self.executor.graph.nodes()[node].name);
        self.into.add(&name, Tensor::from_vec(values, dims, &Device::Cpu)?)
    }

    fn conv(&mut self, node: usize, conv: &ConvPlan, gradient: &Buffer) -> Result<()> {
        let executor = self.executor;
        let described = &executor.graph.nodes()[node];
        let input = described.inputs[0].index();
        let (rows, side) = (self.state.rows, conv.window.isqrt());
        let dims = [conv.output.channels, conv.input.channels, side, side];
        let mut add = false;
        let (mut dx, mut transposed) = (None, None);
        if self.state.carries[input] {
            dx = Some(match self.gradients[input].take() {
                Some(there) => {
                    add = true;
                    owned(there)
                }
                None => executor.pool.take(rows * conv.input.image()),
            });
            let weights = executor.parameter(self.parameters, node, "weight", &dims)?;
            let mut packed = executor.pool.take(conv.transposed_len());
            conv.pack_transposed(&weights, &mut packed);
            transposed = Some(packed);
        }
        let x = if self.state.weights {
            let x = self.state.output(executor, input)?;
            Some(if input == 0 && executor.plan.plain_input { Source::Plain(x) } else { Source::Blocked(x) })
        } else {
            None
        };
        let bias = self.state.weights && matches!(described.op, Op::Conv2d { bias: true, .. });
        let targets = dx.as_deref_mut().zip(transposed.as_deref());
        let pass = conv::Backward { dy: Source::Blocked(gradient), x, dx: targets, add, rows, bias };
        let (weight, bias) = conv::backward(executor.cpu, &executor.pool, conv, pass);
        if let Some(dx) = dx {
            self.gradients[input] = Some(Arc::new(dx));
        }
        if let Some(weight) = weight {
            self.add_weights(node, "weight", weight, &dims)?;
        }
        if let Some(bias) = bias {
            self.add_weights(node, "bias", bias, &dims[..1])?;
        }
        Ok(())
    }

    fn norm(&mut self, node: usize, unit: &NormUnit, gradient: Option<Arc<Buffer>>) -> Result<()> {
        let executor = self.executor;
        let (cpu, block) = (executor.cpu, executor.plan.blocks[node]);
        let described = &executor.graph.nodes()[unit.norm];
        let carried = self.state.carries[unit.source];
        let dims = [block.channels];
        let to_moments = self.upstream.moments.get(&described.name).filter(|_| carried);
        if gradient.is_none() && to_moments.is_none() {
            return Ok(());
        }
        let Some(normalisation) = self.state.norms[unit.norm].take() else {
            bail!("batch norm {} left nothing", described.name);
        };
        let unwrapped = |MomentGradient { mean, variance }: &MomentGradient| {
            Ok::<_, candle_core::Error>((
                values(mean, "a gradient to a mean", &dims)?,
                values(variance, "a gradient to a variance", &dims)?,
            ))
        };
        let to_moments = to_moments.map(unwrapped).transpose()?;
        let behind = gradient.is_some();
        let len = self.state.rows * block.image();
        let mut gradient = gradient.map_or_else(|| executor.pool.zeros(len), owned);
        let learned = self.state.weights && matches!(described.op, Op::BatchNorm { affine: true, .. });
        let output = match unit.activation {
            Activation::None => None,
            activation => Some((self.state.output(executor, node)?, activation.slope())),
        };
        let mut totals = (Vec::new(), Vec::new());
        if behind && (learned || (normalisation.batch && carried)) {
            let x = self.state.output(executor, unit.source)?;
            let centre = channels(&normalisation.centre);
            let sums = norm::sample_sums(cpu, &mut gradient, x, &centre, output, block);
            totals = Normalisation::totals(&sums, block);
        } else {
            if let Some((output, slope)) = output {
                norm::mask_batch(cpu, &mut gradient, output, slope, block);
            }
            totals.0 = vec![0.0; block.channels];
            totals.1 = vec![0.0; block.channels];
        }
        if learned && behind {
            let inverse = normalisation.inverse.iter().map(|inverse| f64::from(*inverse));
            let weight = totals.1.iter().zip(inverse).map(|(sum, inverse)| (sum * inverse) as f32).collect();
            self.add_weights(unit.norm, "weight", weight, &dims)?;
            self.add_weights(unit.norm, "bias", totals.0.iter().map(|sum| *sum as f32).collect(), &dims)?;
        }
        let gradient = Arc::new(gradient);
        if carried {
            let moments = to_moments.as_ref().map(|(mean, variance)| (mean.as_slice(), variance.as_slice()));
            let count = self.state.rows * block.positions();
            let by = normalisation.linearise((&totals.0, &totals.1), moments, count);
            // Without a slope the input does not matter, and was perhaps not kept.
            let flat = by.iter().all(|by| by.slope.iter().all(|slope| *slope == 0.0));
            let x = if flat { &gradient } else { self.state.output(executor, unit.source)? };
            let mut dx = executor.pool.take(len);
            norm::apply_linearised(cpu, &gradient, x, &by, block, &mut dx);
            self.accumulate(unit.source, Arc::new(dx));
        }
        if let Some(residual) = unit.residual.filter(|node| self.state.carries[*node] && behind) {
            self.accumulate(residual, gradient);
        }
        Ok(())
    }

    fn input_gradient(mut self) -> Result<Option<Tensor>> {
        if !self.state.carries[0] {
            return Ok(None);
        }
        let block = self.executor.plan.blocks[0];
        let mut plain = vec![0.0; self.state.rows * block.elements()];
        if let Some(gradient) = self.gradients[0].take() {
            layout::unpack_batch(block, &gradient, &mut plain);
        }
        let dims = self.executor.graph.input_shape().dims(self.state.rows);
        Ok(Some(Tensor::from_vec(plain, dims, &Device::Cpu)?))
    }
}
