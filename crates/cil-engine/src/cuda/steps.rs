//! An optimiser's step, and that of running statistics, on the GPU: one kernel moves up to 32 tensors.
//!
//! The operations are those of `optim/fused.rs` in their order, none contracted, and the new values are new tensors, as
//! everywhere: the old ones may be somebody's snapshot. Learning rates lie in the GPU's memory, where a captured step
//! finds those of its replay.

use std::collections::HashMap;

use candle_core::cuda_backend::CudaDevice;
use candle_core::{DType, Device, Result, Tensor};

use super::gpu::{Element, launch_on};
use super::launch::{Grid, MOVES, Moves, arguments};
use super::tensors::{address_on, overwrite, tensor_on};
use crate::optim::{Move, Moved, OptimizerConfig, State};

/// Values between two tensors of one allocation.
const ALIGNED: usize = 64;

/// Learning rate, and factor of Adam's root.
type Pace = [f32; 2];

/// Paces of an optimiser's steps by what they move, brought to the GPU where they change; a clone has memory of its
/// own.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    of: HashMap<Moved, There>,
}

/// The paces of one kind of step: a tensor's at its place among those that are moved, at an address that stays.
#[derive(Debug)]
struct There {
    _memory: Tensor,
    address: u64,
    paces: Vec<Pace>,
}

