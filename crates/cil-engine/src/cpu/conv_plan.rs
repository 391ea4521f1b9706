//! What a convolution's shape fixes: the method, frames of zeros, taps, and the parities of the gradient to the input.

use rayon::prelude::*;

use super::buffers::with_scratch;
use super::conv_kernels::{Grid, Tap, packed_len};
use super::layout::{Block, LANES};
use super::simd::Cpu;
use super::winograd::Tiles;

/// A sample with zeros around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The sample.
    pub(super) block: Block,
    /// Zeros above and to the left.
    pub(super) before: usize,
    /// Rows, zeros included.
    pub(super) height: usize,
    /// Pixels of a row, zeros included.
    pub(super) width: usize,
    /// Values of one pixel: sixteen, or four for an image of up to four channels.
    pub(super) pixel: usize,
}

impl Frame {
    fn new(block: Block, before: usize, after: usize, pixel: usize) -> Self {
        let (height, width) = (block.height + before + after, block.width + before + after);
        Self { block, before, height, width, pixel }
    }

    /// Room for whole tiles and the pixels around them.
    fn tiled(block: Block, tiles: Tiles) -> Self {
        let (height, width) = tiles.covered();
        Self { block, before: 1, height: height + 2, width: width + 2, pixel: LANES }
    }

    /// Whether there are no zeros, so that the sample itself serves.
    pub(super) fn is_bare(&self) -> bool {
        self.height == self.block.height && self.width == self.block.width && self.pixel == LANES
    }

    /// Values of one row.
    pub(super) fn row(&self) -> usize {
        self.width * self.pixel
    }

    /// Values of one group of channels.
    pub(super) fn plane(&self) -> usize {
        self.height * self.row()
    }

    /// Values of the framed sample.
    pub(super) fn len(&self) -> usize {
        self.block.blocks() * self.plane()
    }

    /// Where the sample's first pixel lies.
    pub(super) fn origin(&self) -> usize {
        self.before * self.row() + self.before * self.pixel
    }

    /// The grid of every `stride`-th pixel from `start`.
    pub(super) fn grid(&self, start: usize, stride: usize) -> Grid {
        Grid { start, plane: self.plane(), row: stride * self.row(), pixel: stride * self.pixel }
    }
}

/// The input pixels of one parity of the stride: their gradient is a convolution of its own.
#[derive(Clone, Debug)]
pub(super) struct Parity {
    /// Where they lie in the input.
    pub(super) grid: Grid,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Where the output's gradient lies for each.
    pub(super) taps: Vec<Tap>,
}

/// A convolution's geometry.
#[derive(Clone, Debug)]
pub(super) struct ConvPlan {
    pub(super) input: Block,
    pub(super) output: Block,
    /// The kernel's pixels.
    pub(super) window: usize,
    pub(super) x_frame: Frame,
    pub(super) x_grid: Grid,
    pub(super) taps: Vec<Tap>,
    pub(super) dy_frame: Frame,
    pub(super) parities: Vec<Parity>,
    /// Winograd's tiles, where the forward pass, the gradient to the input and that to the weights go by them.
    pub(super) tiles: Option<Tiles>,
    pub(super) forward_tiled: bool,
    pub(super) input_tiled: bool,
}

/// What reads a convolution's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Maps in blocked layout.
    Blocked,
    /// An image of up to four channels in channel-major order.
    Plain,
    /// Maps in blocked layout that are upsampled twofold on the way.
    Up,
}

impl ConvPlan {
    /// Whether a window can go by Winograd's tiles.
    pub(super) fn suits_tiles((kernel, stride, padding): (usize, usize, usize)) -> bool {
        (kernel, stride, padding) == (3, 1, 1)
    }

