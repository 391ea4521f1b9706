//! Convolutions by cuDNN: descriptors and algorithms, chosen once per shape.
//!
//! One decision: only algorithms that give the same bits every time are taken. A linear layer is a convolution of maps
//! of one pixel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{Error, Result};

use super::Precision;
use super::gpu::Gpu;
use super::launch::Map;

mod joined;

pub(super) use joined::Tail;

/// What makes two convolutions alike.
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

/// A geometry's descriptors, and the algorithm and bytes of workspace of each product that was asked for.
struct Prepared {
    of: Described,
    forward: Option<(sys::cudnnConvolutionFwdAlgo_t, usize)>,
    data: Option<(sys::cudnnConvolutionBwdDataAlgo_t, usize)>,
    filter: Option<(sys::cudnnConvolutionBwdFilterAlgo_t, usize)>,
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

/// Bytes that an algorithm may work in.
const WORKSPACE: usize = 1 << 30;
/// Algorithms that cuDNN can be asked for at once; there are at most eight.
const ASKED: usize = 8;

/// The first algorithm, by cuDNN's own order, that gives the same bits every time in a bounded workspace.
macro_rules! choose {
    ($found:ident, $algorithms:ident, $workspace:ident, ($($argument:ident),*)) => {{
        let mut found = [MaybeUninit::<sys::$found>::uninit(); ASKED];
        let mut count = 0;
        // SAFETY: there is room for `ASKED` entries, of which the first `count` are written.
        let found = unsafe {
            result::$algorithms($($argument),*, ASKED as i32, &raw mut count, found.as_mut_ptr().cast())?;
            let count = usize::try_from(count).unwrap_or(0).min(ASKED);
            std::slice::from_raw_parts(found.as_ptr().cast::<sys::$found>(), count)
        };
        let suits = |it: &&sys::$found| {
            it.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && it.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                && it.memory <= WORKSPACE
        };
        match found.iter().find(suits) {
            // SAFETY: the descriptors live.
            Some(it) => Ok(Some((it.algo, unsafe { result::$workspace($($argument),*, it.algo)? }))),
            None => Ok(None),
        }
    }};
}

struct State {
    handle: sys::cudnnHandle_t,
    activations: joined::Activations,
    prepared: HashMap<Geometry, Prepared>,
}

impl State {
    fn prepared(&mut self, it: Geometry) -> Result<&mut Prepared> {
        Ok(match self.prepared.entry(it) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let of = describe(it).map_err(|error| explain(error, &format!("describing {it:?}")))?;
                new.insert(Prepared {
                    of,
                    forward: None,
                    data: None,
                    filter: None,
                    bias: None,
                    joined: [None; 4],
                })
            }
        })
    }

    /// The algorithm of the forward product, and its bytes of workspace.
    fn forward_algorithm(&mut self, it: Geometry) -> Result<(sys::cudnnConvolutionFwdAlgo_t, usize)> {
        let handle = self.handle;
        let prepared = self.prepared(it)?;
        let Described { x, y, weight, convolution } = prepared.of;
        chosen(&mut prepared.forward, || {
            choose!(
                cudnnConvolutionFwdAlgoPerf_t,
                get_convolution_forward_algorithm,
                get_convolution_forward_workspace_size,
                (handle, x, weight, convolution, y)
            )
        })
        .map_err(|why| refused(Product::Forward, it, &why))
    }
}

// SAFETY: the handle and the descriptors are used by one thread at a time, behind a lock.
unsafe impl Send for State {}

