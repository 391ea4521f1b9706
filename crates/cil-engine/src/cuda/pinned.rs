//! Values that the GPU fetches while the host continues.
//!
//! A copy from pageable memory may wait for all work before it (the driver's manual allows it above 64 KiB), so the
//! inputs of each step lie in page-locked slots that are used in turn; the host waits for a slot only where the GPU is
//! that many steps behind.

use std::fmt;

use candle_core::Result;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice, result};

use super::driver::explain;

/// Slots that are used in turn.
const SLOTS: usize = 3;

/// Page-locked memory, and what lies behind the last copy that was made of it.
struct Slot {
    words: PinnedHostSlice<u32>,
    copied: CudaEvent,
}

/// Page-locked memory for uploads in turn.
#[derive(Default)]
pub(super) struct Slots {
    slots: [Option<Slot>; SLOTS],
    next: usize,
}

impl fmt::Debug for Slots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} slots of {SLOTS}", self.slots.iter().flatten().count())
    }
}

impl Slots {
    /// Writes `count` words over those at `address`, in the stream's order; `write` makes them.
    ///
    /// The memory there must be large enough: nothing here can check it.
    pub(super) fn bring(
        &mut self,
        device: &CudaDevice,
        address: u64,
        count: usize,
        write: impl FnOnce(&mut [u32]) -> Result<()>,
    ) -> Result<()> {
        let stream = device.cuda_stream();
        let slot = &mut self.slots[self.next];
        self.next = (self.next + 1) % SLOTS;
        let slot = match slot {
            Some(slot) if slot.words.len() >= count => slot,
            _ => {
                // SAFETY: what is read of it was written before.
                let words = unsafe { stream.context().alloc_pinned_with_flags::<u32>(count, 0) };
                let words = words.map_err(|error| explain(error, "taking page-locked memory"))?;
                let copied = stream.context().new_event(None);
                let copied = copied.map_err(|error| explain(error, "making an event"))?;
                slot.insert(Slot { words, copied })
            }
        };
        // cudarc would record an event of its own only where it watches all streams, which it does not here.
        slot.copied.synchronize().map_err(|error| explain(error, "waiting for an upload"))?;
        let words =
            slot.words.as_mut_slice().map_err(|error| explain(error, "reading page-locked memory"))?;
        write(&mut words[..count])?;
        // SAFETY: the words are not written again before the event behind this copy.
        let done = unsafe { result::memcpy_htod_async(address, &words[..count], stream.cu_stream()) };
        done.map_err(|error| explain(error, "bringing values to the GPU"))?;
        slot.copied.record(&stream).map_err(|error| explain(error, "marking an upload"))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The words go after this. Every later call reports a failure.
        let _ = self.copied.synchronize();
    }
}
