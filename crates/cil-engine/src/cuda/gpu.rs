//! One GPU: its stream, kernels, memory and cuDNN, shared by all executors of a run.
//!
//! There is one stream, and all work of the process on this GPU goes to it. So nothing waits for anything but its place
//! in that order, no events are kept, and the host waits only where it reads a value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, result, sys,
};
use candle_core::{DType, Device, Result, Tensor, bail};

use super::aside::Branch;
use super::convolution::{Library, Refusals};
use super::driver::{driver_version, explain, give_back_freed_memory, keep_freed_memory, out_of_memory};
use super::launch::{Argument, Grid, THREADS};
use super::libraries::{Blas, Versions};
use super::memory::{Buffer, Pool, is_capturing};
use super::tensors::{Place, address_on, place_on, tensor_on, unwritten};

const PTX: [&str; 2] = [
    include_str!(concat!(env!("OUT_DIR"), "/kernels_f32.ptx")),
    include_str!(concat!(env!("OUT_DIR"), "/kernels_bf16.ptx")),
];

/// How a value lies in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Element {
    /// Four bytes.
    F32,
    /// Two bytes.
    Bf16,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

struct Inner {
    /// These go first: they are bound to the stream.
    library: Library,
    blas: Blas,
    branch: Branch,
    functions: Mutex<HashMap<(Element, &'static str), CudaFunction>>,
    pool: Arc<Pool>,
    stream: Arc<CudaStream>,
    device: CudaDevice,
    /// Whether memory was asked for that is not there.
    starved: AtomicBool,
}

impl Drop for Inner {
    /// Waits until the GPU has done all work. Where several processes share it through MPS, one that ends before its
    /// work is done makes the others fail.
    fn drop(&mut self) {
        // An error has no receiver here; results that had to be read were read, with errors of their own.
        let _ = self.stream.synchronize();
    }
}

/// An NVIDIA GPU; a clone is the same one.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    captures: bool,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Gpu").field(&self.inner.device).finish()
    }
}

