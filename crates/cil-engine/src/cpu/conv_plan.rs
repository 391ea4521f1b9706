//! What a convolution's shape fixes: frames of zeros, taps, and the parities of the gradient to the input.

use super::conv_kernels::{Grid, Tap, packed_len};
use super::layout::{Block, LANES};

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
}

impl ConvPlan {
    /// `plain`: the input is an image of up to four channels that is read in channel-major order.
    pub(super) fn new(
        input: Block,
        output: Block,
        (kernel, stride, padding): (usize, usize, usize),
        plain: bool,
    ) -> Self {
        let x_frame = Frame::new(input, padding, padding, if plain { 4 } else { LANES });
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
        let dy_frame = Frame::new(output, tall.0.max(wide.0), tall.1.max(wide.1), LANES);
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
        Self { input, output, window: kernel * kernel, x_frame, x_grid, taps, dy_frame, parities }
    }

    /// The output without zeros around it.
    pub(super) fn output_frame(&self) -> Frame {
        Frame::new(self.output, 0, 0, LANES)
    }

    /// Values of the packed weights.
    pub(super) fn weights_len(&self) -> usize {
        packed_len(self.input.channels, self.output.channels, self.window)
    }

    /// Values of the packed, transposed weights.
    pub(super) fn transposed_len(&self) -> usize {
        packed_len(self.output.channels, self.input.channels, self.window)
    }

    /// `[out, in, k, k]` to `[out blocks][in blocks][k * k][in lanes][16]`.
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let index = packed_index(self.input.channels, self.window);
        packed.fill(0.0);
        for (pair, taps) in weights.chunks_exact(self.window).enumerate() {
            let (output, input) = (pair / self.input.channels, pair % self.input.channels);
            for (tap, value) in taps.iter().enumerate() {
                packed[index(output, input, tap)] = *value;
            }
        }
    }

    /// The same with input and output exchanged.
    pub(super) fn pack_transposed(&self, weights: &[f32], packed: &mut [f32]) {
        let index = packed_index(self.output.channels, self.window);
        packed.fill(0.0);
        for (pair, taps) in weights.chunks_exact(self.window).enumerate() {
            let (output, input) = (pair / self.input.channels, pair % self.input.channels);
            for (tap, value) in taps.iter().enumerate() {
                packed[index(input, output, tap)] = *value;
            }
        }
    }

    /// The reverse of [`Self::pack`].
    pub(super) fn unpack(&self, packed: &[f32], weights: &mut [f32]) {
        let index = packed_index(self.input.channels, self.window);
        for (pair, taps) in weights.chunks_exact_mut(self.window).enumerate() {
            let (output, input) = (pair / self.input.channels, pair % self.input.channels);
            for (tap, value) in taps.iter_mut().enumerate() {
                *value = packed[index(output, input, tap)];
            }
        }
    }
}

/// Where a packed weight lies.
fn packed_index(inputs: usize, window: usize) -> impl Fn(usize, usize, usize) -> usize {
    let (blocks, lanes) = (inputs.div_ceil(LANES), inputs.min(LANES));
    move |output, input, tap| {
        let tile = ((output / LANES * blocks + input / LANES) * window + tap) * lanes;
        (tile + input % LANES) * LANES + output % LANES
    }
}
