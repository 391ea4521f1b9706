//! Convolutions by cuDNN: descriptors and algorithms, chosen once per shape.
//!
//! Only algorithms that give the same bits every time are taken (`choice`), and a shape that cuDNN refuses is tried
//! once and then computed another way. A linear layer is a convolution of maps of one pixel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{Error, Result};

use super::Precision;
use super::aside::Lent;
use super::gpu::Gpu;
use super::launch::Map;

mod choice;
mod joined;

use choice::{Algorithm, Choice, is_unavailable};
pub(super) use joined::Tail;

/// The properties in which equal convolutions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub(super) precision: Precision,
    pub(super) rows: usize,
    pub(super) from: Map,
    pub(super) to: Map,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Descriptors of one geometry.
#[derive(Clone, Copy)]
struct Described {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

/// A geometry's descriptors, and the algorithms of each product that was asked for.
struct Prepared {
    of: Described,
    forward: Option<Choice<sys::cudnnConvolutionFwdAlgo_t>>,
    data: Option<Choice<sys::cudnnConvolutionBwdDataAlgo_t>>,
    filter: Option<Choice<sys::cudnnConvolutionBwdFilterAlgo_t>>,
    /// Whether a gradient of the input can be added to what is there.
    adds: Option<bool>,
    /// Of a bias by channel, and whether there is a joined call for each kind of [`Tail`].
    bias: Option<sys::cudnnTensorDescriptor_t>,
    joined: [Option<bool>; 4],
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: made in `describe`, destroyed here only. A failure would leak a few bytes and is nobody's to handle.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.of.x);
            let _ = result::destroy_tensor_descriptor(self.of.y);
            let _ = result::destroy_filter_descriptor(self.of.weight);
            let _ = result::destroy_convolution_descriptor(self.of.convolution);
            if let Some(bias) = self.bias {
                let _ = result::destroy_tensor_descriptor(bias);
            }
        }
    }
}

/// Calls that cuDNN refused, each counted once for a shape; other calls computed the same result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Convolutions joined with what follows them.
    pub joined: usize,
    /// Algorithms that it had offered.
    pub algorithms: usize,
    /// Gradients added to what is there.
    pub additions: usize,
}

struct State {
    handle: sys::cudnnHandle_t,
    /// Bound to the further stream.
    aside: sys::cudnnHandle_t,
    activations: joined::Activations,
    prepared: HashMap<Geometry, Prepared>,
    refusals: Refusals,
}

/// The prepared calls of a geometry, created if it is new.
fn prepared(all: &mut HashMap<Geometry, Prepared>, it: Geometry) -> Result<&mut Prepared> {
    Ok(match all.entry(it) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let of = describe(it).map_err(|error| explain(error, &format!("describing {it:?}")))?;
            new.insert(Prepared {
                of,
                forward: None,
                data: None,
                filter: None,
                adds: None,
                bias: None,
                joined: [None; 4],
            })
        }
    })
}

/// The algorithms of a product, asked for if that was not done yet.
fn choice<A: Algorithm>(
    known: &mut Option<Choice<A>>,
    handle: sys::cudnnHandle_t,
    of: Described,
    product: Product,
    it: Geometry,
) -> Result<&mut Choice<A>> {
    Ok(match known {
        Some(known) => known,
        None => known.insert(Choice::new(handle, of, it.precision).map_err(|why| {
            Error::Msg(format!("cuDNN, choosing an algorithm for {product:?} of {it:?}: {why}"))
        })?),
    })
}

// SAFETY: the handle and the descriptors are used by one thread at a time, behind a lock.
unsafe impl Send for State {}

impl Drop for State {
    fn drop(&mut self) {
        self.prepared.clear();
        // SAFETY: made in `Library::new`, destroyed here only.
        unsafe {
            let _ = result::destroy_handle(self.handle);
            let _ = result::destroy_handle(self.aside);
        }
    }
}

/// cuDNN, bound to the GPU's stream.
pub(super) struct Library(Mutex<State>);

/// Which of a convolution's three products is computed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Product {
    /// `x`, `weight` to `y`.
    Forward,
    /// `y`, `weight` to `x`.
    Data,
    /// `x`, `y` to `weight`.
    Filter,
}

