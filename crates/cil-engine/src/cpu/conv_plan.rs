//! The plan that follows from a convolution's shape: the method, frames of zeros, taps, and the parities of the
//! gradient to the input.

use rayon::prelude::*;

use super::buffers::with_scratch;
use super::conv_kernels::{Grid, Tap, packed_len};
use super::layout::{Block, LANES};
use super::simd::Cpu;
use super::winograd::Tiles;

/// Values of weights that do not stay in the first cache.
const FAR: usize = 1 << 13;

/// Tiles of an image up to which a layer can be wide.
const FEW: usize = 16;

/// Pairs of channels from which on a layer is wide.
const WIDE: usize = 128 * 128;

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
    /// Winograd's tiles, where the forward pass and the gradient to the weights go by them.
    pub(super) tiles: Option<Tiles>,
    /// Whether the gradient to the input does too.
    pub(super) input_tiled: bool,
}

/// The way of reading a convolution's input.
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
            input_tiled,
            tiles,
        }
    }

    /// Winograd's tiles of a layer whose weights are so many that all images go through each step together.
    pub(super) fn wide_tiles(&self) -> Option<Tiles> {
        let wide = self.input.channels * self.output.channels >= WIDE && self.input_tiled;
        let few = |tiles: &Tiles| !tiles.up() && tiles.rows * tiles.columns <= FEW;
        self.tiles.filter(|tiles| wide && few(tiles))
    }

    /// Images that one call of the kernels takes.
    pub(super) fn group(&self) -> usize {
        // Wide layers' weights are read from far away: once for several images.
        let direct = if self.gradient_len() > FAR { (1 << 18) / self.input.image() } else { 1 };
        self.tiles.map_or(direct.clamp(1, 16), Tiles::group)
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
        let sides = (self.input.channels, self.output.channels);
        let pack = Pack { sides, steps: (1, self.input.channels), window: self.window, turned: false };
        pack.run(cpu, self.tiles, weights, packed);
    }

    /// The same with input and output exchanged, as the gradient to the input reads them.
    pub(super) fn pack_transposed(&self, cpu: Cpu, weights: &[f32], packed: &mut [f32]) {
        let sides = (self.output.channels, self.input.channels);
        let tiles = self.tiles.filter(|_| self.input_tiled);
        // The gradient is a convolution with the kernel turned round, or the product's own transpose.
        let turned = tiles.is_some_and(|tiles| !tiles.up());
        let pack = Pack { sides, steps: (self.input.channels, 1), window: self.window, turned };
        pack.run(cpu, tiles, weights, packed);
    }

    /// Values of a gradient of the packed weights, before any transform.
    pub(super) fn gradient_len(&self) -> usize {
        packed_len(self.input.channels, self.output.channels, self.window)
    }

    /// Such a gradient to one of `[out, in, k, k]`.
    pub(super) fn unpack(&self, packed: &[f32], weights: &mut [f32]) {
        let (inputs, window) = (self.input.channels, self.window);
        let len = packed_len(inputs, LANES, window);
        let blocks = weights.par_chunks_mut(LANES * inputs * window).zip(packed.par_chunks_exact(len));
        blocks.for_each(|(weights, packed)| unpack_block(packed, (inputs, window), weights));
    }
}

/// How weights are packed for one direction.
struct Pack {
    /// Channels that are summed over, and channels that come out.
    sides: (usize, usize),
    /// Windows from one of either to the next.
    steps: (usize, usize),
    window: usize,
    /// Whether windows are turned round.
    turned: bool,
}

impl Pack {
    fn run(&self, cpu: Cpu, tiles: Option<Tiles>, weights: &[f32], packed: &mut [f32]) {
        let (inputs, outputs) = self.sides;
        let plain = packed_len(inputs, LANES, self.window);
        let len = packed.len() / outputs.div_ceil(LANES);
        packed.par_chunks_exact_mut(len).enumerate().for_each(|(block, packed)| match tiles {
            Some(tiles) => with_scratch(plain, |scratch| {
                self.block(block, weights, scratch);
                tiles.transform_weights(cpu, scratch, packed);
            }),
            None => self.block(block, weights, packed),
        });
    }

    /// One out block: `[in blocks][window][in lanes][16]`.
    fn block(&self, block: usize, weights: &[f32], packed: &mut [f32]) {
        let ((inputs, outputs), window) = (self.sides, self.window);
        let lanes = inputs.min(LANES);
        if !inputs.is_multiple_of(LANES) || !outputs.is_multiple_of(LANES) {
            packed.fill(0.0);
        }
        for (number, tile) in packed.chunks_exact_mut(window * lanes * LANES).enumerate() {
            let first = number * LANES;
            for output in block * LANES..outputs.min((block + 1) * LANES) {
                for input in first..inputs.min(first + LANES) {
                    let from = (input * self.steps.0 + output * self.steps.1) * window;
                    let to = (input % LANES) * LANES + output % LANES;
                    for (tap, value) in weights[from..][..window].iter().enumerate() {
                        let tap = if self.turned { window - 1 - tap } else { tap };
                        tile[tap * lanes * LANES + to] = *value;
                    }
                }
            }
        }
    }
}

/// The reverse of [`Pack::block`]: up to sixteen outputs' `[in, window]`.
pub(super) fn unpack_block(packed: &[f32], (inputs, window): (usize, usize), weights: &mut [f32]) {
    let lanes = inputs.min(LANES);
    for (number, tile) in packed.chunks_exact(window * lanes * LANES).enumerate() {
        let first = number * LANES;
        for (output, weights) in weights.chunks_exact_mut(inputs * window).enumerate() {
            for input in first..inputs.min(first + LANES) {
                let to = &mut weights[input * window..][..window];
                for (tap, value) in to.iter_mut().enumerate() {
                    *value = tile[(tap * lanes + input % LANES) * LANES + output];
                }
            }
        }
    }
}
