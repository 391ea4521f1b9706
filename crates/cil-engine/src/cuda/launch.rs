//! The arguments of kernels: the structures of `kernels.cu`, field for field.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{Result, bail};

use super::images::Colours;
use super::memory::Buffer;
use crate::graph::Shape;

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Blocks that a kernel over single values gets at most; each thread then takes several.
const BLOCKS: usize = 4096;
/// Tensors of one [`Tensors`].
pub(super) const MANY: usize = 48;
/// Convolutions of one [`Folds`].
pub(super) const FOLDS: usize = 32;
/// Tensors of one [`Moves`].
pub(super) const MOVES: usize = 32;

/// Blocks in two directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid(pub(super) u32, pub(super) u32);

impl Grid {
    /// A block for each channel.
    pub(super) fn channels(map: Map) -> Self {
        Self(map.channels as u32, 1)
    }

    /// A thread for each of `count` values, or for several.
    pub(super) fn over(count: usize) -> Self {
        Self(count.div_ceil(THREADS as usize).clamp(1, BLOCKS) as u32, 1)
    }
}

/// A map's dimensions but for its rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Map {
    pub(super) channels: i32,
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) last: i32,
}

impl Map {
    /// The dimensions of a node; a vector is a map of one pixel.
    pub(super) fn new(shape: Shape, last: bool) -> Self {
        let (channels, height, width) = match shape {
            Shape::Map { channels, height, width } => (channels, height, width),
            Shape::Vector { width } => (width, 1, 1),
        };
        Self { channels: channels as i32, height: height as i32, width: width as i32, last: i32::from(last) }
    }

    pub(super) fn positions(self) -> usize {
        (self.height * self.width) as usize
    }

    /// Values of one row.
    pub(super) fn elements(self) -> usize {
        self.channels as usize * self.positions()
    }

    /// Values of `rows` rows.
    ///
    /// # Errors
    /// If a kernel could not count them.
    pub(super) fn count(self, rows: usize) -> Result<usize> {
        let count = rows * self.elements();
        if i32::try_from(count).is_err() {
            bail!("a map of {rows} rows of {} values is too large for the CUDA executor", self.elements());
        }
        Ok(count)
    }
}

/// How sums over rows and pixels are cut.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub(super) rows: i32,
    pub(super) chunks: i32,
    pub(super) span: i32,
    pub(super) lanes: i32,
}

impl Sums {
    /// Values that a thread adds at least.
    const VALUES: usize = 8;
    /// Chunks at most.
    const CHUNKS: usize = 512;

    /// The cut for `rows` rows of a map: a function of its size alone, so that sums do not depend on the GPU.
    pub(super) fn new(map: Map, rows: usize) -> Self {
        let count = (rows * map.positions()).max(1);
        let lanes = if map.last == 1 { (map.channels as usize).next_power_of_two().min(32) } else { 1 };
        let span = (Self::VALUES * THREADS as usize / lanes).max(count.div_ceil(Self::CHUNKS));
        let chunks = count.div_ceil(span);
        Self { rows: rows as i32, chunks: chunks as i32, span: span as i32, lanes: lanes as i32 }
    }

    pub(super) fn grid(self, map: Map) -> Grid {
        Grid((map.channels as u32).div_ceil(self.lanes as u32), self.chunks as u32)
    }

    /// Bytes of what the chunks give.
    pub(super) fn bytes(self, map: Map) -> usize {
        2 * self.chunks as usize * map.channels as usize * size_of::<f32>()
    }
}

/// A pooling window.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) stride: i32,
    pub(super) padding: i32,
}

impl Window {
    pub(super) fn square(side: usize, stride: usize, padding: usize) -> Self {
        Self { height: side as i32, width: side as i32, stride: stride as i32, padding: padding as i32 }
    }
}

