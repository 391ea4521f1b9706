//! Buffers that are returned and used again.
//!
//! A fresh allocation of some megabytes is an `mmap`, a page fault per 4 KiB and an `munmap`: a fifth of a step. So a
//! [`Buffer`] returns its memory to the [`Pool`] it came from; which buffers live at a time is fixed by the plan, so a
//! step like the one before it allocates nothing. Every buffer begins at a cache line: a vector that crosses two costs
//! double.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::LANES;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Idle buffers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Vec<f32>>>,
    allocated: AtomicUsize,
}

impl Pool {
    /// A buffer of `len` values that hold whatever was there before.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let needed = class(len + LANES);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let data = idle.iter().rposition(|data| data.len() == needed).map(|at| idle.swap_remove(at));
        drop(idle);
        let data = data.unwrap_or_else(|| {
            self.allocated.fetch_add(needed * size_of::<f32>(), Ordering::Relaxed);
            vec![0.0; needed]
        });
        Buffer { start: aligned(&data), len, data, pool: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub(super) fn zeros(self: &Arc<Self>, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Bytes that buffers have ever needed at once.
    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }
}

/// The size that a buffer gets: an eighth more than was asked for at most. A buffer serves sizes of its class alone, so
/// that what is free depends on the sizes that were asked for and not on which buffer happened to serve.
fn class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(1);
    len.next_multiple_of(step)
}

/// The first value that begins a cache line.
fn aligned(data: &[f32]) -> usize {
    data.as_ptr().align_offset(LINE).min(LANES)
}

/// Values on loan from a [`Pool`].
#[derive(Debug)]
pub(super) struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Another buffer with the same values.
    pub(super) fn duplicate(&self) -> Self {
        let mut copy = self.pool.take(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(data);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` on `len` values that live on this thread and hold whatever was there before.
pub(super) fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut data = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    if data.len() < len + LANES {
        data.resize(len + LANES, 0.0);
    }
    let start = aligned(&data);
    let result = work(&mut data[start..][..len]);
    SCRATCH.with_borrow_mut(|idle| idle.push(data));
    result
}
