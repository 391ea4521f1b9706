//! The forward pass, and what it leaves for backward.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::convolution::{Geometry, Operands, Product};
use super::launch::{Grid, Sums, arguments};
use super::memory::Buffer;
use super::plan::Convolution;
use super::weights::{Seen, Weights};
use super::{CudaExecutor, inference, shares, singles};
use crate::executor::{BatchMoments, ForwardSpec, Keep, Norm, NormStatistics, NormUpdate, Pass, Share, Tape};
use crate::fusion::NormUnit;
use crate::graph::Op;
use crate::parameters::Parameters;

/// The results of a forward pass that backward reads.
pub(super) struct State {
    pub(super) rows: usize,
    /// The ranks that have the other rows of the batch.
    pub(super) share: Option<Share>,
    pub(super) spec: ForwardSpec,
    pub(super) weights: Arc<Weights>,
    /// By node: its output.
    pub(super) outputs: Vec<Option<Arc<Buffer>>>,
    /// By batch-norm node: what it did.
    pub(super) tables: Vec<Option<Arc<Buffer>>>,
    /// By max-pool node: the pixels that won.
    pub(super) winners: Vec<Option<Buffer>>,
    /// Moments of all batch norms, and where they lie.
    pub(super) moments: Option<(Tensor, u64)>,
}

impl State {
    /// A node's output.
    pub(super) fn output(&self, executor: &CudaExecutor, node: usize) -> Result<&Buffer> {
        match &self.outputs[node] {
            Some(buffer) => Ok(buffer),
            None => bail!("the output of node {} was not kept", executor.graph.nodes()[node].name),
        }
    }

    /// Where a batch norm's moments lie: mean, biased and unbiased variance, `[channels]` each.
    pub(super) fn moments_of(&self, executor: &CudaExecutor, norm: usize) -> u64 {
        match (&self.moments, executor.plan.moments[norm]) {
            (Some((_, address)), Some(start)) => address + (start * size_of::<f32>()) as u64,
            _ => 0,
        }
    }
}

pub(super) fn run(
    executor: &CudaExecutor,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
    share: Option<Share>,
) -> Result<Pass> {
    let (graph, plan, gpu) = (&executor.graph, &executor.plan, &executor.gpu);
    let rows = input.dims().first().copied().unwrap_or(0);
    if rows == 0 {
        bail!("the input has no rows: its shape is {:?}", input.dims());
    }
    gpu.bind()?;
    let weights = executor.weights(parameters)?;
    let nodes = graph.nodes().len();
    let seen = spec.moments || spec.norm == Norm::Batch;
    let moments = if seen { Some(gpu.tensor(plan.moment_values)?) } else { None };
    let none = || (0..nodes).map(|_| None).collect();
    let (outputs, tables) = (vec![None; nodes], vec![None; nodes]);
    let mut state = State { rows, share, spec, weights, outputs, tables, winners: none(), moments };
    let (held, address) = gpu.address(input, "the input", &graph.input_shape().dims(rows))?;
    state.outputs[0] = Some(Arc::new(pack(executor, rows, 0, address)?));
    drop(held);
    let mut taps = BTreeMap::new();
    hand_out(executor, &state, 0, &mut taps)?;
    let inference = inference::is_inference(spec);
    let free = if inference { &plan.free_in_inference } else { &plan.free_after };
    for (number, node) in plan.steps.iter().enumerate() {
        if inference && plan.folded.contains(&Some(*node)) {
            continue;
        }
        let output = step(executor, &mut state, *node)?;
        state.outputs[*node] = Some(Arc::new(output));
        hand_out(executor, &state, *node, &mut taps)?;
        if spec.keep == Keep::Nothing {
            free[number].iter().for_each(|free| state.outputs[*free] = None);
        }
    }
    let (moments, statistics) = what_was_seen(executor, &state)?;
    let tape = (spec.keep != Keep::Nothing).then(|| Tape::new(parameters, state));
    Ok(Pass { taps, moments, statistics, tape })
}

/// A tensor's values in the executor's own order and type, as the output of `node`.
fn pack(executor: &CudaExecutor, rows: usize, node: usize, plain: u64) -> Result<Buffer> {
    let map = executor.plan.maps[node];
    let count = map.count(rows)?;
    let element = executor.precision.element();
    let buffer = executor.gpu.take(count * element.bytes())?;
    executor.gpu.launch(element, "pack", Grid::over(count), arguments![plain, &buffer, map, count, false])?;
    Ok(buffer)
}

/// Values of `node` as a tensor.
pub(super) fn unpack(executor: &CudaExecutor, rows: usize, node: usize, buffer: &Buffer) -> Result<Tensor> {
    let map = executor.plan.maps[node];
    let count = map.count(rows)?;
    let (tensor, address) = executor.gpu.tensor(count)?;
    let element = executor.precision.element();
    executor.gpu.launch(element, "unpack", Grid::over(count), arguments![buffer, address, map, count])?;
    tensor.reshape(executor.graph.nodes()[node].shape.dims(rows))
}

