//! Ranks with a GPU each, whose values go from GPU to GPU by NCCL.
//!
//! It moves bytes and adds nothing, so sums are those of all transports: in the order of ranks. What the host says
//! (digests, whether to stop) goes by the transport that the ranks had before. Operations are submitted to the stream
//! of all other work, in order, and the host waits for none of them.

mod library;

use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use candle_core::{Result, Tensor, bail};

use super::Gpu;
use super::memory::is_capturing;
use crate::ranks::{Ranks, Spent, gather};
use library::{BYTES, Comm, Functions, Id, nccl};

/// Ranks whose GPUs reach each other.
pub struct NcclRanks {
    gpu: Gpu,
    nccl: &'static Functions,
    /// Never destroyed: that would wait for ranks that may have ended by an error, and what this rank sent may be on
    /// its way still. It ends with the process.
    comm: Mutex<Comm>,
    host: Arc<dyn Ranks>,
    spent: Mutex<Spent>,
}

// SAFETY: a communicator may be used by any thread that binds its GPU, by one at a time, which the mutex sees to.
unsafe impl Send for NcclRanks {}
// SAFETY: as above.
unsafe impl Sync for NcclRanks {}

impl fmt::Debug for NcclRanks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NcclRanks({} of {}, {:?})", self.rank(), self.count(), self.gpu)
    }
}

impl NcclRanks {
    /// Joins the ranks of `host`, all of which call this, each with a GPU of its own. Rank 0 makes the id by which they
    /// find each other, and `host` brings it to all.
    ///
    /// # Errors
    /// If there is no NCCL, or it cannot connect them: two ranks may not have one GPU.
    pub fn join(gpu: &Gpu, host: Arc<dyn Ranks>) -> Result<Self> {
        let (nccl, mut id) = (nccl()?, Id([0; 128]));
        gpu.bind()?;
        let (rank, count) = (host.rank(), host.count());
        if rank == 0 {
            // SAFETY: the call writes an id.
            nccl.check(unsafe { (nccl.get_unique_id)(&raw mut id) }, "making an id")?;
        }
        let own = if rank == 0 { id.0.as_slice() } else { &[] };
        let lengths: Vec<usize> = (0..count).map(|rank| if rank == 0 { id.0.len() } else { 0 }).collect();
        let id_bytes = gather(&*host, own, &lengths)?;
        id.0.copy_from_slice(&id_bytes);
        let mut comm: Comm = std::ptr::null_mut();
        // SAFETY: the call writes a communicator; the GPU is this thread's.
        let joined = unsafe { (nccl.comm_init_rank)(&raw mut comm, count as c_int, id, rank as c_int) };
        nccl.check(joined, "connecting the GPUs of all ranks")?;
        Ok(Self { gpu: gpu.clone(), nccl, comm: Mutex::new(comm), host, spent: Mutex::default() })
    }