    /// `input` are the maps before an upsampling.
    pub(super) fn new(input: Block, output: Block, window: (usize, usize, usize), reading: Reading) -> Self {
        let (kernel, stride, padding) = window;
        let pixel = if reading == Reading::Plain { 4 } else { LANES };
        // With few channels most lanes of a product would be padding.
        let wide = input.channels >= LANES && (output.channels >= LANES || reading == Reading::Blocked);
        let tiled = wide && Self::suits_tiles(window) && reading != Reading::Plain;
        let tiles = tiled.then(|| Tiles::of(input, output, reading == Reading::Up));
        let x_frame = match tiles {
            Some(tiles) if !tiles.up() => Frame::tiled(input, tiles),
            Some(_) => Frame::new(input, 1, 1, LANES),
            None => Frame::new(input, padding, padding, pixel),
        };
        let tap =
            |y: usize, x: usize| Tap { input: y * x_frame.row() + x * x_frame.pixel, weight: y * kernel + x };
        let taps = (0..kernel).flat_map(|y| (0..kernel).map(move |x| tap(y, x))).collect();
        // Output pixel of input pixel `i` under kernel pixel `k`: (i + padding - k) / stride, where that is whole.
        let offset = |parity: usize, k: usize| {
            let distance = (parity + padding) as isize - k as isize;
            (distance % stride as isize == 0).then_some(distance / stride as isize)
        };
        let reach = |side: usize, out_side: usize| {
            let (mut before, mut after) = (0, 0);
            for parity in 0..stride.min(side) {
                let count = (side - parity).div_ceil(stride);
                for offset in (0..kernel).filter_map(|k| offset(parity, k)) {
                    before = before.max(-offset);
                    after = after.max(offset + count as isize - out_side as isize);
                }
            }
            (before as usize, after as usize)
        };
        let (tall, wide) = (reach(input.height, output.height), reach(input.width, output.width));
        let dy_frame = match tiles {
            Some(tiles) if !tiles.up() => Frame::tiled(output, tiles),
            Some(_) => Frame::new(output, 0, 0, LANES),
            None => Frame::new(output, tall.0.max(wide.0), tall.1.max(wide.1), LANES),
        };
        let bare = Frame::new(input, 0, 0, LANES);
        let mut parities = Vec::new();
        for y in 0..stride.min(input.height) {
            for x in 0..stride.min(input.width) {
                let mut taps = Vec::new();
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        if let (Some(dy), Some(dx)) = (offset(y, ky), offset(x, kx)) {
                            let rows = (dy + dy_frame.before as isize) as usize;
                            let pixels = (dx + dy_frame.before as isize) as usize;
                            let input = rows * dy_frame.row() + pixels * LANES;
                            taps.push(Tap { input, weight: ky * kernel + kx });
                        }
                    }
                }
                parities.push(Parity {
                    grid: bare.grid(y * bare.row() + x * LANES, stride),
                    height: (input.height - y).div_ceil(stride),
                    width: (input.width - x).div_ceil(stride),
                    taps,
                });
            }
        }
        let x_grid = x_frame.grid(0, stride);
        // The gradient of few channels is quicker spread directly.
        let input_tiled = tiles.is_some_and(|tiles| tiles.up() || output.channels >= LANES);
        Self {
            input,
            output,
            window: kernel * kernel,
            x_frame,
            x_grid,
            taps,
            dy_frame,
            parities: if tiles.is_some_and(|tiles| tiles.up()) { Vec::new() } else { parities },
            forward_tiled: tiles.is_some(),
            input_tiled,
            tiles,
        }
    }

    /// Images that one call of the kernels takes.
    pub(super) fn group(&self) -> usize {
        self.tiles.map_or(1, Tiles::group)
    }

    /// The output without zeros around it.
    pub(super) fn output_frame(&self) -> Frame {
        Frame::new(self.output, 0, 0, LANES)
    }

    /// Values of the packed weights, as the forward pass reads them.
    pub(super) fn weights_len(&self) -> usize {
        match self.tiles {
            Some(tiles) => tiles.weights_len(self.input, self.output),
            None => packed_len(self.input.channels, self.output.channels, self.window),
        }
    }

    /// Values of the packed weights as the gradient to the input reads them.
    pub(super) fn transposed_len(&self) -> usize {
        match self.tiles {
            Some(tiles) if self.input_tiled => tiles.weights_len(self.output, self.input),
            _ => packed_len(self.output.channels, self.input.channels, self.window),
        }
    }

    /// `[out, in, k, k]` as the forward pass reads them: `[out blocks][in blocks][k * k][in lanes][16]`, or Winograd's.
    pub(super) fn pack(&self, cpu: Cpu, weights: &[f32], packed: &mut [f32]) {
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let from = |output: usize, input: usize| (output * inputs + input) * self.window;
        match self.tiles {
            Some(tiles) => with_scratch(packed_len(inputs, outputs, self.window), |plain| {
                pack(weights, (inputs, outputs, self.window), false, from, plain);
                tiles.transform_weights(cpu, plain, packed);
            }),
            None => pack(weights, (inputs, outputs, self.window), false, from, packed),
        }
    }

    /// The same with input and output exchanged, as the gradient to the input reads them.
    pub(super) fn pack_transposed(&self, cpu: Cpu, weights: &[f32], packed: &mut [f32]) {
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let from = |input: usize, output: usize| (output * inputs + input) * self.window;
        match self.tiles {
            Some(tiles) if self.input_tiled => {
                with_scratch(packed_len(outputs, inputs, self.window), |plain| {
                    // The gradient is a convolution with the kernel turned round, or the product's own transpose.
                    pack(weights, (outputs, inputs, self.window), !tiles.up(), from, plain);
                    tiles.transform_weights(cpu, plain, packed);
                });
            }
            _ => pack(weights, (outputs, inputs, self.window), false, from, packed),
        }
    }

    /// Values of a gradient of the packed weights, before any transform.
    pub(super) fn gradient_len(&self) -> usize {
        packed_len(self.input.channels, self.output.channels, self.window)
    }

    /// Such a gradient to one of `[out, in, k, k]`.
    pub(super) fn unpack(&self, packed: &[f32], weights: &mut [f32]) {
        unpack(packed, (self.input.channels, self.window), weights);
    }
}

