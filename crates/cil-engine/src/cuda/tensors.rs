//! Tensors as places in a GPU's memory.
//!
//! Candle's own interface has no address, no memory that nobody has written, and no copy into a fixed address; only
//! this file provides these.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DeviceRepr, result, sys};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{DType, Result, Shape, Storage, Tensor, WithDType, bail};

use super::driver::{explain, out_of_memory};
use super::memory::is_capturing;

/// Writes values over others on the GPU, at `address`: in the stream's order, so that what was submitted before reads
/// those that were there.
///
/// The memory there must be large enough: nothing here can check it.
pub(super) fn overwrite<T: DeviceRepr>(device: &CudaDevice, address: u64, values: &[T]) -> Result<()> {
    if is_capturing() {
        bail!(
            "a captured step brings values to the GPU that its replays would not bring: they must be inputs"
        );
    }
    // SAFETY: as said above; the stream orders the write.
    let done = unsafe { result::memcpy_htod_async(address, values, device.cuda_stream().cu_stream()) };
    done.map_err(|error| explain(error, "bringing values to the GPU"))
}

/// Zeros in `count` values at `address`, in the stream's order.
///
/// The memory there must be large enough: nothing here can check it.
pub(super) fn clear(device: &CudaDevice, address: u64, count: usize) -> Result<()> {
    let (bytes, stream) = (count * size_of::<f32>(), device.cuda_stream());
    // SAFETY: as said above; the stream orders the write.
    let done = unsafe { result::memset_d8_async(address, 0, bytes, stream.cu_stream()) };
    done.map_err(|error| explain(error, "clearing memory"))
}

/// As [`Gpu::tensor`].
pub(super) fn tensor_on(device: &CudaDevice, count: usize) -> Result<(Tensor, u64)> {
    let (stream, count) = (device.cuda_stream(), count.max(1));
    // SAFETY: the caller writes all values before the tensor is read.
    let slice = unsafe { stream.alloc::<f32>(count) };
    let slice = slice.map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => out_of_memory(&stream, count * size_of::<f32>()),
        _ => explain(error, "taking memory for a tensor"),
    })?;
    let address = slice.device_ptr(&stream).0;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok((Tensor::from_storage(storage, count, BackpropOp::none(), false), address))
}

/// A number that can be brought to a GPU as it is.
pub trait Number: WithDType + CudaDType + DeviceRepr {}

impl<T: WithDType + CudaDType + DeviceRepr> Number for T {}

/// A tensor of these values, brought past candle's cache of uploads.
pub(crate) fn brought<T: Number>(device: &CudaDevice, values: &[T], shape: Shape) -> Result<Tensor> {
    if is_capturing() {
        bail!(
            "a captured step brings values to the GPU that its replays would not bring: they must be inputs"
        );
    }
    if values.len() != shape.elem_count() {
        bail!("{} values for a tensor of {shape:?}; pass {}", values.len(), shape.elem_count());
    }
    let slice = device.cuda_stream().clone_htod(values);
    let slice = slice.map_err(|error| explain(error, "bringing values to the GPU"))?;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// Where a tensor lies on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the memory begins that it is a part of.
    pub(super) base: u64,
    pub(super) address: u64,
    pub(super) bytes: usize,
}

/// The place of a tensor in row-major order.
///
/// # Errors
/// If it is not in that order, not on this GPU, or neither `f32`, `f64` nor `u32`.
pub(super) fn place_on(device: &CudaDevice, tensor: &Tensor) -> Result<Place> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(cuda) = &*storage else { bail!("a tensor of a step's state is not on the GPU") };
    if cuda.device().id() != device.id() || !layout.is_contiguous() {
        bail!("a tensor of a step's state is on another GPU or not in order: {:?}", tensor.dims());
    }
    let stream = device.cuda_stream();
    let base = match tensor.dtype() {
        DType::F32 => cuda.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        DType::F64 => cuda.as_cuda_slice::<f64>()?.device_ptr(&stream).0,
        DType::U32 => cuda.as_cuda_slice::<u32>()?.device_ptr(&stream).0,
        other => bail!("a step takes and leaves f32, f64 and u32, not {other:?}"),
    };
    let size = tensor.dtype().size_in_bytes();
    let address = base + (layout.start_offset() * size) as u64;
    Ok(Place { base, address, bytes: tensor.elem_count() * size })
}

/// Copies `bytes` bytes on the GPU, in the stream's order.
///
/// Both places must be large enough: nothing here can check it.
pub(super) fn copy(device: &CudaDevice, from: u64, to: u64, bytes: usize) -> Result<()> {
    // SAFETY: as said above; the stream orders the copy.
    let done = unsafe { result::memcpy_dtod_async(to, from, bytes, device.cuda_stream().cu_stream()) };
    done.map_err(|error| explain(error, "copying values on the GPU"))
}

/// A tensor of `count` values of that type, whatever they are.
pub(super) fn unwritten(device: &CudaDevice, dtype: DType, count: usize) -> Result<Tensor> {
    fn of<T: Number>(device: &CudaDevice, count: usize) -> Result<Tensor> {
        let stream = device.cuda_stream();
        // SAFETY: the caller writes all values before the tensor is read.
        let slice = unsafe { stream.alloc::<T>(count.max(1)) };
        let slice = slice.map_err(|error| explain(error, "taking memory for a step"))?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
        Ok(Tensor::from_storage(storage, count.max(1), BackpropOp::none(), false))
    }
    match dtype {
        DType::F32 => of::<f32>(device, count),
        DType::F64 => of::<f64>(device, count),
        DType::U32 => of::<u32>(device, count),
        other => bail!("a step takes and leaves f32, f64 and u32, not {other:?}"),
    }
}

/// As [`Gpu::address`].
pub(super) fn address_on(
    device: &CudaDevice,
    tensor: &Tensor,
    what: &str,
    dims: &[usize],
) -> Result<(Tensor, u64)> {
    if tensor.dims() != dims {
        bail!("{what} has shape {:?}, not {dims:?}", tensor.dims());
    }
    if tensor.dtype() != DType::F32 {
        bail!("{what} is {:?}; the CUDA executor takes f32 only", tensor.dtype());
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(cuda) = &*storage else { bail!("{what} is not on the GPU") };
    if cuda.device().id() != device.id() {
        bail!("{what} is on another GPU, or was made through another handle of this one");
    }
    let start = cuda.as_cuda_slice::<f32>()?.device_ptr(&device.cuda_stream()).0;
    let address = start + (layout.start_offset() * size_of::<f32>()) as u64;
    drop(storage);
    Ok((tensor, address))
}
