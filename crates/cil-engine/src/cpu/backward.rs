//! The backward pass, unit by unit from the last.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use super::buffers::Buffer;
use super::conv;
use super::conv_plan::ConvPlan;
use super::forward::State;
use super::layout::{self, LANES};
use super::load::{Completion, Mask, Source};
use super::norm::{self, Normalisation, channels};
use super::norm_kernels::{Channel, Linearised};
use super::packed::Direction;
use super::plan::Kind;
use super::{CpuExecutor, singles, values, with_values};
use crate::executor::{Gradients, MomentGradient, Upstream};
use crate::fusion::{Activation, NormUnit};
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
    /// By convolution: its gradient, seen from behind the batch norm that alone reads it.
    behind: Vec<Option<Behind>>,
    /// By node that a batch-norm unit ends in: whether its gradient was carried to before the activation, and the sums
    /// that were taken with it, `[rows][2][lanes]`.
    completed: Vec<Option<Option<Buffer>>>,
}

/// A gradient that is carried to before a batch norm when it is loaded.
struct Behind {
    gradient: Arc<Buffer>,
    by: Vec<Linearised>,
}

impl Behind {
    /// Whether the input of the batch norm does not matter, and was perhaps not kept.
    fn is_flat(&self) -> bool {
        self.by.iter().all(|by| by.slope.iter().all(|slope| *slope == 0.0))
    }
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
    let nodes = graph.nodes().len();
    let (gradients, behind) = (vec![None; nodes], (0..nodes).map(|_| None).collect());
    let completed = (0..nodes).map(|_| None).collect();
    let mut run = Run { executor, parameters, state, upstream, into, gradients, behind, completed };
    for (name, id) in graph.taps() {
        let carried = run.state.schedule.carries[id.index()];
        let (Some(tensor), true) = (upstream.taps.get(name), carried) else { continue };
        let block = executor.plan.blocks[id.index()];
        let mut buffer = executor.pool.take(run.state.rows * block.image());
        with_values(tensor, name, &graph.node(*id).shape.dims(run.state.rows), |plain| {
            layout::pack_batch(block, plain, &mut buffer);
        })?;
        run.accumulate(id.index(), Arc::new(buffer));
    }
    for (number, unit) in executor.plan.units.iter().enumerate().rev() {
        let gradient = run.gradients[unit.node].take();
        if !run.state.schedule.carries[unit.node] {
            continue;
        }
        match (&unit.kind, gradient) {
            (Kind::Norm(norm), gradient) => run.norm(unit.node, norm, gradient)?,
            (Kind::Conv(conv, input), gradient) => run.conv(number, conv, *input, gradient.as_deref())?,
            (_, None) => {}
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

    fn conv(
        &mut self,
        number: usize,
        conv: &ConvPlan,
        input: usize,
        gradient: Option<&Buffer>,
    ) -> Result<()> {
        let (executor, rows) = (self.executor, self.state.rows);
        let node = executor.plan.units[number].node;
        let described = &executor.graph.nodes()[node];
        let behind = self.behind[node].take();
        let dy = match (gradient, &behind) {
            (Some(gradient), _) => Source::Blocked(gradient),
            (None, Some(behind)) => {
                let x =
                    if behind.is_flat() { &behind.gradient } else { self.state.output(executor, node)? };
                Source::Linearised { gradient: &behind.gradient, x, by: &behind.by }
            }
            (None, None) => return Ok(()),
        };
        let side = conv.window.isqrt();
        let dims = [conv.output.channels, conv.input.channels, side, side];
        let mut add = false;
        let (mut dx, mut transposed, mut sums, mut completion) = (None, None, None, None);
        let mut centre = Vec::new();
        if self.state.schedule.carries[input] {
            dx = Some(match self.gradients[input].take() {
                Some(there) => {
                    add = true;
                    owned(there)
                }
                None => executor.pool.take(rows * conv.input.image()),
            });
            let name = format!("{}.weight", described.name);
            let (version, keep) = (self.parameters.version(), !self.state.weights);
            transposed = Some(executor.packed.get(version, (node, Direction::Backward), keep, || {
                let mut packed = executor.pool.take(conv.transposed_len());
                with_values(self.parameters.get(&name)?, &name, &dims, |weights| {
                    conv.pack_transposed(executor.cpu, weights, &mut packed);
                })?;
                Ok(packed)
            })?);
            // The first reader is the last to add to a gradient.
            if let (Some(unit), Some(&first)) =
                (executor.plan.norm_of(input), executor.plan.readers[input].first())
                && first == number
            {
                if self.sums_wanted(unit) {
                    centre = self.centre(unit)?;
                    sums = Some(executor.pool.take(rows * 2 * conv.input.blocks() * LANES));
                }
                completion = Some(self.completion(input, unit, &centre)?);
            }
        }
        let x = self.state.weights.then(|| self.state.source(executor, input)).transpose()?;
        let bias = self.state.weights && matches!(described.op, Op::Conv2d { bias: true, .. });
        let pass = conv::Backward {
            dy,
            x,
            dx: dx.as_deref_mut().zip(transposed.as_ref().map(|it| &***it)),
            add,
            completion,
            sums: sums.as_deref_mut(),
            rows,
            bias,
        };
        let completes = completion.is_some();
        let (weight, bias) = conv::backward(executor.cpu, &executor.pool, conv, pass);
        if let Some(dx) = dx {
            self.gradients[input] = Some(Arc::new(dx));
        }
        if completes {
            self.completed[input] = Some(sums);
        }
        if let Some(weight) = weight {
            self.add_weights(node, "weight", weight, &dims)?;
        }
        if let Some(bias) = bias {
            self.add_weights(node, "bias", bias, &dims[..1])?;
        }
        Ok(())
    }

    /// Whether a batch norm's gradients need sums over the batch.
    fn sums_wanted(&self, unit: &NormUnit) -> bool {
        let affine = matches!(self.executor.graph.nodes()[unit.norm].op, Op::BatchNorm { affine: true, .. });
        let batch = self.state.norms[unit.norm].as_ref().is_some_and(|by| by.batch);
        (self.state.weights && affine) || (batch && self.state.schedule.carries[unit.source])
    }

    fn normalisation(&self, unit: &NormUnit) -> Result<&Normalisation> {
        match &self.state.norms[unit.norm] {
            Some(by) => Ok(by),
            None => bail!("batch norm {} left nothing", self.executor.graph.nodes()[unit.norm].name),
        }
    }

    fn centre(&self, unit: &NormUnit) -> Result<Vec<Channel>> {
        Ok(channels(&self.normalisation(unit)?.centre))
    }

    /// How the gradient of the batch-norm unit that ends in `node` is completed; without a centre nothing is summed.
    fn completion<'a>(
        &'a self,
        node: usize,
        unit: &NormUnit,
        centre: &'a [Channel],
    ) -> Result<Completion<'a>> {
        let by = self.normalisation(unit)?;
        let mask = match (unit.activation, &self.state.outputs[node]) {
            (Activation::None, _) => Mask::None,
            (_, Some(output)) => Mask::Output(output),
            (_, None) => Mask::Again(by),
        };
        let x = self.state.outputs[unit.source].as_ref().map_or(&[][..], |x| x);
        let centre = (!centre.is_empty()).then_some(centre);
        Ok(Completion { x, mask, slope: unit.activation.slope(), centre })
    }

