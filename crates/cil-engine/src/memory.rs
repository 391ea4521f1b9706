//! The allocator of a program that runs networks.
//!
//! Losses and optimisers allocate tensors of megabytes and free them in the same step. The system's allocator gives
//! such memory back and faults it in again, page by page: a tenth of a learning step (docs/speed.md). This one keeps it
//! for a while. A program takes it by `#[global_allocator]` and calls [`keep_freed`] when it starts; nothing that is
//! computed depends on it.

use std::ffi::{c_int, c_long};

pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of mimalloc.h, versions 2 and 3; its Rust bindings leave it out.
const PURGE_DELAY: c_int = 15;

/// Milliseconds before freed memory is given back; ten times as long (`arena_purge_mult`) for what is kept in arenas.
const DELAY: c_long = 10_000;

/// Lets freed memory serve again for some seconds before the system gets it back, unless `MIMALLOC_PURGE_DELAY` in the
/// environment says otherwise.
pub fn keep_freed() {
    // SAFETY: the call writes one number of the allocator's own options, and takes any number.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, DELAY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_delay() {
        // SAFETY: the calls read and write one number of the allocator's own options.
        let read = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // The only option that begins with this value.
        assert!(read() == 1000 || std::env::var_os("MIMALLOC_PURGE_DELAY").is_some(), "{}", read());
        keep_freed();
        assert!(read() == DELAY || std::env::var_os("MIMALLOC_PURGE_DELAY").is_some(), "{}", read());
    }
}
