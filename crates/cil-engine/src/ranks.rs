//! Processes that work on one run together.
//!
//! A transport ([`Ranks`]) moves values and nothing else. Sums are computed here, each by one rank and in the order of
//! ranks, and sent to all: every rank holds the same bits, whatever the transport and the timing. [`Shared`] splits a
//! batch into a share of rows for each rank, and the caller of the executor sees the whole batch as if one process had
//! computed it.

mod shared;
pub(crate) mod tensors;
mod threads;

use std::fmt::Debug;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use bytemuck::Pod;
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::executor::ExecutorFactory;
pub use shared::Shared;
pub use threads::{Threaded, on_threads, threads};

/// How processes of one job reach each other. All of them call the same operations in the same order.
pub trait Ranks: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn count(&self) -> usize;

    /// Hands every rank the bytes of all, one rank's behind the other's. `lengths`: bytes by rank, the same on all;
    /// `own` has those of this one, and `all` their sum.
    ///
    /// # Errors
    /// If a rank is gone, or the transport fails.
    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) -> Result<()>;

    /// Hands every rank its piece of each rank's bytes, one rank's behind the other's. `own` is cut into pieces of
    /// `lengths`, the same on all ranks; `pieces` holds as many as there are ranks, of this rank's length.
    ///
    /// # Errors
    /// If a rank is gone, or the transport fails.
    fn exchange(&self, own: &[u8], lengths: &[usize], pieces: &mut [u8]) -> Result<()>;

    /// As [`Self::gather`] from one GPU's memory to the others': `own` is `[values]` in row-major order, and `lengths`
    /// counts values. `None`, and nothing, where this transport reaches the host's memory alone.
    ///
    /// # Errors
    /// As [`Self::gather`].
    fn gather_on_device(&self, _own: &Tensor, _lengths: &[usize]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// As [`Self::exchange`] from one GPU's memory to the others', as [`Self::gather_on_device`].
    ///
    /// # Errors
    /// As [`Self::exchange`].
    fn exchange_on_device(&self, _own: &Tensor, _lengths: &[usize]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Time and bytes of its operations so far, where they are measured.
    fn spent(&self) -> Spent {
        Spent::default()
    }
}

/// Time and bytes of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// How many there were.
    pub operations: u64,
    /// Bytes that came from other ranks.
    pub bytes: u64,
    /// Seconds in them, those of waiting for slower ranks included.
    pub seconds: f64,
}

/// One process, which has everything already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn gather(&self, own: &[u8], _: &[usize], all: &mut [u8]) -> Result<()> {
        all.copy_from_slice(own);
        Ok(())
    }

    fn exchange(&self, own: &[u8], _: &[usize], pieces: &mut [u8]) -> Result<()> {
        pieces.copy_from_slice(own);
        Ok(())
    }
}

/// The executors of `executors`, each working on a rank's share of every batch. One process gets them as they are.
pub fn shared(executors: ExecutorFactory, ranks: &Arc<dyn Ranks>) -> ExecutorFactory {
    if ranks.count() == 1 {
        return executors;
    }
    let ranks = Arc::clone(ranks);
    Arc::new(move |graph| Ok(Arc::new(Shared::new(executors(graph)?, &ranks))))
}

/// The share of rank `rank` of `count` in `total` things in a row: ranks follow each other, and no two differ by more
/// than 1.
pub fn share(total: usize, rank: usize, count: usize) -> Range<usize> {
    total * rank / count..total * (rank + 1) / count
}

/// How many of `total` things each rank has.
pub fn shares(total: usize, count: usize) -> Vec<usize> {
    (0..count).map(|rank| share(total, rank, count).len()).collect()
}

/// The values of all ranks, one rank's behind the other's; `lengths`: how many each has, the same on all ranks.
///
/// # Errors
/// If `own` has another length than is said of it, or the transport fails.
pub fn gather<T: Pod>(ranks: &dyn Ranks, own: &[T], lengths: &[usize]) -> Result<Vec<T>> {
    if lengths.get(ranks.rank()) != Some(&own.len()) {
        bail!("rank {} has {} values, and {lengths:?} were said", ranks.rank(), own.len());
    }
    let mut all = vec![T::zeroed(); lengths.iter().sum()];
    ranks.gather(bytemuck::cast_slice(own), &in_bytes::<T>(lengths), bytemuck::cast_slice_mut(&mut all))?;
    Ok(all)
}

/// As [`gather`], where every rank has as many values; a slice for each rank.
///
/// # Errors
/// If the transport fails.
pub fn gather_each<T: Pod>(ranks: &dyn Ranks, own: &[T]) -> Result<Vec<Vec<T>>> {
    let all = gather(ranks, own, &vec![own.len(); ranks.count()])?;
    let of = |rank: usize| all[rank * own.len()..(rank + 1) * own.len()].to_vec();
    Ok((0..ranks.count()).map(of).collect())
}

/// Adds up the values of all ranks, each place by one rank and in the order of ranks; every rank then holds the same
/// bits. As many bytes go over the wire as in a ring.
///
/// # Errors
/// If the transport fails.
pub fn sum<T: Pod + AddAssign>(ranks: &dyn Ranks, values: &mut [T]) -> Result<()> {
    let (count, lengths) = (ranks.count(), shares(values.len(), ranks.count()));
    if count == 1 {
        return Ok(());
    }
    let own = lengths[ranks.rank()];
    let mut pieces = vec![T::zeroed(); count * own];
    ranks.exchange(
        bytemuck::cast_slice(values),
        &in_bytes::<T>(&lengths),
        bytemuck::cast_slice_mut(&mut pieces),
    )?;
    let (sum, others) = pieces.split_at_mut(own);
    for piece in others.chunks_exact(own.max(1)) {
        sum.iter_mut().zip(piece).for_each(|(sum, value)| *sum += *value);
    }
    ranks.gather(bytemuck::cast_slice(sum), &in_bytes::<T>(&lengths), bytemuck::cast_slice_mut(values))
}

/// The first rank whose bytes are not those of rank 0, if there is one; every rank gets the same answer.
///
/// # Errors
/// If the transport fails.
pub fn first_that_differs(ranks: &dyn Ranks, own: &[u8; 32]) -> Result<Option<usize>> {
    let all = gather_each(ranks, own)?;
    Ok(all.iter().position(|it| *it != all[0]))
}

/// Whether any rank says so; every rank gets the same answer.
///
/// # Errors
/// If the transport fails.
pub fn any(ranks: &dyn Ranks, own: bool) -> Result<bool> {
    if ranks.count() == 1 {
        return Ok(own);
    }
    Ok(gather_each(ranks, &[u8::from(own)])?.concat().contains(&1))
}

fn in_bytes<T>(lengths: &[usize]) -> Vec<usize> {
    lengths.iter().map(|length| length * size_of::<T>()).collect()
}

#[cfg(test)]
mod tests;
