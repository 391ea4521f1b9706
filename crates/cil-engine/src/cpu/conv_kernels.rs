//! The inner loops of convolutions: a list of taps over blocked maps.
//!
//! A tap is an offset into the input and a tile of weights. The same kernel serves forward (taps are the kernel's
//! pixels) and the gradient to the input (taps are those of one output parity), for any kernel, stride and padding;
//! the input is already framed with zeros, so there are no borders.

use super::layout::LANES;
use super::simd::{Lanes, dispatched};

/// One pixel of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Where its input lies, in values, seen from the input of output pixel 0.
    pub(super) input: usize,
    /// Its number in the packed weights.
    pub(super) weight: usize,
}

/// Rows of pixels in a buffer: distances in values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// First value.
    pub(super) start: usize,
    /// From one group of channels to the next.
    pub(super) plane: usize,
    /// From one row of the *output* to the next.
    pub(super) row: usize,
    /// From one pixel of the *output* to the next.
    pub(super) pixel: usize,
}

impl Grid {
    /// Where the last pixel begins, of so many images, groups of channels, rows and pixels (none is zero); from one
    /// image to the next it is `image` values.
    pub(super) fn last(&self, counts: [usize; 4], image: usize) -> usize {
        let steps = [image, self.plane, self.row, self.pixel];
        self.start + counts.iter().zip(steps).map(|(count, step)| (count - 1) * step).sum::<usize>()
    }
}

/// Images through one convolution. Weights stay in the first cache while all images pass.
pub(super) struct Convolution<'a> {
    pub(super) images: usize,
    pub(super) x: &'a [f32],
    pub(super) x_grid: Grid,
    /// From one image to the next.
    pub(super) x_image: usize,
    /// Input channels.
    pub(super) channels: usize,
    pub(super) taps: &'a [Tap],
    /// `[out blocks][in blocks][taps][in lanes][16]`
    pub(super) weights: &'a [f32],
    /// Taps in the packed weights.
    pub(super) packed_taps: usize,
    pub(super) out: &'a mut [f32],
    pub(super) out_grid: Grid,
    pub(super) out_image: usize,
    pub(super) out_blocks: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Whether the result is added to what `out` holds.
    pub(super) add: bool,
}

/// Values that one input block's tile of weights has per tap: lanes times outputs.
pub(super) fn lanes_of(channels: usize) -> usize {
    channels.min(LANES)
}

/// Values of packed weights.
pub(super) fn packed_len(inputs: usize, outputs: usize, taps: usize) -> usize {
    outputs.div_ceil(LANES) * inputs.div_ceil(LANES) * taps * lanes_of(inputs) * LANES
}

impl Convolution<'_> {
    /// Checks every address that the kernel will touch.
    fn check(&self) {
        let blocks = self.channels.div_ceil(LANES);
        let counts = [blocks, self.out_blocks, self.images, self.height, self.width];
        assert!(counts.iter().all(|count| *count > 0), "an empty convolution");
        let last = |grid: &Grid, image: usize, blocks: usize| {
            grid.last([self.images, blocks, self.height, self.width], image)
        };
        let tap = self.taps.iter().map(|tap| tap.input).max().unwrap_or(0);
        assert!(
            last(&self.x_grid, self.x_image, blocks) + tap + lanes_of(self.channels) <= self.x.len(),
            "input too short"
        );
        assert!(
            last(&self.out_grid, self.out_image, self.out_blocks) + LANES <= self.out.len(),
            "output too short"
        );
        assert!(self.taps.iter().all(|tap| tap.weight < self.packed_taps), "tap out of range");
        let weights = packed_len(self.channels, self.out_blocks * LANES, self.packed_taps);
        assert!(weights <= self.weights.len(), "weights too short");
    }
}

/// `P` pixels times `B` blocks of outputs in registers.
///
/// # Safety
/// `V`'s instructions; the addresses that [`Convolution::check`] checks.
#[inline(always)]
unsafe fn tile<V: Lanes, const P: usize, const B: usize, const X: usize>(
    call: &Call<'_>,
    x: *const f32,
    out: *mut f32,
) {
    let pixel = if X == 0 { call.x_pixel } else { X };
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); B]; P];
        if call.add {
            for (p, row) in sums.iter_mut().enumerate() {
                for (b, sum) in row.iter_mut().enumerate() {
                    *sum = V::load(out.add(p * call.out_pixel + b * call.out_plane));
                }
            }
        }
        for tap in call.taps {
            let mut x = x.add(tap.input);
            let mut weights = call.weights.add(tap.weight * call.weight_tap);
            for _ in 0..call.lanes {
                let mut columns = [V::splat(0.0); B];
                for (b, column) in columns.iter_mut().enumerate() {
                    *column = V::load(weights.add(b * call.weight_block));
                }
                for (p, row) in sums.iter_mut().enumerate() {
                    let value = V::splat(*x.add(p * pixel));
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = value.fma(column, *sum);
                    }
                }
                x = x.add(1);
                weights = weights.add(LANES);
            }
        }
        for (p, row) in sums.iter().enumerate() {
            for (b, sum) in row.iter().enumerate() {
                sum.store(out.add(p * call.out_pixel + b * call.out_plane));
            }
        }
    }
}