/// Where a convolution's operands lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    pub(super) x: u64,
    pub(super) weight: u64,
    pub(super) y: u64,
}

impl Library {
    /// `aside`: a further stream, for what is beside the rest of a captured step.
    pub(super) fn new(stream: &Arc<CudaStream>, aside: &Arc<CudaStream>) -> Result<Self> {
        let bound = |stream: &CudaStream| {
            let handle = result::create_handle().map_err(|error| explain(error, "being started"))?;
            // SAFETY: both live as long as this; cuDNN's stream type is the driver's under another name.
            let bound = unsafe { result::set_stream(handle, stream.cu_stream().cast()) };
            bound.map_err(|error| explain(error, "taking the stream"))?;
            Ok::<_, Error>(handle)
        };
        let (handle, aside) = (bound(stream)?, bound(aside)?);
        let activations =
            joined::Activations::new().map_err(|error| explain(error, "describing activations"))?;
        Ok(Self(Mutex::new(State {
            handle,
            aside,
            activations,
            prepared: HashMap::new(),
            refusals: Refusals::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusals so far.
    pub(super) fn refusals(&self) -> Refusals {
        self.lock().refusals
    }

    /// Computes one product.
    ///
    /// # Errors
    /// If cuDNN has no reproducible algorithm for the shape, or there is no memory for its workspace.
    pub(super) fn run(&self, gpu: &Gpu, it: Geometry, product: Product, at: Operands) -> Result<()> {
        let done = self.compute(gpu, it, product, at, false, None)?;
        done.map_err(|error| explain(error, &format!("computing {product:?} of {it:?}")))
    }

    /// As [`Self::run`] for the gradient of a weight, on the further stream: its operands must stay until both meet.
    pub(super) fn run_aside(&self, gpu: &Gpu, it: Geometry, at: Operands, lent: &mut Lent) -> Result<()> {
        let done = self.compute(gpu, it, Product::Filter, at, false, Some(lent))?;
        done.map_err(|error| explain(error, &format!("computing {:?} of {it:?}", Product::Filter)))
    }

    /// Adds the gradient of the input to what is at `at.x`; `false`, and nothing, where cuDNN does not add for the
    /// shape.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) fn add_data(&self, gpu: &Gpu, it: Geometry, at: Operands) -> Result<bool> {
        let known = prepared(&mut self.lock().prepared, it)?.adds;
        if known == Some(false) {
            return Ok(false);
        }
        let done = self.compute(gpu, it, Product::Data, at, true, None)?;
        let mut state = self.lock();
        match done {
            Ok(()) => prepared(&mut state.prepared, it)?.adds = Some(true),
            Err(error) if known.is_none() && is_unavailable(error) => {
                state.refusals.additions += 1;
                prepared(&mut state.prepared, it)?.adds = Some(false);
                return Ok(false);
            }
            Err(error) => return Err(explain(error, &format!("adding {:?} of {it:?}", Product::Data))),
        }
        Ok(true)
    }

    fn compute(
        &self,
        gpu: &Gpu,
        it: Geometry,
        product: Product,
        at: Operands,
        add: bool,
        mut lent: Option<&mut Lent>,
    ) -> Result<std::result::Result<(), CudnnError>> {
        let mut state = self.lock();
        let State { handle, aside, prepared: all, refusals, .. } = &mut *state;
        let (handle, aside, known) = (*handle, *aside, prepared(all, it)?);
        let of = known.of;
        let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
        let (alpha, beta): (*const f32, *const f32) = (&raw const alpha, &raw const beta);
        let (alpha, beta): (*const c_void, *const c_void) = (alpha.cast(), beta.cast());
        let pointer = |address: u64| address as *mut c_void;
        let (x, weight, y) = (pointer(at.x), pointer(at.weight), pointer(at.y));
        let refused = &mut refusals.algorithms;
        // The workspace is returned at once: the stream orders who uses it.
        match product {
            Product::Forward => {
                let choice = choice(&mut known.forward, handle, of, product, it)?;
                choice.compute(refused, |algorithm, bytes| {
                    let work = pointer(gpu.take(bytes)?.address());
                    // SAFETY: the descriptors are of the shapes whose memory the executor gives, all on this GPU.
                    Ok(unsafe {
                        result::convolution_forward(
                            handle,
                            alpha,
                            of.x,
                            x,
                            of.weight,
                            weight,
                            of.convolution,
                            algorithm,
                            work,
                            bytes,
                            beta,
                            of.y,
                            y,
                        )
                    })
                })
            }
            Product::Data => {
                let choice = choice(&mut known.data, handle, of, product, it)?;
                let by = |algorithm, bytes| {
                    let work = pointer(gpu.take(bytes)?.address());
                    // SAFETY: as above.
                    Ok(unsafe {
                        result::convolution_backward_data(
                            handle,
                            alpha,
                            of.weight,
                            weight,
                            of.y,
                            y,
                            of.convolution,
                            algorithm,
                            work,
                            bytes,
                            beta,
                            of.x,
                            x,
                        )
                    })
                };
                if add { choice.compute_if_any(refused, by) } else { choice.compute(refused, by) }
            }
            Product::Filter => {
                let choice = choice(&mut known.filter, handle, of, product, it)?;
                let handle = if lent.is_some() { aside } else { handle };
                choice.compute(refused, |algorithm, bytes| {
                    let work = match &mut lent {
                        Some(lent) => {
                            let work = pointer(lent.room(bytes, || gpu.take(bytes))?);
                            gpu.leave()?;
                            work
                        }
                        None => pointer(gpu.take(bytes)?.address()),
                    };
                    // SAFETY: as above; what is worked in on the further stream stays on loan until both meet.
                    Ok(unsafe {
                        result::convolution_backward_filter(
                            handle,
                            alpha,
                            of.x,
                            x,
                            of.y,
                            y,
                            of.convolution,
                            algorithm,
                            work,
                            bytes,
                            beta,
                            of.weight,
                            weight,
                        )
                    })
                })
            }
        }
    }
}

/// Order and type of values, and how they are multiplied.
fn values_of(it: Geometry) -> (sys::cudnnTensorFormat_t, sys::cudnnDataType_t, sys::cudnnMathType_t) {
    use sys::cudnnMathType_t as Math;
    let format = match it.from.last {
        0 => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        _ => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
    };
    let (values, math) = match it.precision {
        Precision::Exact => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, Math::CUDNN_FMA_MATH),
        // As PyTorch asks for it: since Ampere the default rounds operands of f32 to TF32.
        Precision::Tf32 => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, Math::CUDNN_DEFAULT_MATH),
        Precision::Bf16 => (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, Math::CUDNN_TENSOR_OP_MATH),
    };
    (format, values, math)
}

fn describe(it: Geometry) -> std::result::Result<Described, CudnnError> {
    let (format, values, math) = values_of(it);
    let (rows, kernel) = (it.rows as i32, it.kernel as i32);
    let (stride, padding) = (it.stride as i32, it.padding as i32);
    let dims = |map: Map| [rows, map.channels, map.height, map.width];
    let of = Described {
        x: result::create_tensor_descriptor()?,
        y: result::create_tensor_descriptor()?,
        weight: result::create_filter_descriptor()?,
        convolution: result::create_convolution_descriptor()?,
    };
    let correlation = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let single = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    // SAFETY: the descriptors were just made. Sums are in f32 whatever the values are.
    unsafe {
        result::set_tensor4d_descriptor(of.x, format, values, dims(it.from))?;
        result::set_tensor4d_descriptor(of.y, format, values, dims(it.to))?;
        let weight = [it.to.channels, it.from.channels, kernel, kernel];
        result::set_filter4d_descriptor(of.weight, values, format, weight)?;
        result::set_convolution2d_descriptor(
            of.convolution,
            padding,
            padding,
            stride,
            stride,
            1,
            1,
            correlation,
            single,
        )?;
        result::set_convolution_math_type(of.convolution, math)?;
    }
    Ok(of)
}

fn explain(error: CudnnError, doing: &str) -> Error {
    Error::Msg(format!("cuDNN, {doing}: {error:?}"))
}
