//! The backward pass, unit by unit from the end.

use candle_core::{Result, Tensor, bail};

use super::aside::Lent;
use super::convolution::{Operands, Product};
use super::forward::{State, geometry, unpack};
use super::launch::{Grid, Sums, arguments};
use super::memory::{Buffer, is_capturing};
use super::plan::Convolution;
use super::shares::{self, Line};
use super::weights::{SUMS, Weight, many, weight_map};
use super::{CudaExecutor, singles};
use crate::executor::{Gradients, Keep, MomentGradient, Norm, Upstream};
use crate::fusion::NormUnit;
use crate::graph::Op;

/// A backward pass under way.
pub(super) struct Run<'a> {
    pub(super) executor: &'a CudaExecutor,
    pub(super) state: &'a State,
    upstream: &'a Upstream,
    /// By node: whether anything that was asked for depends on its gradient.
    wanted: Vec<bool>,
    /// By node: its gradient so far.
    gradients: Vec<Option<Buffer>>,
    /// Gradients of all weights, and where they lie.
    weights: Option<(Tensor, u64)>,
    /// Names of those that were computed.
    reached: Vec<String>,
    /// Gradients of convolutions' weights that are to be brought into candle's order.
    packed: Vec<(Buffer, Weight)>,
    /// Buffers on loan to gradients of weights on the second stream; none unless a step is captured.
    aside: Option<Lent>,
}

pub(super) fn run(
    executor: &CudaExecutor,
    state: &State,
    upstream: &Upstream,
    into: &mut Gradients,
) -> Result<Option<Tensor>> {
    let (graph, gpu) = (&executor.graph, &executor.gpu);
    gpu.bind()?;
    let Keep::Tape { weights, input } = state.spec.keep else { bail!("the tape keeps nothing") };
    if upstream.taps.is_empty() && upstream.moments.is_empty() {
        bail!("a backward pass needs at least one gradient from upstream");
    }
    let norms = graph.batch_norms();
    if let Some(name) =
        upstream.moments.keys().find(|it| !state.spec.moments || !norms.contains(&it.as_str()))
    {
        bail!("a gradient came for the moments of {name}, which were not asked for");
    }
    let mut run = Run {
        executor,
        state,
        upstream,
        wanted: wanted(executor, weights, input),
        gradients: graph.nodes().iter().map(|_| None).collect(),
        weights: if weights { Some(gpu.tensor(executor.plan.gradient_values)?) } else { None },
        reached: Vec::new(),
        packed: Vec::new(),
        aside: (weights && is_capturing()).then(Lent::default),
    };
    for (name, gradient) in &upstream.taps {
        run.enter(name, gradient)?;
    }
    for node in executor.plan.steps.iter().rev() {
        run.step(*node)?;
    }
    run.hand_out(into)?;
    if !input {
        return Ok(None);
    }
    if let Some(gradient) = &run.gradients[0] {
        return unpack(executor, state.rows, 0, gradient).map(Some);
    }
    Tensor::zeros(graph.input_shape().dims(state.rows), candle_core::DType::F32, &gpu.device()).map(Some)
}

/// By node: whether its gradient leads to a weight's or the input's.
fn wanted(executor: &CudaExecutor, weights: bool, input: bool) -> Vec<bool> {
    let mut wanted: Vec<bool> = Vec::new();
    for node in executor.graph.nodes() {
        let own = match node.op {
            Op::Input => input,
            Op::Conv2d { .. } | Op::Linear { .. } => weights,
            Op::BatchNorm { affine, .. } => weights && affine,
            _ => false,
        };
        let below = node.inputs.iter().any(|id| wanted[id.index()]);
        wanted.push(own || below);
    }
    wanted
}