/// Fills packed weights; `from(output, input)` is where a pair's window begins in `weights`.
fn pack(
    weights: &[f32],
    (inputs, outputs, window): (usize, usize, usize),
    turned: bool,
    from: impl Fn(usize, usize) -> usize + Sync,
    packed: &mut [f32],
) {
    let (blocks, lanes) = (inputs.div_ceil(LANES), inputs.min(LANES));
    let len = blocks * window * lanes * LANES;
    packed.par_chunks_exact_mut(len).enumerate().for_each(|(block, packed)| {
        packed.fill(0.0);
        for input in 0..inputs {
            let tile = input / LANES * window * lanes + input % LANES;
            for output in block * LANES..outputs.min((block + 1) * LANES) {
                let kernel = &weights[from(output, input)..][..window];
                for (tap, value) in kernel.iter().enumerate() {
                    let tap = if turned { window - 1 - tap } else { tap };
                    packed[(tile + tap * lanes) * LANES + output % LANES] = *value;
                }
            }
        }
    });
}

/// The reverse of [`pack`] for weights `[out, in, window]`.
fn unpack(packed: &[f32], (inputs, window): (usize, usize), weights: &mut [f32]) {
    let index = packed_index(inputs, window);
    weights.par_chunks_exact_mut(inputs * window).enumerate().for_each(|(output, weights)| {
        for (input, taps) in weights.chunks_exact_mut(window).enumerate() {
            for (tap, value) in taps.iter_mut().enumerate() {
                *value = packed[index(output, input, tap)];
            }
        }
    });
}

/// Where a packed weight lies.
fn packed_index(inputs: usize, window: usize) -> impl Fn(usize, usize, usize) -> usize {
    let (blocks, lanes) = (inputs.div_ceil(LANES), inputs.min(LANES));
    move |output, input, tap| {
        let tile = ((output / LANES * blocks + input / LANES) * window + tap) * lanes;
        (tile + input % LANES) * LANES + output % LANES
    }
}
