//! The forward pass, unit by unit, and what it leaves for backward.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use super::buffers::Buffer;
use super::conv;
use super::conv_plan::ConvPlan;
use super::layout::{self, LANES};
use super::load::{Normalised, Source};
use super::norm::{self, Merged, Moments, Normalisation};
use super::packed::Direction;
use super::plan::{Kind, Unit};
use super::schedule::{Placement, Schedule};
use super::{CpuExecutor, singles, with_values};
use crate::executor::{BatchMoments, ForwardSpec, Keep, Norm, NormStatistics, NormUpdate, Pass, Share, Tape};
use crate::fusion::NormUnit;
use crate::graph::Op;
use crate::parameters::Parameters;

/// The results of a forward pass that backward reads.
pub(super) struct State {
    pub(super) rows: usize,
    pub(super) weights: bool,
    pub(super) moments: bool,
    /// Where other ranks have other rows of the batch.
    pub(super) share: Option<Share>,
    pub(super) schedule: Arc<Schedule>,
    /// By node: its output, where backward reads it. The input may be in channel-major order ([`super::plan::Plan`]).
    pub(super) outputs: Vec<Option<Arc<Buffer>>>,
    /// By batch-norm node.
    pub(super) norms: Vec<Option<Normalisation>>,
    /// By max-pool node: the pixels that won.
    pub(super) places: Vec<Option<Vec<u32>>>,
}

impl State {
    /// Rows of the batch, those of other ranks with it.
    pub(super) fn rows_of_all(&self) -> usize {
        self.share.as_ref().map_or(self.rows, |share| share.rows)
    }

    /// A node's output.
    pub(super) fn output(&self, executor: &CpuExecutor, node: usize) -> Result<&[f32]> {
        match &self.outputs[node] {
            Some(buffer) => Ok(buffer),
            None => bail!("the output of node {} was not kept", executor.graph.nodes()[node].name),
        }
    }

    /// Where a convolution reads a node: its output, or what a batch norm makes it of on load.
    pub(super) fn source(&self, executor: &CpuExecutor, node: usize) -> Result<Source<'_>> {
        let plan = &executor.plan;
        if let (None, Some(unit)) = (&self.outputs[node], plan.norm_of(node)) {
            let Some(by) = &self.norms[unit.norm] else {
                bail!("batch norm {} has not run", executor.graph.nodes()[unit.norm].name)
            };
            let residual = unit.residual.map(|node| self.output(executor, node)).transpose()?;
            let x = self.output(executor, unit.source)?;
            return Ok(Source::Normed(Normalised { x, by, residual, activation: unit.activation }));
        }
        let x = self.output(executor, node)?;
        Ok(if node == 0 && plan.plain_input { Source::Plain(x) } else { Source::Blocked(x) })
    }
}

/// A pass under way.
struct Run<'a> {
    executor: &'a CpuExecutor,
    parameters: &'a Parameters,
    spec: ForwardSpec,
    rows: usize,
    state: State,
    taps: BTreeMap<String, Tensor>,
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
    share: Option<Share>,
) -> Result<Pass> {
    let (graph, plan) = (&executor.graph, &executor.plan);
    let rows = input.dims().first().copied().unwrap_or(0);
    if rows == 0 {
        bail!("the input has no rows: its shape is {:?}", input.dims());
    }
    let nodes = graph.nodes().len();
    let schedule = executor.schedule(spec);
    let state = State {
        rows,
        weights: matches!(spec.keep, Keep::Tape { weights: true, .. }),
        moments: spec.moments,
        share,
        schedule: schedule.clone(),
        outputs: vec![None; nodes],
        norms: vec![None; nodes],
        places: vec![None; nodes],
    };
    let samples = (0..nodes).map(|_| None).collect();
    let (taps, moments) = (BTreeMap::new(), BTreeMap::new());
    let mut run = Run { executor, parameters, spec, rows, state, taps, samples, moments };
    let first = with_values(input, "the input", &graph.input_shape().dims(rows), |plain| {
        if plan.plain_input {
            let mut buffer = executor.pool.take(plain.len());
            buffer.copy_from_slice(plain);
            return buffer;
        }
        let block = plan.blocks[0];
        let mut buffer = executor.pool.take(rows * block.image());
        layout::pack_batch(block, plain, &mut buffer);
        buffer
    })?;
    run.store(0, first)?;
    for (unit, free) in plan.units.iter().zip(&schedule.free_after) {
        run.unit(unit)?;
        free.iter().for_each(|node| run.state.outputs[*node] = None);
    }
    run.finish()
}

