//! Batch norms of a batch whose rows several ranks share.
//!
//! What this rank's rows give is merged on its GPU, in `f64`. All ranks receive what each of them has, and each merges
//! these in the order of ranks: so all hold the same bits, and a batch norm is that of the whole batch.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::CudaExecutor;
use super::forward::State;
use super::launch::{Grid, Map, Sums, arguments};
use super::memory::Buffer;
use super::weights::{SUMS, Seen};
use crate::executor::{Norm, Share};
use crate::graph::Op;
use crate::ranks::tensors::gather_tensor;

/// As `Weights::table`, from the moments of all ranks.
pub(super) fn table(
    executor: &CudaExecutor,
    state: &State,
    share: &Share,
    norm: usize,
    seen: Seen<'_>,
) -> Result<Arc<Buffer>> {
    let node = &executor.graph.nodes()[norm];
    let Op::BatchNorm { epsilon, .. } = node.op else { bail!("node {} is no batch norm", node.name) };
    let (gpu, map) = (&executor.gpu, executor.plan.maps[norm]);
    let channels = map.channels as usize;
    let (own, to) = gpu.doubles(3 * channels)?;
    gpu.launch(
        executor.precision.element(),
        "moments_of_share",
        Grid::channels(map),
        arguments![seen.x, seen.partial, map, seen.sums, to],
    )?;
    let (_all, from) = of_all(executor, share, &own)?;
    let table = Arc::new(gpu.take(4 * channels * size_of::<f32>())?);
    let [scale, shift, mean, variance] = state.weights.of_norm(norm);
    let (ranks, batch) = (share.ranks.count(), state.spec.norm == Norm::Batch);
    gpu.launch(
        SUMS,
        "prepare_of_shares",
        Grid::over(channels),
        arguments![
            from,
            ranks,
            map,
            seen.moments,
            batch,
            mean,
            variance,
            scale,
            shift,
            epsilon as f32,
            &*table
        ],
    )?;
    Ok(table)
}

/// The arguments of `line`.
pub(super) struct Line<'a> {
    /// This rank's sums, if a gradient came and they are needed.
    pub(super) partial: Option<&'a Buffer>,
    pub(super) map: Map,
    pub(super) sums: Sums,
    pub(super) table: &'a Buffer,
    /// Where the moments of the batch lie, or 0.
    pub(super) seen: u64,
    /// Whether the batch norm used them.
    pub(super) batch: bool,
    /// Where gradients to moments lie, or 0.
    pub(super) of_mean: u64,
    pub(super) of_variance: u64,
    /// Where gradients of scale and shift go, or 0.
    pub(super) of_scale: u64,
    pub(super) of_shift: u64,
    pub(super) line: &'a Buffer,
}

/// The line of an input's gradient, and gradients of scale and shift: of the whole batch, and of this rank's rows.
pub(super) fn line(executor: &CudaExecutor, share: Option<&Share>, it: &Line<'_>) -> Result<()> {
    let (gpu, map) = (&executor.gpu, it.map);
    let Some(share) = share else {
        return gpu.launch(
            SUMS,
            "line",
            Grid::channels(map),
            arguments![
                it.partial,
                map,
                it.sums,
                it.table,
                it.seen,
                it.batch,
                it.of_mean,
                it.of_variance,
                it.of_scale,
                it.of_shift,
                it.line
            ],
        );
    };
    let channels = map.channels as usize;
    let own = if it.batch && it.partial.is_some() { Some(gpu.doubles(2 * channels)?) } else { None };
    let to = own.as_ref().map_or(0, |(_, address)| *address);
    let arguments: &[_] = arguments![it.partial, map, it.sums, it.of_scale, it.of_shift, to];
    gpu.launch(SUMS, "gradient_sums_of_share", Grid::channels(map), arguments)?;
    let all = own.map(|(own, _)| of_all(executor, share, &own)).transpose()?;
    let (ranks, from) = all.as_ref().map_or((0, 0), |(_, address)| (share.ranks.count(), *address));
    gpu.launch(
        SUMS,
        "line_of_shares",
        Grid::over(channels),
        arguments![
            from,
            ranks,
            map,
            share.rows,
            it.table,
            it.seen,
            it.batch,
            it.of_mean,
            it.of_variance,
            it.line
        ],
    )
}

/// What each rank has, one rank's behind the other's, and where it lies.
fn of_all(executor: &CudaExecutor, share: &Share, own: &Tensor) -> Result<(Tensor, u64)> {
    let all = gather_tensor(&*share.ranks, own, &vec![own.elem_count(); share.ranks.count()])?;
    let address = executor.gpu.place(&all)?.address;
    Ok((all, address))
}
