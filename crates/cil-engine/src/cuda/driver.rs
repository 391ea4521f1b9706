//! Messages for the driver's errors, and its initialisation.

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DriverError, sys};
use candle_core::{Error, Result, bail};

/// A driver's error as a sentence.
pub(super) fn explain(error: DriverError, doing: &str) -> Error {
    use sys::CUresult as Code;
    let why = match error.0 {
        Code::CUDA_ERROR_NO_DEVICE => "the driver finds no GPU that this process may use".to_owned(),
        Code::CUDA_ERROR_STUB_LIBRARY => {
            "libcuda.so.1 is the toolkit's stub; use the driver's own".to_owned()
        }
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the kernel's part of the driver is of another version than libcuda.so.1; restart the machine"
                .to_owned()
        }
        Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the driver is older than the compiler of this program; install a newer driver".to_owned()
        }
        Code::CUDA_ERROR_OUT_OF_MEMORY => "the GPU's memory is used up; use a smaller batch".to_owned(),
        _ => format!("{error}"),
    };
    Error::Msg(format!("CUDA, {doing}: {why}"))
}

/// Refuses a driver that is older than the CUDA release this program was built for.
pub(super) fn driver_version() -> Result<()> {
    let mut version = 0;
    // SAFETY: the call writes one number; it needs no context.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) }.result();
    status.map_err(|error| explain(error, "asking for the driver's version"))?;
    let built = sys::CUDA_VERSION as i32;
    // Any driver of the same major release runs what was built for it (NVIDIA's minor version compatibility).
    if version / 1000 < built / 1000 {
        bail!(
            "the driver is for CUDA {}.{}, this program for CUDA {}.{}: install a newer driver",
            version / 1000,
            version % 1000 / 10,
            built / 1000,
            built % 1000 / 10
        );
    }
    // SAFETY: initialises the driver, any number of times.
    unsafe { sys::cuInit(0) }.result().map_err(|error| explain(error, "starting the driver"))
}

/// Freed memory stays with the process: by default the driver takes it back at every synchronisation.
pub(super) fn keep_freed_memory(ordinal: usize) -> std::result::Result<(), DriverError> {
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    let threshold: *mut u64 = &raw mut threshold;
    // SAFETY: the pool is the device's own and lives as long as the driver; the attribute is a 64-bit number.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, ordinal as i32).result()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, threshold.cast()).result()
    }
}

/// Waits for all work, and gives what is free back to the driver.
pub(super) fn give_back_freed_memory(stream: &CudaStream) -> std::result::Result<(), DriverError> {
    stream.synchronize()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the pool is the device's own and lives as long as the driver.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, stream.context().ordinal() as i32).result()?;
        sys::cuMemPoolTrimTo(pool, 0).result()
    }
}

/// Gives memory that graphs had and no graph uses any more back to the driver.
pub(super) fn give_back_graphs_memory(device: &CudaDevice) {
    let ordinal = device.cuda_stream().context().ordinal();
    // SAFETY: a device's number is all that the call takes. If it fails, the memory stays with graphs to come.
    let _ = unsafe { sys::cuDeviceGraphMemTrim(ordinal as i32) };
}

/// The error when memory for `bytes` bytes is missing.
pub(super) fn out_of_memory(stream: &CudaStream, bytes: usize) -> Error {
    const MEBIBYTE: usize = 1 << 20;
    let asked = bytes.div_ceil(MEBIBYTE);
    match stream.context().mem_get_info() {
        Ok((free, total)) => Error::Msg(format!(
            "the GPU has {} of {} MiB left, {asked} MiB more are needed; use a smaller batch",
            free / MEBIBYTE,
            total / MEBIBYTE
        )),
        Err(_) => Error::Msg(format!("the GPU has no {asked} MiB left; use a smaller batch")),
    }
}