impl Run<'_> {
    /// Keeps a node's output, and copies it to the node's taps.
    fn store(&mut self, node: usize, output: Buffer) -> Result<()> {
        let graph = &self.executor.graph;
        for (name, id) in graph.taps().iter().filter(|(_, id)| id.index() == node) {
            let block = self.executor.plan.blocks[node];
            let mut plain = vec![0.0; self.rows * block.elements()];
            layout::unpack_batch(block, &output, &mut plain);
            self.taps.insert(
                name.clone(),
                Tensor::from_vec(plain, graph.node(*id).shape.dims(self.rows), &Device::Cpu)?,
            );
        }
        self.state.outputs[node] = Some(Arc::new(output));
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

    fn unit(&mut self, unit: &Unit) -> Result<()> {
        let plan = &self.executor.plan;
        match &unit.kind {
            Kind::Conv(..) if self.state.schedule.folded[unit.node] => Ok(()),
            Kind::Conv(conv, input) => self.conv((unit.node, conv, *input), None),
            Kind::Norm(norm) => {
                self.normalise(norm)?;
                match self.state.schedule.placements[unit.node] {
                    Placement::OnLoad { .. } => Ok(()),
                    Placement::Pass => self.norm_pass(unit.node, norm),
                    Placement::Folded => {
                        match plan.makers[norm.source].map(|maker| &plan.units[maker].kind) {
                            Some(Kind::Conv(conv, input)) => {
                                self.conv((norm.source, conv, *input), Some((unit.node, norm)))
                            }
                            _ => bail!("node {} is no convolution", norm.source),
                        }
                    }
                }
            }
            Kind::Single => {
                let mut out = self.executor.pool.take(self.rows * plan.blocks[unit.node].image());
                let places =
                    singles::forward(self.executor, self.parameters, &self.state, unit.node, &mut out)?;
                self.state.places[unit.node] = places;
                self.store(unit.node, out)
            }
        }
    }

    /// Runs a convolution, and the batch norm of `then` behind it; stores the result under the last node of the two.
    fn conv(
        &mut self,
        (node, conv, input): (usize, &ConvPlan, usize),
        then: Option<(usize, &NormUnit)>,
    ) -> Result<()> {
        let (executor, plan, rows) = (self.executor, &self.executor.plan, self.rows);
        let block = plan.blocks[node];
        let side = conv.window.isqrt();
        let dims = [block.channels, conv.input.channels, side, side];
        let version = self.parameters.version();
        let packed = executor.packed.get(version, (node, Direction::Forward), !self.state.weights, || {
            let mut packed = executor.pool.take(conv.weights_len());
            let name = format!("{}.weight", executor.graph.nodes()[node].name);
            with_values(self.parameters.get(&name)?, &name, &dims, |weights| {
                conv.pack(executor.cpu, weights, &mut packed);
            })?;
            Ok(packed)
        })?;
        let biased = matches!(executor.graph.nodes()[node].op, Op::Conv2d { bias: true, .. });
        let bias = biased.then(|| self.parameter(node, "bias", &[block.channels])).transpose()?;
        let normed = then.is_none() && plan.feeds_norm[node] && self.needs_moments();
        let mut samples = normed.then(|| executor.pool.take(rows * 2 * block.blocks() * LANES));
        let mut out = executor.pool.take(rows * block.image());
        let source = self.state.source(executor, input)?;
        let written = matches!(self.state.schedule.placements[input], Placement::OnLoad { write: true });
        let mut copy = (written && matches!(source, Source::Normed(_)))
            .then(|| executor.pool.take(rows * plan.blocks[input].image()));
        let following = match then {
            Some((_, unit)) => {
                let Some(by) = &self.state.norms[unit.norm] else { bail!("a batch norm that has not run") };
                let residual = unit.residual.map(|node| self.output(node)).transpose()?;
                Some(Normalised { x: &[], by, residual, activation: unit.activation })
            }
            None => None,
        };
        let pass = conv::Forward {
            source,
            copy: copy.as_deref_mut(),
            weights: &packed,
            bias: bias.as_deref(),
            out: &mut out,
            moments: samples.as_deref_mut(),
            then: following,
        };
        conv::forward(executor.cpu, &executor.pool, conv, pass);
        self.samples[node] = samples;
        if let Some(copy) = copy {
            self.store(input, copy)?;
        }
        self.store(then.map_or(node, |(last, _)| last), out)
    }

    fn norm_pass(&mut self, node: usize, unit: &NormUnit) -> Result<()> {
        let (cpu, block) = (self.executor.cpu, self.executor.plan.blocks[node]);
        let mut out = self.executor.pool.take(self.rows * block.image());
        let residual = unit.residual.map(|node| self.output(node)).transpose()?;
        let Some(by) = &self.state.norms[unit.norm] else { bail!("a batch norm that has not run") };
        by.apply(cpu, self.output(unit.source)?, residual, unit.activation, block, &mut out);
        self.store(node, out)
    }

    /// Works out what a batch norm multiplies with and adds.
    fn normalise(&mut self, unit: &NormUnit) -> Result<()> {
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
            let mut merged = match &self.samples[unit.source] {
                Some(samples) => Merged::of(samples, block),
                None => {
                    Merged::of(&norm::batch_moments(cpu, self.output(unit.source)?, self.rows, block), block)
                }
            };
            if let Some(share) = &self.state.share {
                merged = merged.of_all(&*share.ranks)?;
            }
            Some(merged.moments())
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
        self.state.norms[unit.norm] = Some(normalisation);
        if let Some(moments) = moments {
            self.moments.insert(unit.norm, moments);
        }
        Ok(())
    }

    fn finish(self) -> Result<Pass> {
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
        Ok(Pass { taps: self.taps, moments, statistics, tape })
    }
}
