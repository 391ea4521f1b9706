//! Operations without parameters that move, pick or average values: pools, upsampling, joining, reshaping.
//!
//! Each works on one sample in blocked layout; gradients overwrite what their target held.

use super::layout::{Block, LANES};

type Pixel = [f32; LANES];

fn pixels(values: &[f32]) -> &[Pixel] {
    values.as_chunks::<LANES>().0
}

fn pixels_mut(values: &mut [f32]) -> &mut [Pixel] {
    values.as_chunks_mut::<LANES>().0
}

fn accumulate(to: &mut Pixel, from: &Pixel, factor: f32) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from * factor);
}

/// The window of an output pixel: the first input row (or column) and one past the last.
fn window(
    at: usize,
    side: usize,
    (kernel, stride, padding): (usize, usize, usize),
) -> std::ops::Range<usize> {
    let start = at * stride;
    start.saturating_sub(padding)..(start + kernel - padding).min(side)
}

/// Calls `visit(output pixel, input pixel)` for all pixels of all windows; pixels are counted over the whole sample.
fn windows(input: Block, output: Block, shape: (usize, usize, usize), mut visit: impl FnMut(usize, usize)) {
    for block in 0..output.blocks() {
        for y in 0..output.height {
            for x in 0..output.width {
                let to = block * output.positions() + y * output.width + x;
                for from_y in window(y, input.height, shape) {
                    for from_x in window(x, input.width, shape) {
                        visit(to, block * input.positions() + from_y * input.width + from_x);
                    }
                }
            }
        }
    }
}

/// Mean over windows.
pub(super) fn avg_pool(
    input: Block,
    output: Block,
    (kernel, stride): (usize, usize),
    x: &[f32],
    out: &mut [f32],
) {
    out.fill(0.0);
    let (x, out) = (pixels(x), pixels_mut(out));
    let factor = 1.0 / (kernel * kernel) as f32;
    windows(input, output, (kernel, stride, 0), |to, from| accumulate(&mut out[to], &x[from], factor));
}

/// Gradient of [`avg_pool`].
pub(super) fn avg_pool_back(
    input: Block,
    output: Block,
    (kernel, stride): (usize, usize),
    dy: &[f32],
    dx: &mut [f32],
) {
    dx.fill(0.0);
    let (dy, dx) = (pixels(dy), pixels_mut(dx));
    let factor = 1.0 / (kernel * kernel) as f32;
    windows(input, output, (kernel, stride, 0), |to, from| accumulate(&mut dx[from], &dy[to], factor));
}

/// Maximum over windows; `places` receives the input pixel of each, as a number.
pub(super) fn max_pool(
    input: Block,
    output: Block,
    shape: (usize, usize, usize),
    x: &[f32],
    out: &mut [f32],
    places: &mut [u32],
) {
    out.fill(f32::NEG_INFINITY);
    places.fill(u32::MAX);
    let (x, out) = (pixels(x), pixels_mut(out));
    let places = places.as_chunks_mut::<LANES>().0;
    windows(input, output, shape, |to, from| {
        for ((best, place), value) in out[to].iter_mut().zip(&mut places[to]).zip(&x[from]) {
            let better = *value > *best || value.is_nan() || *place == u32::MAX;
            *best = if better { *value } else { *best };
            *place = if better { from as u32 } else { *place };
        }
    });
}

/// Gradient of [`max_pool`].
pub(super) fn max_pool_back(places: &[u32], dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    for (at, (place, value)) in places.iter().zip(dy).enumerate() {
        dx[*place as usize * LANES + at % LANES] += value;
    }
}

/// Mean over all pixels.
pub(super) fn global_pool(input: Block, x: &[f32], out: &mut [f32]) {
    let factor = 1.0 / input.positions() as f32;
    for (plane, sum) in x.chunks_exact(input.plane()).zip(pixels_mut(out)) {
        let mut total = [0.0; LANES];
        pixels(plane).iter().for_each(|pixel| accumulate(&mut total, pixel, 1.0));
        *sum = total.map(|total| total * factor);
    }
}