impl Gpu {
    /// The GPUs that this machine has and the driver offers.
    ///
    /// # Errors
    /// If there is no driver, or one older than this program was built for.
    pub fn count() -> Result<usize> {
        driver_version()?;
        let count = CudaContext::device_count().map_err(|error| explain(error, "counting the GPUs"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Opens GPU number `ordinal`, counted from 0.
    ///
    /// # Errors
    /// If there is no driver or no such GPU, or a library that is needed does not fit the driver.
    pub fn open(ordinal: usize) -> Result<Self> {
        let count = Self::count()?;
        if ordinal >= count {
            bail!("there is no GPU {ordinal}: the driver offers {count}, counted from 0");
        }
        let device = CudaDevice::new_with_stream(ordinal)?;
        let stream = device.cuda_stream();
        // SAFETY: all work on this device goes to `stream`, in order.
        unsafe { device.disable_event_tracking() };
        keep_freed_memory(ordinal).map_err(|error| explain(error, "setting up the memory pool"))?;
        let branch = Branch::new(&stream)?;
        let (library, blas) = (Library::new(&stream, branch.stream())?, Blas::new(&device)?);
        let pool = Pool::new(stream.clone());
        let (functions, starved) = (Mutex::default(), AtomicBool::new(false));
        let inner = Arc::new(Inner { library, blas, branch, functions, pool, stream, device, starved });
        Ok(Self { inner, captures: true })
    }

    /// The same GPU, whose steps are all submitted kernel by kernel: nothing is captured as a CUDA graph.
    #[must_use]
    pub fn without_captures(self) -> Self {
        Self { captures: false, ..self }
    }

    /// Whether steps may be captured as CUDA graphs.
    pub(super) fn captures(&self) -> bool {
        self.captures
    }

    /// Where candle's tensors live; every tensor that meets this GPU's executors is made on it.
    pub fn device(&self) -> Device {
        Device::Cuda(self.inner.device.clone())
    }

    /// The GPU's name, such as `NVIDIA H200`.
    ///
    /// # Errors
    /// If the driver does not report it.
    pub fn name(&self) -> Result<String> {
        self.inner.stream.context().name().map_err(|error| explain(error, "asking for the GPU's name"))
    }

    /// What distinguishes the GPU from all others, on any machine.
    ///
    /// # Errors
    /// If the driver does not report it.
    pub fn uuid(&self) -> Result<[u8; 16]> {
        let answer = self.inner.stream.context().uuid();
        let uuid = answer.map_err(|error| explain(error, "asking for the GPU's identity"))?;
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    /// Versions of the GPU and NVIDIA's libraries.
    ///
    /// # Errors
    /// If one of them does not report it.
    pub fn versions(&self) -> Result<Versions> {
        Versions::of(&self.inner.stream, &self.inner.blas)
    }

    /// The calls that cuDNN has refused so far; other calls computed the same result.
    pub fn refusals(&self) -> Refusals {
        self.inner.library.refusals()
    }

    /// Gives memory that no pass holds back to the driver.
    pub fn release(&self) {
        self.inner.pool.clear();
    }

    pub(super) fn library(&self) -> &Library {
        &self.inner.library
    }

    /// Makes this thread one that may submit work.
    pub(super) fn bind(&self) -> Result<()> {
        self.inner
            .stream
            .context()
            .bind_to_thread()
            .map_err(|error| explain(error, "binding the GPU to a thread"))
    }

    /// Memory for `bytes` bytes, whatever they hold.
    pub(super) fn take(&self, bytes: usize) -> Result<Buffer> {
        let mut taken = self.inner.pool.take(bytes);
        if taken.is_err() && !is_capturing() {
            // Idle buffers of other sizes may be enough.
            self.inner.pool.clear();
            taken = self.inner.pool.take(bytes);
        }
        taken.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                self.inner.starved.store(true, Ordering::Relaxed);
                out_of_memory(&self.inner.stream, bytes)
            }
            _ => explain(error, "taking memory"),
        })
    }

    /// Where a pass asked for memory that is not there: the bytes that are free once nothing of it is held. Once for
    /// each time.
    pub(super) fn free_after_oom(&self) -> Option<usize> {
        if is_capturing() || !self.inner.starved.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.inner.pool.clear();
        give_back_freed_memory(&self.inner.stream).ok()?;
        self.free_memory().ok()
    }

    /// Lets what is given to the further stream from here on wait for all before it.
    pub(super) fn leave(&self) -> Result<()> {
        self.inner.branch.leave(&self.inner.stream)
    }

    /// Lets all from here on wait for what was given to the further stream.
    pub(super) fn meet(&self) -> Result<()> {
        self.inner.branch.meet(&self.inner.stream)
    }

    /// Zeros in the first `bytes` bytes.
    pub(super) fn zero(&self, buffer: &Buffer, bytes: usize) -> Result<()> {
        let stream = self.inner.stream.cu_stream();
        assert!(bytes <= buffer.size(), "only what is on loan");
        // SAFETY: the range lies in the buffer, and the stream orders the write.
        let done = unsafe { result::memset_d8_async(buffer.address(), 0, bytes, stream) };
        done.map_err(|error| explain(error, "clearing memory"))
    }

    /// Brings values to the beginning of a buffer. They are copied before this returns, and nothing is waited for: what
    /// lies in pageable memory goes through the driver's own.
    pub(super) fn upload<T: DeviceRepr>(&self, buffer: &Buffer, values: &[T]) -> Result<()> {
        let stream = self.inner.stream.cu_stream();
        assert!(size_of_val(values) <= buffer.size(), "only what is on loan");
        // SAFETY: the range lies in the buffer, and the stream orders the write.
        let done = unsafe { result::memcpy_htod_async(buffer.address(), values, stream) };
        done.map_err(|error| explain(error, "bringing values to the GPU"))
    }

    /// Free bytes of memory.
    ///
    /// # Errors
    /// If the driver does not report it.
    pub fn free_memory(&self) -> Result<usize> {
        self.bind()?;
        let info = self.inner.stream.context().mem_get_info();
        info.map(|(free, _)| free).map_err(|error| explain(error, "asking for free memory"))
    }

    /// Runs a kernel of `kernels.cu`; see [`launch_on`].
    pub(super) fn launch(
        &self,
        element: Element,
        name: &'static str,
        grid: Grid,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        let mut functions = self.inner.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.entry((element, name)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(function(&self.inner.device, element, name)?),
        };
        submit(&self.inner.stream, function, name, grid, arguments)
    }

    /// A tensor of `count` values that a kernel will write, and where they lie.
    pub(super) fn tensor(&self, count: usize) -> Result<(Tensor, u64)> {
        tensor_on(&self.inner.device, count)
    }

    /// As [`Self::tensor`], in `f64`.
    pub(super) fn doubles(&self, count: usize) -> Result<(Tensor, u64)> {
        let tensor = self.unwritten(DType::F64, count)?;
        let address = self.place(&tensor)?.address;
        Ok((tensor, address))
    }

    /// As [`unwritten`].
    pub(super) fn unwritten(&self, dtype: DType, count: usize) -> Result<Tensor> {
        unwritten(&self.inner.device, dtype, count)
    }

    /// The stream of all work.
    pub(super) fn stream(&self) -> sys::CUstream {
        self.inner.stream.cu_stream()
    }

    /// As [`place_on`].
    pub(super) fn place(&self, tensor: &Tensor) -> Result<Place> {
        place_on(&self.inner.device, tensor)
    }

    /// Where a tensor's values lie, in row-major order; the tensor that comes back holds them.
    ///
    /// # Errors
    /// If the tensor is not in `f32`, has other dimensions, or is not on this GPU.
    pub(super) fn address(&self, tensor: &Tensor, what: &str, dims: &[usize]) -> Result<(Tensor, u64)> {
        address_on(&self.inner.device, tensor, what, dims)
    }
}

/// Runs a kernel of `kernels.cu`.
///
/// The arguments must be those of the kernel, and addresses must be of memory that is large enough: nothing here can
/// check it.
pub(super) fn launch_on(
    device: &CudaDevice,
    element: Element,
    name: &'static str,
    grid: Grid,
    arguments: &[Argument<'_>],
) -> Result<()> {
    submit(&device.cuda_stream(), &function(device, element, name)?, name, grid, arguments)
}

fn function(device: &CudaDevice, element: Element, name: &str) -> Result<CudaFunction> {
    let (module, ptx, suffix) = match element {
        Element::F32 => ("cil_engine_f32", PTX[0], "f32"),
        Element::Bf16 => ("cil_engine_bf16", PTX[1], "bf16"),
    };
    Ok(device.get_or_load_custom_func(&format!("{name}_{suffix}"), module, ptx)?.into_cuda_function())
}

fn submit(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    name: &str,
    grid: Grid,
    arguments: &[Argument<'_>],
) -> Result<()> {
    let mut builder = stream.launch_builder(function);
    for argument in arguments {
        match argument {
            Argument::Address(it) => builder.arg(it),
            Argument::Int(it) => builder.arg(it),
            Argument::Float(it) => builder.arg(it),
            Argument::Double(it) => builder.arg(it),
            Argument::Map(it) => builder.arg(it),
            Argument::Sums(it) => builder.arg(it),
            Argument::Window(it) => builder.arg(it),
            Argument::Colours(it) => builder.arg(it),
            Argument::Tensors(it) => builder.arg(*it),
            Argument::Moves(it) => builder.arg(*it),
            Argument::Folds(it) => builder.arg(*it),
        };
    }
    let config =
        LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: see `launch_on`; the tests run every kernel against the reference.
    unsafe { builder.launch(config) }.map_err(|error| explain(error, name))?;
    Ok(())
}
