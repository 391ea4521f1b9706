//! The inner loops of weight gradients: a tile of input channels times sixteen outputs for every tap.

use super::conv_kernels::{Grid, Tap, lanes_of, packed_len};
use super::layout::LANES;
use super::simd::{Lanes, dispatched};

/// Images' contribution to a weight gradient.
pub(super) struct WeightGradient<'a> {
    pub(super) images: usize,
    pub(super) x: &'a [f32],
    pub(super) x_grid: Grid,
    /// From one image to the next.
    pub(super) x_image: usize,
    /// Input channels.
    pub(super) channels: usize,
    /// In the order of the packed weights.
    pub(super) taps: &'a [Tap],
    pub(super) dy: &'a [f32],
    pub(super) dy_grid: Grid,
    pub(super) dy_image: usize,
    pub(super) out_blocks: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[out blocks][in blocks][taps][in lanes][16]`, added to.
    pub(super) dw: &'a mut [f32],
}

impl WeightGradient<'_> {
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
            last(&self.dy_grid, self.dy_image, self.out_blocks) + LANES <= self.dy.len(),
            "gradient too short"
        );
        let weights = packed_len(self.channels, self.out_blocks * LANES, self.taps.len());
        assert!(weights <= self.dw.len(), "weights too short");
    }
}

/// `C` input channels times sixteen outputs of one tap, over some rows.
///
/// # Safety
/// `V`'s instructions; the addresses that [`WeightGradient::check`] checks.
#[inline(always)]
unsafe fn weight_tile<V: Lanes, const C: usize, const X: usize>(
    x: (*const f32, usize, usize),
    dy: (*const f32, usize),
    (height, width): (usize, usize),
    dw: *mut f32,
) -> usize {
    let pixel = if X == 0 { x.2 } else { X };
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [V::splat(0.0); C];
        for y in 0..height {
            let (mut x, mut dy) = (x.0.add(y * x.1), dy.0.add(y * dy.1));
            for _ in 0..width {
                let gradient = V::load(dy);
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = V::splat(*x.add(c)).fma(gradient, *sum);
                }
                x = x.add(pixel);
                dy = dy.add(LANES);
            }
        }
        for (c, sum) in sums.iter().enumerate() {
            let to = dw.add(c * LANES);
            V::load(to).add(*sum).store(to);
        }
    }
    C
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn weight_gradient_as<V: Lanes>(call: &mut WeightGradient<'_>) {
    call.check();
    assert_eq!(call.dy_grid.pixel, LANES, "gradients lie side by side");
    let in_blocks = call.channels.div_ceil(LANES);
    let tile_lanes = lanes_of(call.channels);
    // Rows that, with the gradient's, stay in the first cache while all taps pass over them.
    let rows = (128 / call.width).clamp(1, call.height);
    for block in 0..call.out_blocks {
        for input in 0..in_blocks {
            let lanes = tile_lanes.min(call.channels - input * LANES);
            let tile = (block * in_blocks + input) * call.taps.len();
            for image in 0..call.images {
                for y in (0..call.height).step_by(rows) {
                    let size = (rows.min(call.height - y), call.width);
                    // SAFETY: `check` covers these addresses; `lane` stays below the tile's lanes.
                    unsafe {
                        let x = call.x.as_ptr().add(
                            call.x_grid.start
                                + image * call.x_image
                                + input * call.x_grid.plane
                                + y * call.x_grid.row,
                        );
                        let dy = call.dy.as_ptr().add(
                            call.dy_grid.start
                                + image * call.dy_image
                                + block * call.dy_grid.plane
                                + y * call.dy_grid.row,
                        );
                        for (number, tap) in call.taps.iter().enumerate() {
                            let dw = call.dw.as_mut_ptr().add((tile + number) * tile_lanes * LANES);
                            let mut lane = 0;
                            while lane < lanes {
                                let x = (x.add(tap.input + lane), call.x_grid.row, call.x_grid.pixel);
                                let (dy, dw) = ((dy, call.dy_grid.row), dw.add(lane * LANES));
                                lane += match call.x_grid.pixel {
                                    16 => weight_lanes::<V, 16>(lanes - lane, x, dy, size, dw),
                                    32 => weight_lanes::<V, 32>(lanes - lane, x, dy, size, dw),
                                    _ => weight_lanes::<V, 0>(lanes - lane, x, dy, size, dw),
                                };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`weight_tile`].
#[inline(always)]
unsafe fn weight_lanes<V: Lanes, const X: usize>(
    lanes: usize,
    x: (*const f32, usize, usize),
    dy: (*const f32, usize),
    size: (usize, usize),
    dw: *mut f32,
) -> usize {
    // SAFETY: the caller's; no tile is wider than `lanes`.
    unsafe {
        match (V::WIDE, lanes) {
            (true, 16..) => weight_tile::<V, 16, X>(x, dy, size, dw),
            (true, 8..) => weight_tile::<V, 8, X>(x, dy, size, dw),
            (false, 6 | 11..) => weight_tile::<V, 6, X>(x, dy, size, dw),
            (_, 5 | 8..) => weight_tile::<V, 5, X>(x, dy, size, dw),
            (_, 4..) => weight_tile::<V, 4, X>(x, dy, size, dw),
            (_, 3) => weight_tile::<V, 3, X>(x, dy, size, dw),
            (_, 2) => weight_tile::<V, 2, X>(x, dy, size, dw),
            _ => weight_tile::<V, 1, X>(x, dy, size, dw),
        }
    }
}

dispatched! {
    /// Adds images' contribution to a weight gradient.
    fn weight_gradient(call: &mut WeightGradient<'_>) = weight_gradient_as
}
