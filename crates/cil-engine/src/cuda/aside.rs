//! Work of a captured step beside the rest of it.
//!
//! It is used only inside a capture, and only for work that nothing else waits for before the end of the step:
//! gradients of weights. In a capture a second stream is a branch of the graph and costs the host nothing; buffers lent
//! to that work stay on loan until the branches join.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError};

use super::driver::explain;
use super::memory::Buffer;

/// A further stream, and what orders it with the main one.
pub(super) struct Branch {
    stream: Arc<CudaStream>,
    /// Recorded where it leaves the main stream, and where it meets it again.
    events: Mutex<[CudaEvent; 2]>,
}

impl fmt::Debug for Branch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Branch")
    }
}

impl Branch {
    pub(super) fn new(main: &CudaStream) -> Result<Self> {
        let made = || {
            let context = main.context();
            let stream = context.new_stream()?;
            Ok::<_, DriverError>(Self {
                stream,
                events: Mutex::new([context.new_event(None)?, context.new_event(None)?]),
            })
        };
        made().map_err(|error| explain(error, "making a further stream"))
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Work submitted to it from here on waits for all work submitted to `main`.
    pub(super) fn leave(&self, main: &CudaStream) -> Result<()> {
        self.order(0, main, &self.stream).map_err(|error| explain(error, "leaving the main stream"))
    }

    /// Work submitted to `main` from here on waits for all work submitted to it.
    pub(super) fn meet(&self, main: &CudaStream) -> Result<()> {
        self.order(1, &self.stream, main).map_err(|error| explain(error, "meeting the main stream"))
    }

    fn order(
        &self,
        event: usize,
        before: &CudaStream,
        after: &CudaStream,
    ) -> std::result::Result<(), DriverError> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events[event].record(before)?;
        after.wait(&events[event])
    }
}

/// Memory that work beside the main stream reads or writes, until both meet.
#[derive(Debug, Default)]
pub(super) struct Lent {
    buffers: Vec<Buffer>,
    /// What the next product there may work in: those before it are done by then.
    pub(super) work: Option<Buffer>,
}

impl Lent {
    pub(super) fn keep(&mut self, buffer: Buffer) {
        self.buffers.push(buffer);
    }

    /// Whether there is work that was not met yet.
    pub(super) fn is_some(&self) -> bool {
        self.work.is_some()
    }

    /// Room to work in, that of the product before if it is enough.
    pub(super) fn room(&mut self, bytes: usize, take: impl FnOnce() -> Result<Buffer>) -> Result<u64> {
        if let Some(work) = self.work.as_ref().filter(|work| work.size() >= bytes) {
            return Ok(work.address());
        }
        let new = take()?;
        let address = new.address();
        self.buffers.extend(self.work.replace(new));
        Ok(address)
    }
}
