//! Ranks of an MPI.
//!
//! It moves bytes between host memories, from the thread that initialised MPI; an MPI that fails ends the job by
//! itself.

use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::bail;
use cil_engine::ranks::{Ranks, Spent};
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use mpi::{Count, Threading};

/// This process's place in the MPI, which it leaves at its end.
pub(super) struct World {
    /// Left where the program says so: a process that panics must not wait there for the others.
    universe: ManuallyDrop<Universe>,
}

impl World {
    /// Joins.
    pub(super) fn join() -> Result<(Self, MpiRanks)> {
        let (universe, _) =
            mpi::initialize_with_threading(Threading::Serialized).context("the MPI was joined before")?;
        let world = universe.world();
        let rank = usize::try_from(world.rank()).context("the MPI gave no rank")?;
        let count = usize::try_from(world.size()).context("the MPI gave no size")?;
        Ok((
            Self { universe: ManuallyDrop::new(universe) },
            MpiRanks { rank, count, spent: Mutex::default() },
        ))
    }

    /// Leaves, once all others do.
    pub(super) fn leave(self) {
        drop(ManuallyDrop::into_inner(self.universe));
    }

    /// Ends all processes of the job.
    pub(super) fn abort(&self, status: u8) {
        self.universe.world().abort(i32::from(status))
    }
}

/// One of the processes.
#[derive(Debug)]
pub(super) struct MpiRanks {
    rank: usize,
    count: usize,
    spent: Mutex<Spent>,
}

impl MpiRanks {
    /// Does an operation that brings that many bytes, of which this rank's own came from nowhere.
    fn timed(&self, bytes: usize, own: usize, operation: impl FnOnce(&SimpleCommunicator)) {
        let began = Instant::now();
        operation(&SimpleCommunicator::world());
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.operations += 1;
        spent.bytes += (bytes - own) as u64;
        spent.seconds += began.elapsed().as_secs_f64();
    }
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) -> candle_core::Result<()> {
        let (counts, starts) = counted(lengths)?;
        self.timed(all.len(), own.len(), |world| {
            world.all_gather_varcount_into(own, &mut PartitionMut::new(all, counts, starts));
        });
        Ok(())
    }

    fn exchange(&self, own: &[u8], lengths: &[usize], pieces: &mut [u8]) -> candle_core::Result<()> {
        let (counts, starts) = counted(lengths)?;
        let (counts_of_pieces, starts_of_pieces) = counted(&vec![lengths[self.rank]; self.count])?;
        self.timed(pieces.len(), lengths[self.rank], |world| {
            let own = Partition::new(own, counts, starts);
            let mut pieces = PartitionMut::new(pieces, counts_of_pieces, starts_of_pieces);
            world.all_to_all_varcount_into(&own, &mut pieces);
        });
        Ok(())
    }

    fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lengths and where each begins, as an MPI counts.
fn counted(lengths: &[usize]) -> candle_core::Result<(Vec<Count>, Vec<Count>)> {
    let (mut counts, mut starts, mut end) = (Vec::new(), Vec::new(), 0);
    for length in lengths {
        starts.push(end as Count);
        counts.push(*length as Count);
        end += length;
    }
    if Count::try_from(end).is_err() {
        bail!("{end} bytes are more than an MPI call can send; use a smaller batch");
    }
    Ok((counts, starts))
}
