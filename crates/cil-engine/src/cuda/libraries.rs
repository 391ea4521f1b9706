//! NVIDIA's libraries beside cuDNN's convolutions: cuBLAS's memory, and what all of them are called.
//!
//! cuBLAS gets its workspace once. By default it would use different workspaces inside and outside of a capture, and
//! the workspace determines the order of its sums.

use std::fmt;
use std::sync::Arc;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::cublas::CudaBlas;
use candle_core::cuda_backend::cudarc::cublas::result::CublasError;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, sys as driver};
use candle_core::cuda_backend::cudarc::{cublas, cudnn};
use candle_core::{Error, Result};

use super::driver::explain;

/// Bytes that cuBLAS works in: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;

/// candle's cuBLAS, with memory of its own while this lives.
pub(super) struct Blas {
    handle: Arc<CudaBlas>,
    stream: Arc<CudaStream>,
    _workspace: CudaSlice<u8>,
}

impl Blas {
    pub(super) fn new(device: &CudaDevice) -> Result<Self> {
        let (handle, stream) = (device.cublas_handle(), device.cuda_stream());
        // SAFETY: cuBLAS alone reads and writes it, and writes first.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) };
        let workspace = workspace.map_err(|error| explain(error, "taking memory for cuBLAS"))?;
        let address = workspace.device_ptr(&stream).0 as *mut std::ffi::c_void;
        // SAFETY: the memory is taken back from cuBLAS before it goes.
        let given = unsafe { cublas::sys::cublasSetWorkspace_v2(*handle.handle(), address, WORKSPACE) };
        given.result().map_err(|error| unable(error, "taking its workspace"))?;
        Ok(Self { handle, stream, _workspace: workspace })
    }

    /// Its version, as `13.1.0`.
    fn version(&self) -> Result<String> {
        let mut version = 0;
        // SAFETY: the call writes one number.
        let status = unsafe { cublas::sys::cublasGetVersion_v2(*self.handle.handle(), &raw mut version) };
        status.result().map_err(|error| unable(error, "telling its version"))?;
        Ok(numbers(version.unsigned_abs() as usize, 10_000))
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the same stream again, which makes cuBLAS use memory of its own (its manual). If it refuses, it is as
        // broken as it was.
        let _ = unsafe { cublas::result::set_stream(*self.handle.handle(), self.stream.cu_stream().cast()) };
    }
}

fn unable(error: CublasError, doing: &str) -> Error {
    Error::Msg(format!("cuBLAS, {doing}: {error:?}"))
}

/// Names and versions of the GPU and its libraries: bits may differ where any of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The GPU's name, such as `NVIDIA H200`.
    pub gpu: String,
    /// The CUDA release that the driver is for, such as `13.0`.
    pub cuda: String,
    /// cuDNN's version, such as `9.19.0`.
    pub cudnn: String,
    /// cuBLAS's version, such as `13.1.0`.
    pub cublas: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gpu, cuda, cudnn, cublas } = self;
        write!(formatter, "{gpu}, CUDA {cuda}, cuDNN {cudnn}, cuBLAS {cublas}")
    }
}

impl Versions {
    pub(super) fn of(stream: &CudaStream, blas: &Blas) -> Result<Self> {
        let name = stream.context().name();
        let mut version = 0;
        // SAFETY: the call writes one number.
        let status = unsafe { driver::cuDriverGetVersion(&raw mut version) };
        status.result().map_err(|error| explain(error, "asking for the driver's version"))?;
        Ok(Self {
            gpu: name.map_err(|error| explain(error, "asking for the GPU's name"))?,
            cuda: format!("{}.{}", version / 1000, version % 1000 / 10),
            cudnn: numbers(cudnn::result::get_version(), 10_000),
            cublas: blas.version()?,
        })
    }
}

/// A version that a library reports as one number, the first of three in steps of `major`, the second in hundreds.
fn numbers(version: usize, major: usize) -> String {
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_written_as_their_releases() {
        assert_eq!(numbers(91_900, 10_000), "9.19.0");
        assert_eq!(numbers(130_103, 10_000), "13.1.3");
    }
}
