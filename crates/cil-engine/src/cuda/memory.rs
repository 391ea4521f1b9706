//! Memory on the GPU that is handed back and used again.
//!
//! One decision: all work goes to one stream, in order, so memory may be taken anew as soon as its last reader has been
//! *submitted*. A step like the one before it then allocates nothing, which is also what lets it be captured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError};

/// Idle memory by size.
#[derive(Debug)]
pub(super) struct Pool {
    stream: Arc<CudaStream>,
    idle: Mutex<BTreeMap<usize, Vec<CudaSlice<u8>>>>,
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>) -> Arc<Self> {
        Arc::new(Self { stream, idle: Mutex::default() })
    }

    /// At least `bytes` bytes that hold whatever was there before.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, DriverError> {
        let size = class(bytes);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.get_mut(&size).and_then(Vec::pop);
        drop(idle);
        let memory = match found {
            Some(memory) => memory,
            // SAFETY: every kernel writes what it or a later one reads.
            None => unsafe { self.stream.alloc::<u8>(size)? },
        };
        let (address, _) = memory.device_ptr(&self.stream);
        Ok(Buffer { address, size, memory: Some(memory), pool: self.clone() })
    }

    /// Gives all idle memory back to the driver.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The size that a request gets: an eighth more at most, in steps that keep every address aligned for any vector.
fn class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(256);
    bytes.max(1).next_multiple_of(step)
}

/// Memory on loan from a [`Pool`].
#[derive(Debug)]
pub(super) struct Buffer {
    address: u64,
    size: usize,
    memory: Option<CudaSlice<u8>>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Where it lies on the GPU.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Bytes on loan, a little more than were asked for.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.entry(self.size).or_default().push(memory);
        }
    }
}
