//! Memory on the GPU that is returned and used again.
//!
//! All work goes to one stream, in order, so memory may be reused as soon as its last reader has been *submitted*. A
//! step like the one before it then allocates nothing.
//!
//! While a step is captured, memory is that capture's own ([`Capturing`]): it is given in it and taken back in it, so a
//! replay depends on no memory that anybody else may be using by then.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError};

/// Idle memory by size.
type Idle = BTreeMap<usize, Vec<CudaSlice<u8>>>;

/// Something that must not go before something else does.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

/// Memory that executors share.
#[derive(Debug)]
pub(super) struct Pool {
    stream: Arc<CudaStream>,
    idle: Mutex<Idle>,
}

/// The memory of this thread's capture.
struct Capture {
    number: u64,
    idle: Idle,
    on_loan: usize,
    /// Values that were created in it and are cached nowhere: they end with the capture.
    made: Vec<Held>,
    /// Earlier values that it reads: they must live as long as the capture can be replayed.
    read: Vec<Held>,
}

thread_local! {
    static CAPTURE: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

/// Whether this thread's work is being captured.
pub(super) fn is_capturing() -> bool {
    CAPTURE.with_borrow(Option::is_some)
}

/// Keeps what is made in a capture until the capture ends.
pub(super) fn made(it: &Held) {
    CAPTURE.with_borrow_mut(|capture| capture.iter_mut().for_each(|to| to.made.push(it.clone())));
}

/// Keeps what a capture reads for as long as it can be replayed, unless it was made in it.
pub(super) fn read<T: Any + Send + Sync>(it: &Arc<T>) {
    CAPTURE.with_borrow_mut(|capture| {
        let Some(capture) = capture else { return };
        let is_known = |known: &Held| Arc::as_ptr(known).cast::<()>() == Arc::as_ptr(it).cast::<()>();
        if !capture.made.iter().chain(&capture.read).any(is_known) {
            capture.read.push(it.clone());
        }
    });
}

/// While it lives, memory that this thread takes is a capture's own.
pub(super) struct Capturing {}

impl Capturing {
    pub(super) fn begin() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (idle, made, read) = (Idle::new(), Vec::new(), Vec::new());
        CAPTURE.set(Some(Capture { number, idle, on_loan: 0, made, read }));
        Self {}
    }

    /// Gives all memory back, within the capture; how many buffers are still on loan (none is right), and what a replay
    /// reads that was there before.
    pub(super) fn end(self) -> (usize, Vec<Held>) {
        // Buffers look for their capture as they go, so nothing may be borrowed then.
        let made = CAPTURE.with_borrow_mut(|it| it.as_mut().map(|it| std::mem::take(&mut it.made)));
        drop(made);
        let ended = CAPTURE.take();
        drop(self);
        ended.map_or((0, Vec::new()), |it| (it.on_loan, it.read))
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        // Where it was not ended: the values go after the place is empty.
        drop(CAPTURE.take());
    }
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>) -> Arc<Self> {
        Arc::new(Self { stream, idle: Mutex::default() })
    }

    /// At least `bytes` bytes that hold whatever was there before.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, DriverError> {
        let size = class(bytes);
        let of_capture = CAPTURE.with_borrow_mut(|it| {
            it.as_mut().map(|it| {
                it.on_loan += 1;
                (it.number, it.idle.get_mut(&size).and_then(Vec::pop))
            })
        });
        let (capture, found) = match of_capture {
            Some((number, found)) => (Some(number), found),
            None => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                (None, idle.get_mut(&size).and_then(Vec::pop))
            }
        };
        let memory = match found {
            Some(memory) => memory,
            // SAFETY: every kernel writes what it or a later one reads.
            None => unsafe { self.stream.alloc::<u8>(size)? },
        };
        let (address, _) = memory.device_ptr(&self.stream);
        // A returned buffer holds nothing that may be read.
        #[cfg(test)]
        super::tests::emulator::poison(address, size);
        Ok(Buffer { address, size, memory: Some(memory), pool: self.clone(), capture })
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
    /// The capture whose memory it is.
    capture: Option<u64>,
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
        let Some(memory) = self.memory.take() else { return };
        if let Some(number) = self.capture {
            let back = |capture: &mut Option<Capture>| match capture.as_mut().filter(|it| it.number == number)
            {
                Some(capture) => {
                    capture.on_loan -= 1;
                    capture.idle.entry(self.size).or_default().push(memory);
                    None
                }
                None => Some(memory),
            };
            // Memory that outlived its capture returns to the driver.
            drop(CAPTURE.with_borrow_mut(back));
        } else {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.entry(self.size).or_default().push(memory);
        }
    }
}
