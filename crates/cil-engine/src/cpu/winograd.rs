//! Winograd convolutions over a group of framed images: transform strips of tiles, multiply, transform back.
//!
//! A strip is as many rows of tiles, of one image or several, as stay in the second cache with their factors and
//! products. The products of one position of the tile are a convolution with one pixel, so the kernels are those of
//! [`super::conv_kernels`].

use super::buffers::with_scratch;
use super::conv_kernels::{Convolution, Grid, Tap, convolve};
use super::conv_plan::Frame;
use super::layout::{Block, LANES};
use super::simd::Cpu;
use super::weight_kernels::{WeightGradient, weight_gradient};
use super::winograd_kernels::{Squares, Sweep, Unpatch, sweep, unpatch};
use super::winograd_lines::{Form, Map};

/// Tiles of a strip at most, and at least where an image has them: more make better use of the weights, fewer of the
/// cache.
const STRIP: (usize, usize) = (16, 64);

/// Values that a strip's factors and products should have at most: half of a second cache of 1 MiB.
const STRIP_VALUES: usize = 1 << 17;

/// Pixels between the positions of a strip, so that they do not all fall into one set of the first cache.
const SPARE: usize = 1;

/// Values of one channel pair's tile of weights.
const WEIGHTS: usize = LANES * LANES;

/// No limit to the squares of a sweep.
const UNLIMITED: [usize; 2] = [usize::MAX; 2];

/// The tiles of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) form: Form,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Tiles that are worked on together.
    strip: usize,
}

/// Framed images.
#[derive(Clone, Copy)]
pub(super) struct Framed<'a> {
    pub(super) values: &'a [f32],
    pub(super) frame: &'a Frame,
    /// Where the first pixel of the first tile lies in an image.
    pub(super) start: usize,
}

/// Rows of tiles, counted over all images of a group.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Tiles that there is room for.
    pub(super) capacity: usize,
}

impl Tiles {
    /// Of the output of a convolution: those that need the fewest products.
    pub(super) fn of(input: Block, output: Block, up: bool) -> Self {
        let with = |form: Form| {
            let values = form.products().pow(2) * (input.blocks() + output.blocks()) * LANES;
            Self {
                form,
                rows: output.height.div_ceil(form.tile()),
                columns: output.width.div_ceil(form.tile()),
                strip: (STRIP_VALUES / values).clamp(STRIP.0, STRIP.1),
            }
        };
        let cost = |tiles: &Self| tiles.rows * tiles.columns * tiles.positions();
        if up {
            return with(Form::Up);
        }
        let (two, four) = (with(Form::Two), with(Form::Four));
        if cost(&four) < cost(&two) { four } else { two }
    }

    /// Whether the input is upsampled twofold on the way.
    pub(super) fn up(self) -> bool {
        self.form == Form::Up
    }

    /// Height and width of the output in whole tiles.
    pub(super) fn covered(self) -> (usize, usize) {
        (self.rows * self.form.tile(), self.columns * self.form.tile())
    }

    /// Products for every pair of channels and tile.
    pub(super) fn positions(self) -> usize {
        self.form.products().pow(2)
    }

    /// How many images are worked on together: enough for the weights to serve often.
    pub(super) fn group(self) -> usize {
        if self.up() { 1 } else { (self.strip / (self.rows * self.columns)).clamp(1, 32) }
    }

    /// Values of the transformed weights.
    pub(super) fn weights_len(self, input: Block, output: Block) -> usize {
        self.positions() * input.blocks() * output.blocks() * WEIGHTS
    }

    /// One out block's weights, `[in blocks][9][16][16]`, to `[positions][in blocks][16][16]`.
    pub(super) fn transform_weights(self, cpu: Cpu, packed: &[f32], to: &mut [f32]) {
        self.sweep_weights(cpu, Map::Kernel, packed, to);
    }

    /// The gradient of [`Self::transform_weights`].
    pub(super) fn transform_weights_back(self, cpu: Cpu, from: &[f32], packed: &mut [f32]) {
        self.sweep_weights(cpu, Map::KernelBack, from, packed);
    }

    fn sweep_weights(self, cpu: Cpu, map: Map, from: &[f32], to: &mut [f32]) {
        let blocks = from.len().min(to.len()) / (9 * WEIGHTS);
        let side = self.form.products();
        let kernel = Squares { start: 0, steps: [9 * WEIGHTS, 0, LANES], inner: [3 * WEIGHTS, WEIGHTS] };
        let position = blocks * WEIGHTS;
        let factors = Squares { start: 0, steps: [WEIGHTS, 0, LANES], inner: [side * position, position] };
        let (from_at, to_at) = if map == Map::Kernel { (kernel, factors) } else { (factors, kernel) };
        let call = &mut Sweep {
            form: self.form,
            map,
            counts: [blocks, 1, LANES],
            from,
            from_at,
            to,
            to_at,
            limits: UNLIMITED,
            add: false,
        };
        sweep(cpu, call);
    }

