//! The forward pass, unit by unit, and what it leaves for backward.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use super::buffers::Buffer;
use super::conv::{self, Source};
use super::layout::{self, LANES};
use super::norm::{self, Moments, Normalisation};
use super::norm_kernels::Activation;
use super::plan::{Kind, NormUnit, Unit};
use super::{CpuExecutor, singles, values};
use crate::executor::{BatchMoments, ForwardSpec, Keep, Norm, NormStatistics, NormUpdate, Pass, Tape};
use crate::graph::Op;
use crate::parameters::Parameters;

/// What a forward pass leaves.
pub(super) struct State {
    pub(super) rows: usize,
    pub(super) weights: bool,
    pub(super) moments: bool,
    /// By node: whether its gradient is needed.
    pub(super) carries: Vec<bool>,
    /// By node: its output, where backward reads it. The input may be in channel-major order ([`super::plan::Plan`]).
    pub(super) outputs: Vec<Option<Arc<Buffer>>>,
    /// By batch-norm node.
    pub(super) norms: Vec<Option<Normalisation>>,
    /// By max-pool node: the pixels that won.
    pub(super) places: Vec<Option<Vec<u32>>>,
}

impl State {
    /// A node's output.
    pub(super) fn output(&self, executor: &CpuExecutor, node: usize) -> Result<&[f32]> {
        match &self.outputs[node] {
            Some(buffer) => Ok(buffer),
            None => bail!("the output of node {} was not kept", executor.graph.nodes()[node].name),
        }
    }
}

/// A pass under way.
struct Run<'a> {
    executor: &'a CpuExecutor,
    parameters: &'a Parameters,
    spec: ForwardSpec,
    rows: usize,
    state: State,
    /// By convolution: moments of its output's samples.
    samples: Vec<Option<Buffer>>,
    /// By batch-norm node.
    moments: BTreeMap<usize, Moments>,
}

pub(super) fn run(
    executor: &CpuExecutor,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
) -> Result<Pass> {
    let (graph, plan) = (&executor.graph, &executor.plan);
    let rows = input.dims().first().copied().unwrap_or(0);
    if rows == 0 {
        bail!("the input has no rows: its shape is {:?}", input.dims());
    }
    let plain = values(input, "the input", &graph.input_shape().dims(rows))?;
    let nodes = graph.nodes().len();
    let (weights, input_gradient) = match spec.keep {
        Keep::Nothing => (false, false),
        Keep::Tape { weights, input } => (weights, input),
    };
    let carries = carriers(executor, weights, input_gradient);
    let state = State {
        rows,
        weights,
        moments: spec.moments,
        carries,
        outputs: vec![None; nodes],
        norms: vec![None; nodes],
        places: vec![None; nodes],
    };
    let samples = (0..nodes).map(|_| None).collect();
    let mut run = Run { executor, parameters, spec, rows, state, samples, moments: BTreeMap::new() };
    let first = if plan.plain_input {
        let mut buffer = executor.pool.take(plain.len());
        buffer.copy_from_slice(&plain);
        buffer
    } else {
        let block = plan.blocks[0];
        let mut buffer = executor.pool.take(rows * block.image());
        layout::pack_batch(block, &plain, &mut buffer);
        buffer
    };
    run.state.outputs[0] = Some(Arc::new(first));
    let mut taps = BTreeMap::new();
    run.hand_out(0, &mut taps)?;
    let kept = run.kept();
    let last_reader = last_readers(executor);
    for (number, unit) in plan.units.iter().enumerate() {
        let output = run.unit(unit)?;
        run.state.outputs[unit.node] = Some(Arc::new(output));
        run.hand_out(unit.node, &mut taps)?;
        for node in unit.inputs(graph).into_iter().chain([unit.node]) {
            if last_reader[node] <= number && !kept[node] {
                run.state.outputs[node] = None;
            }
        }
    }
    run.finish(taps)
}