    fn norm(&mut self, node: usize, unit: &NormUnit, gradient: Option<Arc<Buffer>>) -> Result<()> {
        let executor = self.executor;
        let (cpu, block) = (executor.cpu, executor.plan.blocks[node]);
        let described = &executor.graph.nodes()[unit.norm];
        let carried = self.state.schedule.carries[unit.source];
        let dims = [block.channels];
        let to_moments = self.upstream.moments.get(&described.name).filter(|_| carried);
        if gradient.is_none() && to_moments.is_none() {
            return Ok(());
        }
        let unwrapped = |MomentGradient { mean, variance }: &MomentGradient| {
            Ok::<_, candle_core::Error>((
                values(mean, "a gradient to a mean", &dims)?,
                values(variance, "a gradient to a variance", &dims)?,
            ))
        };
        let to_moments = to_moments.map(unwrapped).transpose()?;
        let arrived = gradient.is_some();
        let lanes = 2 * block.blocks() * LANES;
        let mut sums = None;
        let gradient = match (gradient, self.completed[node].take()) {
            (Some(gradient), Some(there)) => {
                sums = there;
                gradient
            }
            (Some(gradient), None) => {
                let mut centre = Vec::new();
                if self.sums_wanted(unit) {
                    centre = self.centre(unit)?;
                    sums = Some(executor.pool.take(self.state.rows * lanes));
                }
                let completion = self.completion(node, unit, &centre)?;
                let mut gradient = owned(gradient);
                norm::complete_batch(cpu, &mut gradient, &completion, sums.as_deref_mut(), block);
                Arc::new(gradient)
            }
            (None, _) => Arc::new(executor.pool.zeros(self.state.rows * block.image())),
        };
        let totals = match &sums {
            Some(sums) => Normalisation::totals(sums, block),
            None => (vec![0.0; block.channels], vec![0.0; block.channels]),
        };
        let Some(normalisation) = self.state.norms[unit.norm].take() else {
            bail!("batch norm {} left nothing", described.name);
        };
        let learned = self.state.weights && matches!(described.op, Op::BatchNorm { affine: true, .. });
        if learned && arrived {
            let inverse = normalisation.inverse.iter().map(|inverse| f64::from(*inverse));
            let weight = totals.1.iter().zip(inverse).map(|(sum, inverse)| (sum * inverse) as f32).collect();
            self.add_weights(unit.norm, "weight", weight, &dims)?;
            self.add_weights(unit.norm, "bias", totals.0.iter().map(|sum| *sum as f32).collect(), &dims)?;
        }
        if carried {
            let moments = to_moments.as_ref().map(|(mean, variance)| (mean.as_slice(), variance.as_slice()));
            let count = self.state.rows_of_all() * block.positions();
            let totals = match &self.state.share {
                Some(share) if normalisation.batch => {
                    Normalisation::totals_of_all((&totals.0, &totals.1), &*share.ranks)?
                }
                _ => totals,
            };
            let by = normalisation.linearise((&totals.0, &totals.1), moments, count);
            let behind = Behind { gradient: gradient.clone(), by };
            if executor.plan.feeds_one_norm(unit.source) {
                self.behind[unit.source] = Some(behind);
            } else {
                let x =
                    if behind.is_flat() { &gradient } else { self.state.output(executor, unit.source)? };
                let mut dx = executor.pool.take(gradient.len());
                norm::apply_linearised(cpu, &gradient, x, &behind.by, block, &mut dx);
                self.accumulate(unit.source, Arc::new(dx));
            }
        }
        if let Some(residual) = unit.residual.filter(|node| self.state.schedule.carries[*node] && arrived) {
            self.accumulate(residual, gradient);
        }
        Ok(())
    }

    fn input_gradient(mut self) -> Result<Option<Tensor>> {
        if !self.state.schedule.carries[0] {
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