impl Clone for Rates {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Rates {
    /// Where they lie after this.
    fn bring(&mut self, device: &CudaDevice, moved: &Moved, paces: Vec<Pace>) -> Result<u64> {
        let there = match self.of.get_mut(moved) {
            Some(there) => there,
            None => {
                let (memory, address) = tensor_on(device, 2 * paces.len())?;
                let there = There { _memory: memory, address, paces: Vec::new() };
                self.of.entry(moved.clone()).or_insert(there)
            }
        };
        if there.paces != paces {
            overwrite(device, there.address, paces.as_flattened())?;
            there.paces = paces;
        }
        Ok(there.address)
    }
}

/// Brings the paces of the next step of these to the GPU: their learning rates and counts of steps.
pub(crate) fn prepare(
    config: OptimizerConfig,
    device: &Device,
    moved: &Moved,
    next: &[(f64, u32)],
    rates: &mut Rates,
) -> Result<()> {
    let Device::Cuda(device) = device else { return Ok(()) };
    let paces = next.iter().map(|(learning_rate, steps)| pace(config, *learning_rate, *steps)).collect();
    rates.bring(device, moved, paces).map(|_| ())
}

/// The new values and states, or `None` where a tensor is not this module's to move.
pub(crate) fn moved(
    config: OptimizerConfig,
    moves: &[Move<'_>],
    all: &Moved,
    rates: &mut Rates,
) -> Result<Option<Vec<(Tensor, State)>>> {
    let Some(Device::Cuda(device)) = moves.first().map(|it| it.value.device()) else { return Ok(None) };
    if !moves.iter().all(|it| is_ours(it.value) && is_ours(it.gradient)) {
        return Ok(None);
    }
    let adam = matches!(config, OptimizerConfig::Adam { .. });
    let counts: Vec<usize> = moves.iter().map(|it| it.value.elem_count()).collect();
    let total = counts.iter().map(|count| count.next_multiple_of(ALIGNED)).sum();
    let (values, firsts) = (tensor_on(device, total)?, tensor_on(device, total)?);
    let seconds = if adam { Some(tensor_on(device, total)?) } else { None };
    let paces = moves.iter().map(|it| pace(config, it.learning_rate, it.steps())).collect();
    let paces = rates.bring(device, all, paces)?;
    let (mut start, mut results) = (0, Vec::new());
    for (first, (part, counts)) in moves.chunks(MOVES).zip(counts.chunks(MOVES)).enumerate() {
        let mut table = Moves::default();
        // Copies in row-major order live until the launch.
        let mut held = Vec::new();
        for (at, (it, count)) in part.iter().zip(counts).enumerate() {
            let dims = it.value.dims();
            let mut address = |tensor: &Tensor, what| {
                let (tensor, address) = address_on(device, tensor, what, dims)?;
                held.push(tensor);
                Ok::<u64, candle_core::Error>(address)
            };
            table.value[at] = address(it.value, "a parameter")?;
            table.gradient[at] = address(it.gradient, "a gradient")?;
            if let Some(before) = it.before {
                table.first[at] = address(&before.first, "an optimiser's first moment")?;
                if let Some(second) = &before.second {
                    table.second[at] = address(second, "an optimiser's second moment")?;
                }
            }
            let offset = (start * size_of::<f32>()) as u64;
            table.new_value[at] = values.1 + offset;
            table.new_first[at] = firsts.1 + offset;
            table.new_second[at] = seconds.as_ref().map_or(0, |(_, address)| address + offset);
            table.count[at] = i32::try_from(*count).map_err(candle_core::Error::wrap)?;
            table.decay[at] = it.weight_decay as f32;
            table.pace[at] = (first * MOVES + at) as i32;
            let new = |all: &(Tensor, u64)| all.0.narrow(0, start, *count)?.reshape(dims);
            let second = seconds.as_ref().map(new).transpose()?;
            let state = State { first: new(&firsts)?, second, steps: it.steps() };
            results.push((new(&values)?, state));
            start += count.next_multiple_of(ALIGNED);
        }
        let largest = counts.iter().copied().max().unwrap_or(0);
        launch(device, config, Grid(Grid::over(largest).0.min(64), part.len() as u32), &table, paces)?;
    }
    Ok(Some(results))
}

/// Running statistics moved by `momentum` towards a batch's, for pairs of both; `None` where a tensor is not this
/// module's to move.
pub(crate) fn blended(pairs: &[(&Tensor, &Tensor)], momentum: f64) -> Result<Option<Vec<Tensor>>> {
    let Some(Device::Cuda(device)) = pairs.first().map(|(running, _)| running.device()) else {
        return Ok(None);
    };
    if !pairs.iter().all(|(running, batch)| is_ours(running) && is_ours(batch)) {
        return Ok(None);
    }
    let total = pairs.iter().map(|(running, _)| running.elem_count().next_multiple_of(ALIGNED)).sum();
    let values = tensor_on(device, total)?;
    let (mut start, mut results) = (0, Vec::new());
    for part in pairs.chunks(MOVES) {
        let mut table = Moves::default();
        let mut held = Vec::new();
        for (at, (running, batch)) in part.iter().enumerate() {
            let (dims, count) = (running.dims(), running.elem_count());
            let (old, of_old) = address_on(device, running, "a running statistic", dims)?;
            let (new, of_new) = address_on(device, batch, "a batch's statistic", dims)?;
            held.extend([old, new]);
            (table.value[at], table.gradient[at]) = (of_old, of_new);
            table.new_value[at] = values.1 + (start * size_of::<f32>()) as u64;
            table.count[at] = i32::try_from(count).map_err(candle_core::Error::wrap)?;
            results.push(values.0.narrow(0, start, count)?.reshape(dims)?);
            start += count.next_multiple_of(ALIGNED);
        }
        let arguments: &[_] = arguments![&table, (1.0 - momentum) as f32, momentum as f32];
        launch_on(device, Element::F32, "blend", Grid(1, part.len() as u32), arguments)?;
    }
    Ok(Some(results))
}

fn is_ours(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && tensor.dtype() == DType::F32
}

/// The learning rate and the factor of the root, with Adam's bias corrections for that count of steps.
fn pace(config: OptimizerConfig, learning_rate: f64, steps: u32) -> Pace {
    match config {
        OptimizerConfig::Sgd { .. } => [learning_rate as f32, 0.0],
        OptimizerConfig::Adam { beta1, beta2, .. } => {
            let correction = |beta: f64| 1.0 - beta.powi(steps as i32);
            let root = (1.0 / correction(beta2).sqrt()) as f32;
            [(learning_rate / correction(beta1)) as f32, root]
        }
    }
}

fn launch(device: &CudaDevice, config: OptimizerConfig, grid: Grid, table: &Moves, paces: u64) -> Result<()> {
    match config {
        OptimizerConfig::Sgd { momentum, nesterov } => {
            let arguments: &[_] = arguments![table, paces, momentum as f32, nesterov];
            launch_on(device, Element::F32, "sgd", grid, arguments)
        }
        OptimizerConfig::Adam { beta1, beta2, epsilon } => {
            let (first, second) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
            let arguments: &[_] =
                arguments![table, paces, beta1 as f32, first, beta2 as f32, second, epsilon as f32];
            launch_on(device, Element::F32, "adam", grid, arguments)
        }
    }
}