impl Run<'_> {
    /// Takes in the gradient of a tap.
    fn enter(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        let Some((_, id)) = self.executor.graph.taps().iter().find(|(tap, _)| tap == name) else {
            bail!("a gradient came for tap {name}, which does not exist")
        };
        let node = id.index();
        let dims = self.executor.graph.nodes()[node].shape.dims(self.state.rows);
        let what = format!("the gradient of tap {name}");
        let (_held, address) = self.executor.gpu.address(gradient, &what, &dims)?;
        let Some((to, add)) = self.target(node)? else { return Ok(()) };
        let map = self.executor.plan.maps[node];
        let count = map.count(self.state.rows)?;
        let arguments: &[_] = arguments![address, to, map, count, add];
        self.executor.gpu.launch(self.executor.precision.element(), "pack", Grid::over(count), arguments)
    }

    /// Where a contribution to a node's gradient goes, and whether there is one already; `None` if nobody wants it.
    pub(super) fn target(&mut self, node: usize) -> Result<Option<(u64, bool)>> {
        if !self.wanted[node] {
            return Ok(None);
        }
        if let Some(there) = &self.gradients[node] {
            return Ok(Some((there.address(), true)));
        }
        let count = self.executor.plan.maps[node].count(self.state.rows)?;
        let new = self.executor.gpu.take(count * self.executor.precision.element().bytes())?;
        let address = new.address();
        self.gradients[node] = Some(new);
        Ok(Some((address, false)))
    }

    /// As [`Self::target`], for a kernel that writes a part of it: what is not there yet is zero.
    pub(super) fn whole_target(&mut self, node: usize) -> Result<Option<u64>> {
        let Some((address, there)) = self.target(node)? else { return Ok(None) };
        if let (false, Some(new)) = (there, &self.gradients[node]) {
            let count = self.executor.plan.maps[node].count(self.state.rows)?;
            self.executor.gpu.zero(new, count * self.executor.precision.element().bytes())?;
        }
        Ok(Some(address))
    }

    fn step(&mut self, node: usize) -> Result<()> {
        let gradient = self.gradients[node].take();
        if let Some(unit) = &self.executor.plan.norms[node] {
            return self.norm(node, unit, gradient.as_ref());
        }
        let Some(gradient) = gradient else { return Ok(()) };
        match self.executor.plan.convolutions[node] {
            Some(convolution) => {
                let done = self.convolution(node, convolution, &gradient);
                if let Some(lent) = &mut self.aside {
                    lent.keep(gradient);
                }
                done
            }
            None => singles::backward(self, node, &gradient),
        }
    }

    /// Where the gradient of a weight goes, if weights' gradients were asked for.
    fn weight(&mut self, node: usize, suffix: &str) -> Option<u64> {
        let (_, address) = self.weights.as_ref()?;
        let name = format!("{}.{suffix}", self.executor.graph.nodes()[node].name);
        let part = self.executor.plan.gradients.get(&name)?;
        self.reached.push(name);
        Some(address + (part.start * size_of::<f32>()) as u64)
    }

    fn norm(&mut self, node: usize, unit: &NormUnit, gradient: Option<&Buffer>) -> Result<()> {
        let (executor, state) = (self.executor, self.state);
        let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
        let norm = &executor.graph.nodes()[unit.norm];
        let moments = self.upstream.moments.get(&norm.name);
        if gradient.is_none() && moments.is_none() {
            return Ok(());
        }
        let (count, slope) = (map.count(state.rows)?, unit.activation.slope());
        let batch = state.spec.norm == Norm::Batch;
        let Some(table) = &state.tables[unit.norm] else { bail!("batch norm {} has not run", norm.name) };
        let (x, y) = (state.output(executor, unit.source)?, state.output(executor, node)?);
        let of_scale = self.weight(unit.norm, "weight").unwrap_or(0);
        let of_shift = self.weight(unit.norm, "bias").unwrap_or(0);
        let sums = Sums::new(map, state.rows);
        let partial = match gradient {
            Some(gradient) if batch || of_scale != 0 => {
                let partial = gpu.take(sums.bytes(map))?;
                let arguments: &[_] = arguments![gradient, y, x, &**table, &partial, map, sums, slope];
                gpu.launch(element, "gradient_sums", sums.grid(map), arguments)?;
                Some(partial)
            }
            _ => None,
        };
        // The residual's gradient is written before the input's: they may be one node.
        let residual = match unit.residual {
            Some(residual) if gradient.is_some() => self.target(residual)?,
            _ => None,
        };
        let source = self.target(unit.source)?;
        let channels = map.channels as usize;
        let line = gpu.take(4 * channels * size_of::<f32>())?;
        let (of_mean, of_variance) = match moments {
            Some(MomentGradient { mean, variance }) => {
                let what = format!("the gradient of {}'s moments", norm.name);
                let (mean, variance) =
                    (gpu.address(mean, &what, &[channels])?, gpu.address(variance, &what, &[channels])?);
                (Some(mean), Some(variance))
            }
            None => (None, None),
        };
        let address = |held: &Option<(Tensor, u64)>| held.as_ref().map_or(0, |(_, address)| *address);
        let seen = state.moments_of(executor, unit.norm);
        let (of_mean, of_variance) = (address(&of_mean), address(&of_variance));
        let (partial, line) = (partial.as_ref(), &line);
        let of =
            Line { partial, map, sums, table, seen, batch, of_mean, of_variance, of_scale, of_shift, line };
        shares::line(executor, state.share.as_ref(), &of)?;
        if source.is_none() && residual.is_none() {
            return Ok(());
        }
        let (of_x, add_x) = source.unwrap_or((0, false));
        let (of_residual, add_residual) = residual.unwrap_or((0, false));
        let arguments: &[_] =
            arguments![gradient, y, x, line, of_x, add_x, of_residual, add_residual, map, count, slope];
        gpu.launch(element, "normalise_backward", Grid::over(count), arguments)
    }

    fn convolution(&mut self, node: usize, it: Convolution, gradient: &Buffer) -> Result<()> {
        let (executor, state) = (self.executor, self.state);
        let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
        let x = state.output(executor, it.input)?.address();
        let at = Operands { x, weight: state.weights.convolution(node), y: gradient.address() };
        let of_bias = if it.bias { self.weight(node, "bias") } else { None };
        if let Some(of_bias) = of_bias {
            let sums = Sums::new(map, state.rows);
            let partial = gpu.take(sums.bytes(map))?;
            let arguments: &[_] = arguments![gradient, 0u64, 0u64, 0u64, &partial, map, sums, 1f32];
            gpu.launch(element, "gradient_sums", sums.grid(map), arguments)?;
            let grid = Grid::channels(map);
            let arguments: &[_] =
                arguments![&partial, map, sums, 0u64, 0u64, false, 0u64, 0u64, 0u64, of_bias, 0u64];
            gpu.launch(SUMS, "line", grid, arguments)?;
        }
        let of_weight = self.weight(node, "weight");
        // What goes to the further stream goes first: it waits for what is before it, and not for the input's gradient.
        if let (Some(of_weight), true) = (of_weight, self.aside.is_some()) {
            self.of_weight(node, it, at, of_weight)?;
        }
        if let Some((of_x, add)) = self.target(it.input)? {
            self.data(node, it, Operands { x: of_x, ..at }, add)?;
        }
        match of_weight {
            Some(of_weight) if self.aside.is_none() => self.of_weight(node, it, at, of_weight),
            _ => Ok(()),
        }
    }

    /// The gradient of a convolution's weight.
    fn of_weight(&mut self, node: usize, it: Convolution, mut at: Operands, of_weight: u64) -> Result<()> {
        let executor = self.executor;
        let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
        if !executor.precision.channels_last() {
            at.weight = of_weight;
            return self.filter(node, it, at);
        }
        let inputs = executor.plan.maps[it.input].channels as usize;
        let count = map.channels as usize * inputs * it.kernel * it.kernel;
        let packed = gpu.take(count * element.bytes())?;
        at.weight = packed.address();
        self.filter(node, it, at)?;
        let map = weight_map(inputs, it.kernel);
        let weight = Weight { plain: of_weight, packed: packed.address(), map, count };
        self.packed.push((packed, weight));
        Ok(())
    }

    /// The product behind it, on the further stream where a step is captured.
    fn filter(&mut self, node: usize, it: Convolution, at: Operands) -> Result<()> {
        let gpu = &self.executor.gpu;
        let geometry = geometry(self.executor, self.state.rows, node, it);
        match &mut self.aside {
            Some(lent) => gpu.library().run_aside(gpu, geometry, at, lent),
            None => gpu.library().run(gpu, geometry, Product::Filter, at),
        }
    }

    /// The gradient of a convolution's input, to `at.x`.
    fn data(&self, node: usize, it: Convolution, at: Operands, add: bool) -> Result<()> {
        let (executor, rows) = (self.executor, self.state.rows);
        let (gpu, element) = (&executor.gpu, executor.precision.element());
        let geometry = geometry(executor, rows, node, it);
        if !add {
            return gpu.library().run(gpu, geometry, Product::Data, at);
        }
        if gpu.library().add_data(gpu, geometry, at)? {
            return Ok(());
        }
        let count = executor.plan.maps[it.input].count(rows)?;
        let own = gpu.take(count * element.bytes())?;
        gpu.library().run(gpu, geometry, Product::Data, Operands { x: own.address(), ..at })?;
        gpu.launch(element, "accumulate", Grid::over(count), arguments![&own, at.x, count, true])
    }

    /// Adds the gradients of weights that were computed.
    fn hand_out(&mut self, into: &mut Gradients) -> Result<()> {
        let Some((all, _)) = &self.weights else { return Ok(()) };
        // Lent buffers are returned after both streams have joined.
        if let Some(lent) = self.aside.take().filter(Lent::is_some) {
            self.executor.gpu.meet()?;
            drop(lent);
        }
        let packed: Vec<Weight> = self.packed.iter().map(|(_, weight)| *weight).collect();
        many(self.executor, "unpack_many", &packed)?;
        self.packed.clear();
        for name in &self.reached {
            let Some(part) = self.executor.plan.gradients.get(name) else { continue };
            let count = part.dims.iter().product();
            into.add(name, all.narrow(0, part.start, count)?.reshape(part.dims.as_slice())?)?;
        }
        Ok(())
    }
}
