//! Parameters as the kernels read them, made once for each version of the parameters.
//!
//! Parameters are values, so tensors derived from them stay valid while their version is the same; frozen networks
//! derive them once.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};

use super::CudaExecutor;
use super::gpu::Element;
use super::inference::Folded;
use super::launch::{Grid, MANY, Map, Sums, Tensors, arguments};
use super::memory::Buffer;
use crate::graph::{Node, Op};
use crate::parameters::Parameters;

/// One convolution's weight, in candle's order and in ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) plain: u64,
    pub(super) packed: u64,
    /// Dimensions of one output channel's part.
    pub(super) map: Map,
    pub(super) count: usize,
}

/// Everything that a graph reads.
#[derive(Debug)]
pub(super) struct Weights {
    version: u64,
    /// By node: where the weight of a convolution lies.
    convolutions: Vec<Option<u64>>,
    /// By node: a bias, or a batch norm's scale and shift, running mean and variance.
    addresses: Vec<[u64; 4]>,
    /// By batch-norm node: what it does with running statistics.
    running: Mutex<Vec<Option<Arc<Buffer>>>>,
    /// By node: where the weight of a convolution lies in candle's order.
    plain: Vec<u64>,
    /// Convolutions with the batch norms behind them, for inference.
    folded: Mutex<Option<Arc<Folded>>>,
    /// The tensors that own the addresses.
    _tensors: Vec<Tensor>,
    _packed: Option<Buffer>,
}

/// Places in [`Weights::addresses`].
const SCALE: usize = 0;
const SHIFT: usize = 1;
const MEAN: usize = 2;
const VARIANCE: usize = 3;

impl Weights {
    pub(super) fn new(executor: &CudaExecutor, parameters: &Parameters) -> Result<Self> {
        let (graph, gpu) = (&executor.graph, &executor.gpu);
        let nodes = graph.nodes().len();
        let mut tensors = Vec::new();
        let mut addresses = vec![[0; 4]; nodes];
        let mut plain = Vec::new();
        for (at, node) in graph.nodes().iter().enumerate() {
            let mut find = |suffix: &str, dims: &[usize]| -> Result<u64> {
                let name = format!("{}.{suffix}", node.name);
                let (tensor, address) = gpu.address(parameters.get(&name)?, &name, dims)?;
                tensors.push(tensor);
                Ok(address)
            };
            let channels = node.shape.channels();
            if let Some(convolution) = executor.plan.convolutions[at] {
                let (inputs, side) = (graph.nodes()[convolution.input].shape.channels(), convolution.kernel);
                let linear = matches!(node.op, Op::Linear { .. });
                let dims = if linear { vec![channels, inputs] } else { vec![channels, inputs, side, side] };
                plain.push((at, find("weight", &dims)?, inputs, side, channels * inputs * side * side));
                if convolution.bias {
                    addresses[at][SHIFT] = find("bias", &[channels])?;
                }
            }
            if let Op::BatchNorm { affine, .. } = node.op {
                if affine {
                    addresses[at][SCALE] = find("weight", &[channels])?;
                    addresses[at][SHIFT] = find("bias", &[channels])?;
                }
                addresses[at][MEAN] = find("running_mean", &[channels])?;
                addresses[at][VARIANCE] = find("running_var", &[channels])?;
            }
        }
        let mut addresses_of = vec![0; nodes];
        plain.iter().for_each(|(at, address, ..)| addresses_of[*at] = *address);
        let mut convolutions = vec![None; nodes];
        let mut packed = None;
        if executor.precision.channels_last() {
            let bytes = executor.precision.element().bytes();
            let starts = plain.iter().scan(0, |next, (.., count)| {
                let start = *next;
                *next += (count * bytes).next_multiple_of(256);
                Some(start)
            });
            let starts: Vec<usize> = starts.collect();
            let total: usize = plain.iter().map(|(.., count)| (count * bytes).next_multiple_of(256)).sum();
            let buffer = gpu.take(total)?;
            let table: Vec<Weight> = plain
                .iter()
                .zip(&starts)
                .map(|(&(_, plain, inputs, side, count), start)| Weight {
                    plain,
                    packed: buffer.address() + *start as u64,
                    map: weight_map(inputs, side),
                    count,
                })
                .collect();
            for ((at, ..), weight) in plain.iter().zip(&table) {
                convolutions[*at] = Some(weight.packed);
            }
            many(executor, "pack_many", &table)?;
            packed = Some(buffer);
        } else {
            plain.iter().for_each(|(at, address, ..)| convolutions[*at] = Some(*address));
        }
        Ok(Self {
            version: parameters.version(),
            convolutions,
            addresses,
            running: Mutex::new(vec![None; nodes]),
            plain: addresses_of,
            folded: Mutex::default(),
            _tensors: tensors,
            _packed: packed,
        })
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// A convolution's weight.
    pub(super) fn convolution(&self, node: usize) -> u64 {
        self.convolutions[node].unwrap_or(0)
    }

    /// The bias of a convolution, or 0.
    pub(super) fn bias(&self, node: usize) -> u64 {
        self.addresses[node][SHIFT]
    }

    /// A convolution's weight in candle's order.
    pub(super) fn plain(&self, node: usize) -> u64 {
        self.plain[node]
    }

    /// A batch norm's scale and shift (0 where it has none), running mean and variance.
    pub(super) fn of_norm(&self, node: usize) -> [u64; 4] {
        self.addresses[node]
    }

    /// Convolutions with the batch norms behind them; made when they are first asked for.
    pub(super) fn folded(&self, executor: &CudaExecutor) -> Result<Arc<Folded>> {
        let mut known = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folded) = known.as_ref() {
            return Ok(folded.clone());
        }
        Ok(known.insert(Arc::new(Folded::new(executor, self)?)).clone())
    }

