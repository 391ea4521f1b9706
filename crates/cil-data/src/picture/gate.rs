//! How much all decoders together may hold.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that pictures may take while they are decoded, all together; a larger one is decoded alone.
const BUDGET: u64 = 1 << 30;

static HELD: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A share of the budget, given back when it is dropped.
pub(super) struct Held(u64);

/// Waits until there is room for `bytes`. Nobody who holds a share waits for another thread, so all get their turn.
pub(super) fn enter(bytes: u64) -> Held {
    let mut held = lock();
    while *held > 0 && held.saturating_add(bytes) > BUDGET {
        held = FREED.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
    *held = held.saturating_add(bytes);
    Held(bytes)
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock();
        *held = held.saturating_sub(self.0);
        FREED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, u64> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