fn hand_out(
    executor: &CudaExecutor,
    state: &State,
    node: usize,
    taps: &mut BTreeMap<String, Tensor>,
) -> Result<()> {
    let names = executor.graph.taps().iter().filter(|(_, id)| id.index() == node);
    let mut tensor: Option<Tensor> = None;
    for (name, _) in names {
        let value = match &tensor {
            Some(tensor) => tensor.clone(),
            None => unpack(executor, state.rows, node, state.output(executor, node)?)?,
        };
        taps.insert(name.clone(), value.clone());
        tensor = Some(value);
    }
    Ok(())
}

fn step(executor: &CudaExecutor, state: &mut State, node: usize) -> Result<Buffer> {
    if let Some(unit) = &executor.plan.norms[node] {
        let folded = executor.plan.folded[node].and_then(|at| executor.plan.convolutions[at]);
        if let (true, Some(convolution)) = (inference::is_inference(state.spec), folded) {
            return inference::convolve(executor, state, node, unit, convolution);
        }
        return normalise(executor, state, node, unit);
    }
    match executor.plan.convolutions[node] {
        Some(convolution) => convolve(executor, state, node, convolution),
        None => singles::forward(executor, state, node),
    }
}

/// The geometry of a convolution for cuDNN.
pub(super) fn geometry(executor: &CudaExecutor, rows: usize, node: usize, it: Convolution) -> Geometry {
    let maps = &executor.plan.maps;
    Geometry {
        precision: executor.precision,
        rows,
        from: maps[it.input],
        to: maps[node],
        kernel: it.kernel,
        stride: it.stride,
        padding: it.padding,
    }
}

fn convolve(executor: &CudaExecutor, state: &State, node: usize, it: Convolution) -> Result<Buffer> {
    let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
    let count = map.count(state.rows)?;
    let y = gpu.take(count * element.bytes())?;
    let x = state.output(executor, it.input)?.address();
    let at = Operands { x, weight: state.weights.convolution(node), y: y.address() };
    let geometry = geometry(executor, state.rows, node, it);
    gpu.library().run(gpu, geometry, Product::Forward, at)?;
    if it.bias {
        let bias = state.weights.bias(node);
        gpu.launch(element, "add_bias", Grid::over(count), arguments![&y, bias, map, count])?;
    }
    Ok(y)
}

fn normalise(executor: &CudaExecutor, state: &mut State, node: usize, unit: &NormUnit) -> Result<Buffer> {
    let (map, gpu, element) = (executor.plan.maps[node], &executor.gpu, executor.precision.element());
    let count = map.count(state.rows)?;
    let norm = &executor.graph.nodes()[unit.norm];
    let batch = state.spec.norm == Norm::Batch;
    let x = state.output(executor, unit.source)?;
    let table = if batch || state.spec.moments {
        let sums = Sums::new(map, state.rows);
        let partial = gpu.take(sums.bytes(map))?;
        gpu.launch(element, "moments", sums.grid(map), arguments![x, &partial, map, sums])?;
        let moments = state.moments_of(executor, unit.norm);
        let seen = Seen { x: x.address(), partial: Some(&partial), sums, moments };
        match &state.share {
            Some(share) => shares::table(executor, state, share, unit.norm, seen)?,
            None => state.weights.table(executor, norm, unit.norm, batch, Some(seen))?,
        }
    } else {
        state.weights.table(executor, norm, unit.norm, false, None)?
    };
    let residual = unit.residual.map(|node| state.output(executor, node)).transpose()?;
    let y = gpu.take(count * element.bytes())?;
    let slope = unit.activation.slope();
    let arguments: &[_] = arguments![x, &*table, residual, &y, map, count, slope];
    gpu.launch(element, "normalise", Grid::over(count), arguments)?;
    state.tables[unit.norm] = Some(table);
    Ok(y)
}

/// The batch-norm statistics of a pass.
type Statistics = (Vec<BatchMoments>, Option<NormUpdate>);

fn what_was_seen(executor: &CudaExecutor, state: &State) -> Result<Statistics> {
    let Some((all, _)) = &state.moments else { return Ok((Vec::new(), None)) };
    let (mut moments, mut norms) = (Vec::new(), Vec::new());
    for (at, node) in executor.graph.nodes().iter().enumerate() {
        let (Op::BatchNorm { .. }, Some(start)) = (&node.op, executor.plan.moments[at]) else { continue };
        let channels = node.shape.channels();
        let part = |number: usize| all.narrow(0, start + number * channels, channels);
        let (name, mean) = (node.name.clone(), part(0)?);
        norms.push(NormStatistics { name: name.clone(), mean: mean.clone(), unbiased_variance: part(2)? });
        moments.push(BatchMoments { name, mean, variance: part(1)? });
    }
    if !state.spec.moments {
        moments.clear();
    }
    Ok((moments, (state.spec.norm == Norm::Batch).then_some(NormUpdate { norms })))
}