/// Gradient of [`global_pool`].
pub(super) fn global_pool_back(input: Block, dy: &[f32], dx: &mut [f32]) {
    let factor = 1.0 / input.positions() as f32;
    for (plane, value) in dx.chunks_exact_mut(input.plane()).zip(pixels(dy)) {
        pixels_mut(plane).fill(value.map(|value| value * factor));
    }
}

/// Each pixel `factor` times in both directions.
pub(super) fn upsample(input: Block, factor: usize, x: &[f32], out: &mut [f32]) {
    let row = input.width * factor;
    for (from, to) in pixels(x).chunks_exact(input.width).zip(pixels_mut(out).chunks_exact_mut(row * factor))
    {
        let (first, others) = to.split_at_mut(row);
        for (from, to) in from.iter().zip(first.chunks_exact_mut(factor)) {
            to.fill(*from);
        }
        others.chunks_exact_mut(row).for_each(|other| other.copy_from_slice(first));
    }
}

/// Gradient of [`upsample`].
pub(super) fn upsample_back(input: Block, factor: usize, dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let row = input.width * factor;
    for (from, to) in pixels(dy).chunks_exact(row * factor).zip(pixels_mut(dx).chunks_exact_mut(input.width))
    {
        for from in from.chunks_exact(row) {
            for (from, to) in from.chunks_exact(factor).zip(to.iter_mut()) {
                from.iter().for_each(|from| accumulate(to, from, 1.0));
            }
        }
    }
}

/// Every `stride`-th pixel; channels past the input's are zero.
pub(super) fn subsample(input: Block, output: Block, stride: usize, x: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let (x, out) = (pixels(x), pixels_mut(out));
    for_subsampled(input, output, stride, |from, to, lanes| {
        out[to][..lanes].copy_from_slice(&x[from][..lanes])
    });
}

/// Gradient of [`subsample`].
pub(super) fn subsample_back(input: Block, output: Block, stride: usize, dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let (dy, dx) = (pixels(dy), pixels_mut(dx));
    for_subsampled(input, output, stride, |from, to, lanes| {
        dx[from][..lanes].copy_from_slice(&dy[to][..lanes])
    });
}

fn for_subsampled(input: Block, output: Block, stride: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for block in 0..input.blocks() {
        let lanes = LANES.min(input.channels - block * LANES);
        for y in 0..output.height {
            for x in 0..output.width {
                let from = block * input.positions() + y * stride * input.width + x * stride;
                visit(from, block * output.positions() + y * output.width + x, lanes);
            }
        }
    }
}

/// Copies channels `from_first ..` of one sample to channels `to_first ..` of another of equal height and width.
pub(super) fn copy_channels(
    (from_block, from_first, from): (Block, usize, &[f32]),
    (to_block, to_first, to): (Block, usize, &mut [f32]),
    count: usize,
) {
    let positions = from_block.positions();
    let mut done = 0;
    while done < count {
        let (source, target) = (from_first + done, to_first + done);
        let lanes = (LANES - source % LANES).min(LANES - target % LANES).min(count - done);
        let from = &from[source / LANES * from_block.plane()..][..positions * LANES];
        let to = &mut to[target / LANES * to_block.plane()..][..positions * LANES];
        for (from, to) in pixels(from).iter().zip(pixels_mut(to)) {
            to[target % LANES..][..lanes].copy_from_slice(&from[source % LANES..][..lanes]);
        }
        done += lanes;
    }
}

/// The same values in channel-major order, in another geometry.
pub(super) fn reshape(input: Block, output: Block, x: &[f32], out: &mut [f32]) {
    super::buffers::with_scratch(input.elements(), |plain| {
        input.unpack(x, plain);
        output.pack(plain, out);
    });
}