impl Drop for State {
    fn drop(&mut self) {
        self.prepared.clear();
        // SAFETY: made in `Library::new`, destroyed here only.
        let _ = unsafe { result::destroy_handle(self.handle) };
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
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let handle = result::create_handle().map_err(|error| explain(error, "being started"))?;
        // SAFETY: both live as long as this; cuDNN's stream type is the driver's under another name.
        let bound = unsafe { result::set_stream(handle, stream.cu_stream().cast()) };
        bound.map_err(|error| explain(error, "taking the stream"))?;
        let activations =
            joined::Activations::new().map_err(|error| explain(error, "describing activations"))?;
        Ok(Self(Mutex::new(State { handle, activations, prepared: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes one product; adds to the result if `add`.
    ///
    /// # Errors
    /// If cuDNN has no reproducible algorithm for the shape, or there is no memory for its workspace.
    pub(super) fn run(
        &self,
        gpu: &Gpu,
        it: Geometry,
        product: Product,
        at: Operands,
        add: bool,
    ) -> Result<()> {
        let mut state = self.lock();
        let handle = state.handle;
        let Described { x, y, weight, convolution } = state.prepared(it)?.of;
        let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
        let (alpha, beta): (*const f32, *const f32) = (&raw const alpha, &raw const beta);
        let (alpha, beta): (*const c_void, *const c_void) = (alpha.cast(), beta.cast());
        let pointer = |address: u64| address as *mut c_void;
        let (at_x, at_weight, at_y) = (pointer(at.x), pointer(at.weight), pointer(at.y));
        // The workspace is handed back at once: the stream orders who uses it.
        let done = match product {
            Product::Forward => {
                let (algorithm, bytes) = state.forward_algorithm(it)?;
                let work = gpu.take(bytes)?;
                let work = pointer(work.address());
                // SAFETY: the descriptors are of the shapes whose memory the executor gives, all on this GPU.
                unsafe {
                    result::convolution_forward(
                        handle,
                        alpha,
                        x,
                        at_x,
                        weight,
                        at_weight,
                        convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        y,
                        at_y,
                    )
                }
            }
            Product::Data => {
                let (algorithm, bytes) = chosen(&mut state.prepared(it)?.data, || {
                    choose!(
                        cudnnConvolutionBwdDataAlgoPerf_t,
                        get_convolution_backward_data_algorithm,
                        get_convolution_backward_data_workspace_size,
                        (handle, weight, y, convolution, x)
                    )
                })
                .map_err(|why| refused(product, it, &why))?;
                let work = gpu.take(bytes)?;
                let work = pointer(work.address());
                // SAFETY: as above.
                unsafe {
                    result::convolution_backward_data(
                        handle,
                        alpha,
                        weight,
                        at_weight,
                        y,
                        at_y,
                        convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        x,
                        at_x,
                    )
                }
            }
            Product::Filter => {
                let (algorithm, bytes) = chosen(&mut state.prepared(it)?.filter, || {
                    choose!(
                        cudnnConvolutionBwdFilterAlgoPerf_t,
                        get_convolution_backward_filter_algorithm,
                        get_convolution_backward_filter_workspace_size,
                        (handle, x, y, convolution, weight)
                    )
                })
                .map_err(|why| refused(product, it, &why))?;
                let work = gpu.take(bytes)?;
                let work = pointer(work.address());
                // SAFETY: as above.
                unsafe {
                    result::convolution_backward_filter(
                        handle,
                        alpha,
                        x,
                        at_x,
                        y,
                        at_y,
                        convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        weight,
                        at_weight,
                    )
                }
            }
        };
        done.map_err(|error| explain(error, &format!("computing {product:?} of {it:?}")))
    }
}

/// What was chosen before, or now.
fn chosen<Algorithm: Copy>(
    known: &mut Option<(Algorithm, usize)>,
    choose: impl FnOnce() -> std::result::Result<Option<(Algorithm, usize)>, CudnnError>,
) -> std::result::Result<(Algorithm, usize), String> {
    if let Some(known) = known {
        return Ok(*known);
    }
    match choose() {
        Ok(Some(new)) => Ok(*known.insert(new)),
        Ok(None) => {
            Err("none of its algorithms gives the same bits every time in 1 GiB of workspace".to_owned())
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

fn refused(product: Product, it: Geometry, why: &str) -> Error {
    Error::Msg(format!("cuDNN, choosing an algorithm for {product:?} of {it:?}: {why}"))
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
        Precision::Tf32 => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, Math::CUDNN_TENSOR_OP_MATH),
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