    /// Runs `work` on every strip of a group of images.
    fn strips(self, images: usize, mut work: impl FnMut(Strip)) {
        let all = images * self.rows;
        let rows = (self.strip / self.columns).clamp(1, all);
        for first in (0..all).step_by(rows) {
            work(Strip { first, rows: rows.min(all - first), capacity: rows * self.columns + SPARE });
        }
    }

    /// Runs `work(image, first row of tiles in it, rows, row of the strip)` on the parts of a strip.
    fn parts(self, strip: Strip, mut work: impl FnMut(usize, usize, usize, usize)) {
        let mut done = 0;
        while done < strip.rows {
            let (image, row) = ((strip.first + done) / self.rows, (strip.first + done) % self.rows);
            let rows = (self.rows - row).min(strip.rows - done);
            work(image, row, rows, done);
            done += rows;
        }
    }

    /// Patches (or spread gradients) of a strip: `[positions][blocks][capacity][16]`.
    pub(super) fn transform(self, cpu: Cpu, map: Map, from: Framed<'_>, strip: Strip, to: &mut [f32]) {
        let (frame, blocks) = (from.frame, from.frame.block.blocks());
        let pixels = if map == Map::Patch { self.form.step() } else { self.form.tile() };
        let plane = strip.capacity * LANES;
        let position = blocks * plane;
        self.parts(strip, |image, row, rows, at| {
            let call = &mut Sweep {
                form: self.form,
                map,
                counts: [blocks, rows, self.columns],
                from: from.values,
                from_at: Squares {
                    start: image * frame.len() + from.start + pixels * row * frame.row(),
                    steps: [frame.plane(), pixels * frame.row(), pixels * LANES],
                    inner: [frame.row(), LANES],
                },
                to,
                to_at: Squares {
                    start: at * self.columns * LANES,
                    steps: [plane, self.columns * LANES, LANES],
                    inner: [self.form.products() * position, position],
                },
                limits: UNLIMITED,
                add: false,
            };
            sweep(cpu, call);
        });
    }

    /// Products of every position: `[positions][out blocks][capacity][16]`.
    fn multiply(
        self,
        cpu: Cpu,
        (factors, blocks): (&[f32], usize),
        weights: &[f32],
        (products, out_blocks): (&mut [f32], usize),
        strip: Strip,
    ) {
        let plane = strip.capacity * LANES;
        let factors = factors.chunks_exact(blocks * plane);
        for (position, (x, out)) in factors.zip(products.chunks_exact_mut(out_blocks * plane)).enumerate() {
            let out_at = (out, 0, out_blocks);
            self.multiply_position(cpu, position, (x, blocks), weights, out_at, strip);
        }
    }

    /// Products of one position, for `count` out blocks from `first` on: `[count][capacity][16]`.
    pub(super) fn multiply_position(
        self,
        cpu: Cpu,
        position: usize,
        (factors, blocks): (&[f32], usize),
        weights: &[f32],
        (out, first, count): (&mut [f32], usize, usize),
        strip: Strip,
    ) {
        let plane = strip.capacity * LANES;
        let tap = |block: usize| Tap { input: block * plane, weight: position * blocks + block };
        let taps: Vec<Tap> = (0..blocks).map(tap).collect();
        let grid = Grid { start: 0, plane, row: plane, pixel: LANES };
        let packed_taps = self.positions() * blocks;
        let call = &mut Convolution {
            images: 1,
            x: factors,
            x_grid: grid,
            x_image: 0,
            channels: LANES,
            taps: &taps,
            weights: &weights[first * packed_taps * WEIGHTS..],
            packed_taps,
            out,
            out_grid: grid,
            out_image: 0,
            out_blocks: count,
            height: 1,
            width: strip.rows * self.columns,
            add: false,
        };
        convolve(cpu, call);
    }

    /// The convolution of framed images; `weights` are transformed; `out` holds images of `output` without frames.
    pub(super) fn convolve(
        self,
        cpu: Cpu,
        from: Framed<'_>,
        weights: &[f32],
        (output, out): (Block, &mut [f32]),
        add: bool,
    ) {
        let images = out.len() / output.image();
        let (blocks, out_blocks) = (from.frame.block.blocks(), output.blocks());
        self.strips(images, |strip| {
            let plane = strip.capacity * LANES;
            let (len, out_len) = (self.positions() * blocks * plane, self.positions() * out_blocks * plane);
            with_scratch(len + out_len, |scratch| {
                let (factors, products) = scratch.split_at_mut(len);
                self.transform(cpu, Map::Patch, from, strip, factors);
                self.multiply(cpu, (factors, blocks), weights, (products, out_blocks), strip);
                let position = out_blocks * plane;
                self.collect(cpu, (products, position), strip, (output, out), add);
            });
        });
    }

