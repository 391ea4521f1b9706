//! How values lie in memory: `[rows][channels / 16][height][width][16]`.
//!
//! A vector is a map of one pixel, so every kernel works on both. Lanes past the last channel are zero in everything
//! that a kernel writes, and Winograd's products rely on that: they read whole groups of channels.

use rayon::prelude::*;

use crate::graph::Shape;

/// Channels that lie side by side.
pub(super) const LANES: usize = 16;

/// Geometry of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl From<Shape> for Block {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Map { channels, height, width } => Self { channels, height, width },
            Shape::Vector { width } => Self { channels: width, height: 1, width: 1 },
        }
    }
}

impl Block {
    /// Groups of sixteen channels.
    pub(super) fn blocks(self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Pixels.
    pub(super) fn positions(self) -> usize {
        self.height * self.width
    }

    /// Values of one group of channels.
    pub(super) fn plane(self) -> usize {
        self.positions() * LANES
    }

    /// Values of one sample, padding lanes included.
    pub(super) fn image(self) -> usize {
        self.blocks() * self.plane()
    }

    /// Values of one sample without padding lanes.
    pub(super) fn elements(self) -> usize {
        self.channels * self.positions()
    }

    /// One sample from channel-major order.
    pub(super) fn pack(self, plain: &[f32], blocked: &mut [f32]) {
        let positions = self.positions();
        if positions == 1 {
            blocked[..self.channels].copy_from_slice(plain);
            blocked[self.channels..].fill(0.0);
            return;
        }
        for (block, plane) in blocked.chunks_exact_mut(self.plane()).enumerate() {
            let first = block * LANES;
            let lanes = LANES.min(self.channels - first);
            if lanes < LANES {
                plane.fill(0.0);
            }
            let channels = &plain[first * positions..][..lanes * positions];
            for (at, pixel) in plane.chunks_exact_mut(LANES).enumerate() {
                for (lane, value) in pixel[..lanes].iter_mut().enumerate() {
                    *value = channels[lane * positions + at];
                }
            }
        }
    }

    /// One sample to channel-major order.
    pub(super) fn unpack(self, blocked: &[f32], plain: &mut [f32]) {
        let positions = self.positions();
        for (channel, values) in plain.chunks_exact_mut(positions).enumerate() {
            let plane = &blocked[channel / LANES * self.plane()..][..self.plane()];
            for (value, pixel) in values.iter_mut().zip(plane.chunks_exact(LANES)) {
                *value = pixel[channel % LANES];
            }
        }
    }
}

/// Samples that one parallel task takes, so that small samples do not cost more in tasks than in work.
pub(super) fn grain(values_per_sample: usize) -> usize {
    (8192 / values_per_sample.max(1)).max(1)
}

/// Runs `work(sample, values)` on every sample of `values`, in parallel.
pub(super) fn each_sample(values: &mut [f32], len: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    values
        .par_chunks_exact_mut(len)
        .enumerate()
        .with_min_len(grain(len))
        .for_each(|(row, sample)| work(row, sample));
}

/// A batch from channel-major order.
pub(super) fn pack_batch(block: Block, plain: &[f32], blocked: &mut [f32]) {
    let len = block.elements();
    each_sample(blocked, block.image(), |row, sample| block.pack(&plain[row * len..][..len], sample));
}

/// A batch to channel-major order.
pub(super) fn unpack_batch(block: Block, blocked: &[f32], plain: &mut [f32]) {
    let len = block.image();
    each_sample(plain, block.elements(), |row, sample| block.unpack(&blocked[row * len..][..len], sample));
}
