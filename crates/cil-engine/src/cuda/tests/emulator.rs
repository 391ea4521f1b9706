//! Counts of the emulator, where it is the driver.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Calls of the driver since [`reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) kernels: usize,
    pub(super) library_calls: usize,
    pub(super) copies: usize,
    pub(super) allocations: usize,
    pub(super) violations: usize,
    pub(super) waits: usize,
}

fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a null library means all that are loaded.
    let found = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Sets the counts to zero; `false` if the driver is a real one.
pub(super) fn reset() -> bool {
    let Some(found) = find(c"emulator_reset") else { return false };
    // SAFETY: the function of that name in tests/cuda/emulator.cpp takes and returns nothing.
    let reset: extern "C" fn() = unsafe { std::mem::transmute(found) };
    reset();
    true
}

/// Whether the emulator's cuDNN has calls that join a convolution with what follows it; `false` if the driver is a real
/// one.
pub(super) fn join(joins: bool) -> bool {
    let Some(found) = find(c"emulator_join") else { return false };
    // SAFETY: the function of that name in tests/cuda/emulator.cpp takes a number and returns nothing.
    let join: extern "C" fn(c_int) = unsafe { std::mem::transmute(found) };
    join(c_int::from(joins));
    true
}

/// Calls that the emulator's cuDNN refuses from now on, in this order: to add a gradient to what is there, to execute
/// the first reproducible algorithm that it offers, to report that one's workspace. `false` if the driver is a real
/// one.
pub(super) fn refuse([adding, executing, sizing]: [bool; 3]) -> bool {
    let Some(found) = find(c"emulator_refuse") else { return false };
    // SAFETY: the function of that name in tests/cuda/products.cpp takes a number and returns nothing.
    let refuse: extern "C" fn(c_int) = unsafe { std::mem::transmute(found) };
    refuse(c_int::from(adding) + 2 * c_int::from(executing) + 4 * c_int::from(sizing));
    true
}

/// Makes NaNs of `bytes` bytes at `address`, in the stream's order, where the driver is the emulator.
pub(in crate::cuda) fn poison(address: u64, bytes: usize) {
    let Some(found) = find(c"emulator_poison") else { return };
    // SAFETY: the function of that name in tests/cuda/emulator.cpp takes an address and a size that are on loan.
    let poison: extern "C" fn(u64, c_ulong) = unsafe { std::mem::transmute(found) };
    poison(address, bytes as c_ulong);
}

/// The counts, or `None` if the driver is a real one.
pub(super) fn counts() -> Option<Counts> {
    let found = find(c"emulator_counts")?;
    // SAFETY: the function of that name in tests/cuda/emulator.cpp writes six numbers.
    let read: extern "C" fn(*mut c_ulong) = unsafe { std::mem::transmute(found) };
    let mut all: [c_ulong; 6] = [0; 6];
    read(all.as_mut_ptr());
    let [kernels, library_calls, copies, allocations, violations, waits] = all.map(|it| it as usize);
    Some(Counts { kernels, library_calls, copies, allocations, violations, waits })
}

/// Allocations that outlived the capture that they were made in, and frees of such memory outside of it, since
/// [`reset`]; `None` if the driver is a real one.
pub(super) fn outliving() -> Option<usize> {
    let found = find(c"emulator_outliving")?;
    // SAFETY: the function of that name in tests/cuda/emulator.cpp writes one number.
    let read: extern "C" fn(*mut c_ulong) = unsafe { std::mem::transmute(found) };
    let mut count: c_ulong = 0;
    read(&raw mut count);
    Some(count as usize)
}

/// From now on there are so many bytes of memory beside those that are held, or as many as anybody wants; `false` if
/// the driver is a real one.
pub(super) fn leave(bytes: Option<usize>) -> bool {
    let Some(found) = find(c"emulator_leave") else { return false };
    // SAFETY: the function of that name in tests/cuda/emulator.cpp takes a number and returns nothing.
    let leave: extern "C" fn(c_ulong) = unsafe { std::mem::transmute(found) };
    leave(bytes.unwrap_or(0) as c_ulong);
    true
}