/// The arguments that all tiles of one pair of blocks share.
struct Call<'a> {
    taps: &'a [Tap],
    lanes: usize,
    weights: *const f32,
    weight_tap: usize,
    weight_block: usize,
    x_pixel: usize,
    out_pixel: usize,
    out_plane: usize,
    add: bool,
}

/// One row of output pixels.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn row<V: Lanes, const B: usize, const X: usize>(
    call: &Call<'_>,
    x: *const f32,
    out: *mut f32,
    width: usize,
) {
    let pixel = if X == 0 { call.x_pixel } else { X };
    let mut at = 0;
    while at < width {
        let left = width - at;
        // SAFETY: the caller's; `at + pixels <= width`.
        unsafe {
            let (x, out) = (x.add(at * pixel), out.add(at * call.out_pixel));
            at += match (V::WIDE, B, left) {
                (true, 1, 16..) => tile_of::<V, 16, B, X>(call, x, out),
                (true, 2, 14..) if left != 16 => tile_of::<V, 14, B, X>(call, x, out),
                (true, _, 8..) => tile_of::<V, 8, B, X>(call, x, out),
                (false, _, 9.. | 6) => tile_of::<V, 6, B, X>(call, x, out),
                (_, _, 5) => tile_of::<V, 5, B, X>(call, x, out),
                (_, _, 4..) => tile_of::<V, 4, B, X>(call, x, out),
                (_, _, 3) => tile_of::<V, 3, B, X>(call, x, out),
                (_, _, 2) => tile_of::<V, 2, B, X>(call, x, out),
                _ => tile_of::<V, 1, B, X>(call, x, out),
            };
        }
    }
}

/// [`tile`], and how many pixels it did.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tile_of<V: Lanes, const P: usize, const B: usize, const X: usize>(
    call: &Call<'_>,
    x: *const f32,
    out: *mut f32,
) -> usize {
    // SAFETY: the caller's.
    unsafe { tile::<V, P, B, X>(call, x, out) };
    P
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn convolve_as<V: Lanes>(conv: &mut Convolution<'_>) {
    conv.check();
    let in_blocks = conv.channels.div_ceil(LANES);
    let tile_lanes = lanes_of(conv.channels);
    let weight_tap = tile_lanes * LANES;
    let weight_in = conv.packed_taps * weight_tap;
    let weight_out = in_blocks * weight_in;
    let mut block = 0;
    while block < conv.out_blocks {
        let pair = V::WIDE && block + 2 <= conv.out_blocks;
        for input in 0..in_blocks {
            // SAFETY: `check` covers these addresses.
            unsafe {
                let call = Call {
                    taps: conv.taps,
                    lanes: tile_lanes.min(conv.channels - input * LANES),
                    weights: conv.weights.as_ptr().add(block * weight_out + input * weight_in),
                    weight_tap,
                    weight_block: weight_out,
                    x_pixel: conv.x_grid.pixel,
                    out_pixel: conv.out_grid.pixel,
                    out_plane: conv.out_grid.plane,
                    add: conv.add || input > 0,
                };
                let x = conv.x.as_ptr().add(conv.x_grid.start + input * conv.x_grid.plane);
                let out = conv.out.as_mut_ptr().add(conv.out_grid.start + block * conv.out_grid.plane);
                for at in 0..conv.images * conv.height {
                    let (image, y) = (at / conv.height, at % conv.height);
                    let x = x.add(image * conv.x_image + y * conv.x_grid.row);
                    let out = out.add(image * conv.out_image + y * conv.out_grid.row);
                    match (pair, conv.x_grid.pixel) {
                        (true, 16) => row::<V, 2, 16>(&call, x, out, conv.width),
                        (true, _) => row::<V, 2, 0>(&call, x, out, conv.width),
                        (false, 16) => row::<V, 1, 16>(&call, x, out, conv.width),
                        (false, 4) => row::<V, 1, 4>(&call, x, out, conv.width),
                        (false, 32) => row::<V, 1, 32>(&call, x, out, conv.width),
                        (false, _) => row::<V, 1, 0>(&call, x, out, conv.width),
                    }
                }
            }
        }
        block += if pair { 2 } else { 1 };
    }
}

dispatched! {
    /// Images through one convolution.
    fn convolve(conv: &mut Convolution<'_>) = convolve_as
}