    /// Submits what `work` asks for, as one operation that brings `bytes` bytes from others.
    fn submit(&self, bytes: usize, work: impl FnOnce(&Group<'_>) -> Result<()>) -> Result<()> {
        if is_capturing() {
            bail!("a captured step shares values with other ranks; submit it kernel by kernel");
        }
        self.gpu.bind()?;
        let began = Instant::now();
        let comm = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        let group = Group { nccl: self.nccl, comm: *comm, stream: self.gpu.stream().cast() };
        // SAFETY: a group begins and ends in one thread.
        self.nccl.check(unsafe { (self.nccl.group_start)() }, "beginning an operation")?;
        let done = work(&group);
        // SAFETY: as above.
        let ended = unsafe { (self.nccl.group_end)() };
        done?;
        self.nccl.check(ended, "moving values between GPUs")?;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.operations += 1;
        spent.bytes += bytes as u64;
        spent.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Where this rank's values lie, if there are as many as were said, and the size of each.
    fn own(&self, own: &Tensor, said: usize) -> Result<(u64, usize)> {
        if own.elem_count() != said {
            bail!("rank {} has {} values, and {said} were said", self.rank(), own.elem_count());
        }
        Ok((self.gpu.place(own)?.address, own.dtype().size_in_bytes()))
    }

    /// A tensor for `count` values like those of `like`, and where it lies.
    fn room(&self, like: &Tensor, count: usize) -> Result<(Tensor, u64)> {
        let tensor = self.gpu.unwritten(like.dtype(), count)?;
        let address = self.gpu.place(&tensor)?.address;
        Ok((tensor, address))
    }
}

impl Ranks for NcclRanks {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn count(&self) -> usize {
        self.host.count()
    }

    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) -> Result<()> {
        self.host.gather(own, lengths, all)
    }

    fn exchange(&self, own: &[u8], lengths: &[usize], pieces: &mut [u8]) -> Result<()> {
        self.host.exchange(own, lengths, pieces)
    }

    fn gather_on_device(&self, own: &Tensor, lengths: &[usize]) -> Result<Option<Tensor>> {
        let said = lengths[self.rank()];
        let (from, size) = self.own(own, said)?;
        let total: usize = lengths.iter().sum();
        let (all, to) = self.room(own, total)?;
        self.submit((total - said) * size, |group| {
            if lengths.iter().all(|length| *length == said) {
                return group.all_gather(from, to, said * size);
            }
            let mut to = to;
            for (rank, length) in lengths.iter().enumerate() {
                group.broadcast(from, to, length * size, rank)?;
                to += (length * size) as u64;
            }
            Ok(())
        })?;
        Ok(Some(all))
    }

    fn exchange_on_device(&self, own: &Tensor, lengths: &[usize]) -> Result<Option<Tensor>> {
        let (mut from, size) = self.own(own, lengths.iter().sum())?;
        let (count, piece) = (self.count(), lengths[self.rank()]);
        let (pieces, mut to) = self.room(own, count * piece)?;
        self.submit((count - 1) * piece * size, |group| {
            for (rank, length) in lengths.iter().enumerate() {
                group.send(from, length * size, rank)?;
                group.receive(to, piece * size, rank)?;
                from += (length * size) as u64;
                to += (piece * size) as u64;
            }
            Ok(())
        })?;
        Ok(Some(pieces))
    }

    /// Those of the host and these; seconds of the latter are those of submitting them.
    fn spent(&self) -> Spent {
        let (host, own) = (self.host.spent(), *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        Spent {
            operations: host.operations + own.operations,
            bytes: host.bytes + own.bytes,
            seconds: host.seconds + own.seconds,
        }
    }
}

/// Operations that are submitted together. Addresses are of memory that is large enough: nothing here can check it.
struct Group<'a> {
    nccl: &'a Functions,
    comm: Comm,
    stream: *mut c_void,
}

impl Group<'_> {
    fn all_gather(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let (from, to) = (from as *const c_void, to as *mut c_void);
        // SAFETY: as said of the addresses; the stream orders it with all that reads and writes there.
        let done = unsafe { (self.nccl.all_gather)(from, to, bytes, BYTES, self.comm, self.stream) };
        self.nccl.check(done, "gathering values")
    }

    fn broadcast(&self, from: u64, to: u64, bytes: usize, root: usize) -> Result<()> {
        let (from, to) = (from as *const c_void, to as *mut c_void);
        let root = root as c_int;
        // SAFETY: as above; the root alone reads `from`.
        let done = unsafe { (self.nccl.broadcast)(from, to, bytes, BYTES, root, self.comm, self.stream) };
        self.nccl.check(done, "broadcasting values")
    }

    fn send(&self, from: u64, bytes: usize, rank: usize) -> Result<()> {
        let (from, rank) = (from as *const c_void, rank as c_int);
        // SAFETY: as above.
        let done = unsafe { (self.nccl.send)(from, bytes, BYTES, rank, self.comm, self.stream) };
        self.nccl.check(done, "sending values")
    }

    fn receive(&self, to: u64, bytes: usize, rank: usize) -> Result<()> {
        let (to, rank) = (to as *mut c_void, rank as c_int);
        // SAFETY: as above.
        let done = unsafe { (self.nccl.recv)(to, bytes, BYTES, rank, self.comm, self.stream) };
        self.nccl.check(done, "receiving values")
    }
}