    /// By channel, what a batch norm does: see `prepare` in `kernels.cu`. `seen`: sums over the batch and where its
    /// moments go.
    pub(super) fn table(
        &self,
        executor: &CudaExecutor,
        node: &Node,
        at: usize,
        batch: bool,
        seen: Option<Seen<'_>>,
    ) -> Result<Arc<Buffer>> {
        let mut known = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(table)) = (&seen, &known[at]) {
            return Ok(table.clone());
        }
        let Op::BatchNorm { epsilon, .. } = node.op else {
            candle_core::bail!("node {} is no batch norm", node.name)
        };
        let map = executor.plan.maps[at];
        let channels = map.channels as usize;
        let table = Arc::new(executor.gpu.take(4 * channels * size_of::<f32>())?);
        let [scale, shift, mean, variance] = self.addresses[at];
        let nothing = Seen { x: 0, partial: None, sums: Sums::new(map, 1), moments: 0 };
        let with = seen.unwrap_or(nothing);
        executor.gpu.launch(
            executor.precision.element(),
            "prepare",
            Grid::channels(map),
            arguments![
                with.x,
                with.partial,
                map,
                with.sums,
                with.moments,
                batch,
                mean,
                variance,
                scale,
                shift,
                epsilon as f32,
                &*table
            ],
        )?;
        if seen.is_none() {
            known[at] = Some(table.clone());
        }
        Ok(table)
    }
}

/// Sums over a batch.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) x: u64,
    pub(super) partial: Option<&'a Buffer>,
    pub(super) sums: Sums,
    /// Where mean and variances go.
    pub(super) moments: u64,
}

/// The dimensions of one output channel's part of a weight, channels last.
pub(super) fn weight_map(channels: usize, side: usize) -> Map {
    Map { channels: channels as i32, height: side as i32, width: side as i32, last: 1 }
}

/// Runs `pack_many` or `unpack_many`.
pub(super) fn many(executor: &CudaExecutor, kernel: &'static str, weights: &[Weight]) -> Result<()> {
    for part in weights.chunks(MANY) {
        let mut table = Tensors {
            plain: [0; MANY],
            packed: [0; MANY],
            channels: [0; MANY],
            side: [0; MANY],
            count: [0; MANY],
            last: 1,
        };
        for (at, weight) in part.iter().enumerate() {
            table.plain[at] = weight.plain;
            table.packed[at] = weight.packed;
            table.channels[at] = weight.map.channels;
            table.side[at] = weight.map.height;
            table.count[at] = weight.count as i32;
        }
        let largest = part.iter().map(|weight| weight.count).max().unwrap_or(0);
        let grid = Grid(Grid::over(largest).0.min(64), part.len() as u32);
        executor.gpu.launch(executor.precision.element(), kernel, grid, arguments![&table])?;
    }
    Ok(())
}

/// The type that sums by channel are in, whatever the values are.
pub(super) const SUMS: Element = Element::F32;