/// By node: whether its gradient is needed.
fn carriers(executor: &CpuExecutor, weights: bool, input: bool) -> Vec<bool> {
    let nodes = executor.graph.nodes();
    let mut carries = vec![false; nodes.len()];
    carries[0] = input;
    for unit in &executor.plan.units {
        let learned = match nodes[unit.owner()].op {
            Op::Conv2d { .. } | Op::Linear { .. } => true,
            Op::BatchNorm { affine, .. } => affine,
            _ => false,
        };
        let inputs = unit.inputs(&executor.graph);
        carries[unit.node] = (weights && learned) || inputs.into_iter().any(|input| carries[input]);
    }
    carries
}

/// By node: the number of the last unit that reads it, 0 if none does.
fn last_readers(executor: &CpuExecutor) -> Vec<usize> {
    let mut last = vec![0; executor.graph.nodes().len()];
    for (number, unit) in executor.plan.units.iter().enumerate() {
        unit.inputs(&executor.graph).into_iter().for_each(|input| last[input] = number);
    }
    last
}

impl Run<'_> {
    /// By node: whether backward reads its output.
    fn kept(&self) -> Vec<bool> {
        let State { weights, moments, carries, .. } = &self.state;
        let nodes = self.executor.graph.nodes();
        let mut kept = vec![false; nodes.len()];
        if self.spec.keep == Keep::Nothing {
            return kept;
        }
        for unit in &self.executor.plan.units {
            let inputs = unit.inputs(&self.executor.graph);
            let carried = carries[unit.node];
            match (&unit.kind, &nodes[unit.owner()].op) {
                (Kind::Conv(_), _) | (_, Op::Linear { .. }) => kept[inputs[0]] |= *weights,
                (Kind::Norm(norm), Op::BatchNorm { affine, .. }) => {
                    let moving = self.spec.norm == Norm::Batch || *moments;
                    kept[norm.source] |= (carries[norm.source] && moving) || (*weights && *affine);
                    kept[unit.node] |= carried && norm.activation != Activation::None;
                }
                (_, Op::LeakyRelu { slope }) if *slope < 0.0 => kept[inputs[0]] |= carried,
                (_, Op::Relu | Op::LeakyRelu { .. } | Op::Tanh) => kept[unit.node] |= carried,
                _ => {}
            }
        }
        kept
    }

    /// Copies a node's output to its taps.
    fn hand_out(&self, node: usize, taps: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let graph = &self.executor.graph;
        for (name, id) in graph.taps().iter().filter(|(_, id)| id.index() == node) {
            let block = self.executor.plan.blocks[node];
            let mut plain = vec![0.0; self.rows * block.elements()];
            layout::unpack_batch(block, self.output(node)?, &mut plain);
            taps.insert(
                name.clone(),
                Tensor::from_vec(plain, graph.node(*id).shape.dims(self.rows), &Device::Cpu)?,
            );
        }
        Ok(())
    }

    fn output(&self, node: usize) -> Result<&[f32]> {
        self.state.output(self.executor, node)
    }

    fn parameter(&self, node: usize, suffix: &str, dims: &[usize]) -> Result<Vec<f32>> {
        self.executor.parameter(self.parameters, node, suffix, dims)
    }

    fn needs_moments(&self) -> bool {
        self.spec.norm == Norm::Batch || self.spec.moments
    }

    fn unit(&mut self, unit: &Unit) -> Result<Buffer> {
        let plan = &self.executor.plan;
        let block = plan.blocks[unit.node];
        let mut out = self.executor.pool.take(self.rows * block.image());
        match &unit.kind {
            Kind::Conv(conv) => {
                let input = unit.inputs(&self.executor.graph)[0];
                let side = conv.window.isqrt();
                let dims = [block.channels, conv.input.channels, side, side];
                let weights = self.parameter(unit.node, "weight", &dims)?;
                let mut packed = self.executor.pool.take(conv.weights_len());
                conv.pack(&weights, &mut packed);
                let biased =
                    matches!(self.executor.graph.nodes()[unit.node].op, Op::Conv2d { bias: true, .. });
                let bias =
                    biased.then(|| self.parameter(unit.node, "bias", &[block.channels])).transpose()?;
                let normed = plan.feeds_norm[unit.node] && self.needs_moments();
                let mut samples =
                    normed.then(|| self.executor.pool.take(self.rows * 2 * block.blocks() * LANES));
                let x = self.output(input)?;
                let source =
                    if input == 0 && plan.plain_input { Source::Plain(x) } else { Source::Blocked(x) };
                let weights = (&*packed, bias.as_deref());
                conv::forward(self.executor.cpu, conv, source, weights, &mut out, samples.as_deref_mut());
                self.samples[unit.node] = samples;
            }
            Kind::Norm(norm) => self.norm(norm, &mut out)?,
            Kind::Single => {
                let places =
                    singles::forward(self.executor, self.parameters, &self.state, unit.node, &mut out)?;
                self.state.places[unit.node] = places;
            }
        }
        Ok(out)
    }

    fn norm(&mut self, unit: &NormUnit, out: &mut [f32]) -> Result<()> {
        let Op::BatchNorm { affine, epsilon } = self.executor.graph.nodes()[unit.norm].op else {
            bail!("node {} is no batch norm", unit.norm);
        };
        let (cpu, block) = (self.executor.cpu, self.executor.plan.blocks[unit.source]);
        let dims = [block.channels];
        let learned = if affine {
            Some((self.parameter(unit.norm, "weight", &dims)?, self.parameter(unit.norm, "bias", &dims)?))
        } else {
            None
        };
        let moments = if self.needs_moments() {
            let moments = match &self.samples[unit.source] {
                Some(samples) => norm::merge(samples, block),
                None => {
                    norm::merge(&norm::batch_moments(cpu, self.output(unit.source)?, self.rows, block), block)
                }
            };
            Some(moments)
        } else {
            None
        };
        let learned = learned.as_ref().map(|(gamma, beta)| (gamma.as_slice(), beta.as_slice()));
        let mut normalisation = match (&moments, self.spec.norm) {
            (Some(moments), Norm::Batch) => {
                Normalisation::new(&moments.mean, &moments.variance, learned, epsilon)
            }
            _ => {
                let mean = self.parameter(unit.norm, "running_mean", &dims)?;
                let variance = self.parameter(unit.norm, "running_var", &dims)?;
                Normalisation::new(&mean, &variance, learned, epsilon)
            }
        };
        normalisation.batch = self.spec.norm == Norm::Batch;
        if self.spec.moments {
            normalisation.mean = moments.as_ref().map(|moments| moments.mean.clone());
        }
        let residual = unit.residual.map(|node| self.output(node)).transpose()?;
        normalisation.apply(cpu, self.output(unit.source)?, residual, unit.activation, block, out);
        self.state.norms[unit.norm] = Some(normalisation);
        if let Some(moments) = moments {
            self.moments.insert(unit.norm, moments);
        }
        Ok(())
    }

    fn finish(self, taps: BTreeMap<String, Tensor>) -> Result<Pass> {
        let tensor = |values: &[f32]| Tensor::from_vec(values.to_vec(), values.len(), &Device::Cpu);
        let (mut moments, mut update) = (Vec::new(), NormUpdate::default());
        for (node, of) in &self.moments {
            let name = self.executor.graph.nodes()[*node].name.clone();
            if self.spec.moments {
                let (mean, variance) = (tensor(&of.mean)?, tensor(&of.variance)?);
                moments.push(BatchMoments { name: name.clone(), mean, variance });
            }
            let (mean, unbiased_variance) = (tensor(&of.mean)?, tensor(&of.unbiased)?);
            update.norms.push(NormStatistics { name, mean, unbiased_variance });
        }
        let statistics = (self.spec.norm == Norm::Batch).then_some(update);
        let tape = (self.spec.keep != Keep::Nothing).then(|| Tape::new(self.parameters, self.state));
        Ok(Pass { taps, moments, statistics, tape })
    }
}