/// Weights of several convolutions.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensors {
    pub(super) plain: [u64; MANY],
    pub(super) packed: [u64; MANY],
    pub(super) channels: [i32; MANY],
    pub(super) side: [i32; MANY],
    pub(super) count: [i32; MANY],
    pub(super) last: i32,
}

/// Convolutions and the batch norms behind them, that are to be one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folds {
    pub(super) weight: [u64; FOLDS],
    pub(super) bias: [u64; FOLDS],
    pub(super) scale: [u64; FOLDS],
    pub(super) shift: [u64; FOLDS],
    pub(super) mean: [u64; FOLDS],
    pub(super) variance: [u64; FOLDS],
    pub(super) to_weight: [u64; FOLDS],
    pub(super) to_bias: [u64; FOLDS],
    pub(super) channels: [i32; FOLDS],
    pub(super) side: [i32; FOLDS],
    pub(super) count: [i32; FOLDS],
    pub(super) epsilon: [f32; FOLDS],
    pub(super) last: i32,
}

/// Parameters that one optimiser step moves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    pub(super) value: [u64; MOVES],
    pub(super) gradient: [u64; MOVES],
    pub(super) first: [u64; MOVES],
    pub(super) second: [u64; MOVES],
    pub(super) new_value: [u64; MOVES],
    pub(super) new_first: [u64; MOVES],
    pub(super) new_second: [u64; MOVES],
    pub(super) count: [i32; MOVES],
    pub(super) decay: [f32; MOVES],
    pub(super) pace: [i32; MOVES],
}

// SAFETY: plain C structures of numbers, the same as in kernels.cu.
unsafe impl DeviceRepr for Map {}
// SAFETY: as above.
unsafe impl DeviceRepr for Sums {}
// SAFETY: as above.
unsafe impl DeviceRepr for Window {}
// SAFETY: as above.
unsafe impl DeviceRepr for Tensors {}
// SAFETY: as above.
unsafe impl DeviceRepr for Moves {}
// SAFETY: as above.
unsafe impl DeviceRepr for Folds {}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Address(u64),
    Int(i32),
    Float(f32),
    Double(f64),
    Map(Map),
    Sums(Sums),
    Window(Window),
    Colours(Colours),
    Tensors(&'a Tensors),
    Moves(&'a Moves),
    Folds(&'a Folds),
}

macro_rules! argument {
    ($($from:ty => $name:ident),*) => {
        $(impl From<$from> for Argument<'_> {
            fn from(it: $from) -> Self {
                Self::$name(it)
            }
        })*
    };
}

argument!(u64 => Address, i32 => Int, f32 => Float, f64 => Double, Map => Map, Sums => Sums, Window => Window, Colours => Colours);

impl From<bool> for Argument<'_> {
    fn from(it: bool) -> Self {
        Self::Int(i32::from(it))
    }
}

/// A count that [`Map::count`] allowed.
impl From<usize> for Argument<'_> {
    fn from(it: usize) -> Self {
        Self::Int(it as i32)
    }
}

impl From<&Buffer> for Argument<'_> {
    fn from(it: &Buffer) -> Self {
        Self::Address(it.address())
    }
}

/// An address, or 0.
impl From<Option<&Buffer>> for Argument<'_> {
    fn from(it: Option<&Buffer>) -> Self {
        Self::Address(it.map_or(0, Buffer::address))
    }
}

impl<'a> From<&'a Tensors> for Argument<'a> {
    fn from(it: &'a Tensors) -> Self {
        Self::Tensors(it)
    }
}

impl<'a> From<&'a Moves> for Argument<'a> {
    fn from(it: &'a Moves) -> Self {
        Self::Moves(it)
    }
}

impl<'a> From<&'a Folds> for Argument<'a> {
    fn from(it: &'a Folds) -> Self {
        Self::Folds(it)
    }
}

/// Arguments of a kernel, in its order.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        &[$($crate::cuda::launch::Argument::from($value)),*]
    };
}
pub(super) use arguments;