    /// Products of a strip to the output; from one position to the next it is `position` values.
    pub(super) fn collect(
        self,
        cpu: Cpu,
        (products, position): (&[f32], usize),
        strip: Strip,
        (output, out): (Block, &mut [f32]),
        add: bool,
    ) {
        let (tile, row_len) = (self.form.tile(), output.width * LANES);
        self.parts(strip, |image, row, rows, at| {
            let call = &mut Sweep {
                form: self.form,
                map: Map::Collect,
                counts: [output.blocks(), rows, self.columns],
                from: products,
                from_at: Squares {
                    start: at * self.columns * LANES,
                    steps: [strip.capacity * LANES, self.columns * LANES, LANES],
                    inner: [self.form.products() * position, position],
                },
                to: out,
                to_at: Squares {
                    start: image * output.image() + tile * row * row_len,
                    steps: [output.plane(), tile * row_len, tile * LANES],
                    inner: [row_len, LANES],
                },
                limits: [output.height - tile * row, output.width],
                add,
            };
            sweep(cpu, call);
        });
    }

    /// Adds the gradient of the transformed weights, `[out blocks][positions][in blocks][16][16]`.
    pub(super) fn weight_gradient(
        self,
        cpu: Cpu,
        x: Framed<'_>,
        dy: Framed<'_>,
        images: usize,
        dw: &mut [f32],
    ) {
        let (blocks, out_blocks) = (x.frame.block.blocks(), dy.frame.block.blocks());
        self.strips(images, |strip| {
            let plane = strip.capacity * LANES;
            let (len, dy_len) = (self.positions() * blocks * plane, self.positions() * out_blocks * plane);
            with_scratch(len + dy_len, |scratch| {
                let (factors, gradients) = scratch.split_at_mut(len);
                self.transform(cpu, Map::Patch, x, strip, factors);
                self.transform(cpu, Map::Spread, dy, strip, gradients);
                let pairs =
                    factors.chunks_exact(blocks * plane).zip(gradients.chunks_exact(out_blocks * plane));
                for (position, (x, dy)) in pairs.enumerate() {
                    for (block, dw) in dw.chunks_exact_mut(self.positions() * blocks * WEIGHTS).enumerate() {
                        let dw = &mut dw[position * blocks * WEIGHTS..][..blocks * WEIGHTS];
                        self.weights_position(cpu, (x, blocks), (dy, block), strip, dw);
                    }
                }
            });
        });
    }

    /// Adds the gradient of one position's weights for one out block, `[in blocks][16][16]`.
    pub(super) fn weights_position(
        self,
        cpu: Cpu,
        (x, blocks): (&[f32], usize),
        (dy, block): (&[f32], usize),
        strip: Strip,
        dw: &mut [f32],
    ) {
        let plane = strip.capacity * LANES;
        let grid = |start: usize| Grid { start, plane, row: plane, pixel: LANES };
        let call = &mut WeightGradient {
            images: 1,
            x,
            x_grid: grid(0),
            x_image: 0,
            channels: blocks * LANES,
            taps: &[Tap { input: 0, weight: 0 }],
            dy,
            dy_grid: grid(block * plane),
            dy_image: 0,
            out_blocks: 1,
            height: 1,
            width: strip.rows * self.columns,
            dw,
        };
        weight_gradient(cpu, call);
    }

    /// The gradient of the maps before a twofold upsampling; `weights` are transformed with input and output exchanged.
    pub(super) fn up_input_gradient(
        self,
        cpu: Cpu,
        dy: Framed<'_>,
        weights: &[f32],
        (input, dx): (Block, &mut [f32]),
        add: bool,
    ) {
        let (blocks, out_blocks) = (input.blocks(), dy.frame.block.blocks());
        let tiles = self.rows * self.columns + SPARE;
        let plane = tiles * LANES;
        for (image, dx) in dx.chunks_exact_mut(input.image()).enumerate() {
            let strip = Strip { first: image * self.rows, rows: self.rows, capacity: tiles };
            let (len, dy_len) = (self.positions() * blocks * plane, self.positions() * out_blocks * plane);
            let line = 3 * self.columns * LANES;
            with_scratch(len + dy_len + line, |scratch| {
                let (gradients, scratch) = scratch.split_at_mut(dy_len);
                let (products, scratch) = scratch.split_at_mut(len);
                self.transform(cpu, Map::Spread, dy, strip, gradients);
                self.multiply(cpu, (gradients, out_blocks), weights, (products, blocks), strip);
                let call = &mut Unpatch {
                    from: products,
                    position: blocks * plane,
                    plane,
                    blocks,
                    rows: self.rows,
                    columns: self.columns,
                    to: dx,
                    scratch,
                    add,
                };
                unpatch(cpu, call);
            });
        }
    }
}
