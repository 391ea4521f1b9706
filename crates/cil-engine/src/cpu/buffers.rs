//! Buffers that are handed back and used again.
//!
//! A fresh allocation of some megabytes is an `mmap`, a page fault per 4 KiB and an `munmap`: a fifth of a step. So a
//! [`Buffer`] returns its memory to the [`Pool`] it came from.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Idle buffers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Vec<f32>>>,
}

impl Pool {
    /// A buffer of `len` values that hold whatever was there before.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |data: &Vec<f32>| data.capacity() >= len && data.capacity() <= 2 * len + 64;
        let best = (0..idle.len()).filter(|at| fits(&idle[*at])).min_by_key(|at| idle[*at].capacity());
        let mut data = best.map(|at| idle.swap_remove(at)).unwrap_or_default();
        drop(idle);
        if data.capacity() < len {
            data = vec![0.0; len];
        }
        data.resize(len, 0.0);
        Buffer { data, pool: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub(super) fn zeros(self: &Arc<Self>, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }
}

/// Values on loan from a [`Pool`].
#[derive(Debug)]
pub(super) struct Buffer {
    data: Vec<f32>,
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
        &self.data
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
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
    if data.len() < len {
        data.resize(len, 0.0);
    }
    let result = work(&mut data[..len]);
    SCRATCH.with_borrow_mut(|idle| idle.push(data));
    result
}
