//! Where a convolution reads a batch: maps as they are, or maps that pass through a batch norm on the way.

use super::buffers::with_scratch;
use super::conv_plan::Frame;
use super::layout::LANES;
use super::load_kernels::{self, MaskedSums, Normed, PlaneMask, Rows};
use super::norm::Normalisation;
use super::norm_kernels::{Channel, Linearised};
use super::simd::Cpu;
use crate::fusion::Activation;

/// The input of a convolution.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Channel-major images of up to four channels.
    Plain(&'a [f32]),
    /// Blocked maps.
    Blocked(&'a [f32]),
    /// Blocked maps, normalised and activated while they are loaded.
    Normed(Normalised<'a>),
    /// A gradient behind a batch norm, carried to before it while it is loaded.
    Linearised { gradient: &'a [f32], x: &'a [f32], by: &'a [Linearised] },
}

/// `activation(x * scale + shift + residual)` of blocked maps.
#[derive(Clone, Copy)]
pub(super) struct Normalised<'a> {
    pub(super) x: &'a [f32],
    pub(super) by: &'a Normalisation,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl Source<'_> {
    /// Runs `work` on framed samples `first .. first + count`, which lie one after the other; `copy` receives them
    /// without frames, where they are normalised.
    pub(super) fn framed<T>(
        &self,
        cpu: Cpu,
        frame: &Frame,
        (first, count): (usize, usize),
        mut copy: Option<&mut [f32]>,
        work: impl FnOnce(&[f32]) -> T,
    ) -> T {
        if let (true, Self::Blocked(values)) = (frame.is_bare(), self) {
            let len = frame.block.image();
            return work(&values[first * len..][..count * len]);
        }
        with_scratch(count * frame.len(), |framed| {
            for (at, framed) in framed.chunks_exact_mut(frame.len()).enumerate() {
                let len = frame.block.image();
                let copy = copy.as_deref_mut().map(|copy| &mut copy[at * len..][..len]);
                self.load(cpu, frame, first + at, copy, framed);
            }
            work(framed)
        })
    }

    fn load(&self, cpu: Cpu, frame: &Frame, sample: usize, mut copy: Option<&mut [f32]>, framed: &mut [f32]) {
        let block = frame.block;
        if let Self::Plain(values) = self {
            let image = &values[sample * block.elements()..][..block.elements()];
            return load_plain(frame, image, framed);
        }
        let (row, width, plane_len) = (frame.row(), block.width * LANES, block.plane());
        for (number, plane) in framed.chunks_exact_mut(frame.plane()).enumerate() {
            clear_border(frame, plane);
            let at = sample * block.image() + number * plane_len;
            let to = &mut plane[frame.origin()..];
            let rows = &mut Rows { height: block.height, width: block.width, to, row };
            match self {
                Self::Plain(_) => {}
                Self::Blocked(values) => {
                    let values = &values[at..][..plane_len];
                    for (from, to) in values.chunks_exact(width).zip(rows.to.chunks_mut(row)) {
                        to[..width].copy_from_slice(from);
                    }
                }
                Self::Normed(from) => {
                    let normed = &mut Normed {
                        x: &from.x[at..][..plane_len],
                        scale: &from.by.scale[number],
                        shift: &from.by.shift[number],
                        residual: from.residual.map(|residual| &residual[at..][..plane_len]),
                        slope: from.activation.slope(),
                        copy: copy.as_deref_mut().map(|copy| &mut copy[number * plane_len..][..plane_len]),
                    };
                    load_kernels::normed(cpu, rows, normed);
                }
                Self::Linearised { gradient, x, by } => {
                    let (gradient, x) = (&gradient[at..][..plane_len], &x[at..][..plane_len]);
                    load_kernels::linearised(cpu, rows, gradient, x, &by[number]);
                }
            }
        }
    }
}

/// Zeros around a sample's plane.
fn clear_border(frame: &Frame, plane: &mut [f32]) {
    let (row, width) = (frame.row(), frame.block.width * LANES);
    let first = frame.before * row;
    let last = first + frame.block.height * row;
    plane[..first].fill(0.0);
    plane[last..].fill(0.0);
    let left = frame.before * LANES;
    for row in plane[first..last].chunks_exact_mut(row) {
        row[..left].fill(0.0);
        row[left + width..].fill(0.0);
    }
}

fn load_plain(frame: &Frame, image: &[f32], framed: &mut [f32]) {
    let block = frame.block;
    framed.fill(0.0);
    for (at, row) in image.chunks_exact(block.width).enumerate() {
        let (channel, y) = (at / block.height, at % block.height);
        let to = &mut framed[frame.origin() + y * frame.row() + channel..];
        for (pixel, value) in to.iter_mut().step_by(frame.pixel).zip(row) {
            *pixel = *value;
        }
    }
}

/// The operation on a gradient after a batch norm and its activation, as soon as it is complete.
#[derive(Clone, Copy)]
pub(super) struct Completion<'a> {
    /// The input of the batch norm; empty where nothing is summed and the mask comes from the output.
    pub(super) x: &'a [f32],
    pub(super) mask: Mask<'a>,
    /// Factor of the gradient where the output is not positive.
    pub(super) slope: f32,
    /// The value that is subtracted from the input for sums.
    pub(super) centre: Option<&'a [Channel]>,
}

/// Where an activation's output is known from.
#[derive(Clone, Copy)]
pub(super) enum Mask<'a> {
    /// There is no activation.
    None,
    /// The output itself.
    Output(&'a [f32]),
    /// The normalisation, once more.
    Again(&'a Normalisation),
}

impl Completion<'_> {
    /// One sample's gradient before the activation, in place; `sums` receives `[2][lanes]`: of the gradient, and of the
    /// gradient times the distance from the centre.
    pub(super) fn apply(
        &self,
        cpu: Cpu,
        sample: usize,
        plane: usize,
        gradient: &mut [f32],
        sums: Option<&mut [f32]>,
    ) {
        let at = sample * gradient.len();
        let (mut plain, mut product) = match sums {
            Some(sums) => {
                let (plain, product) = sums.split_at_mut(sums.len() / 2);
                (Some(plain.chunks_exact_mut(LANES)), Some(product.chunks_exact_mut(LANES)))
            }
            None => (None, None),
        };
        for (number, gradient) in gradient.chunks_exact_mut(plane).enumerate() {
            let range = at + number * plane..at + (number + 1) * plane;
            let mask = match self.mask {
                Mask::None => PlaneMask::None,
                Mask::Output(output) => PlaneMask::Output(&output[range.clone()]),
                Mask::Again(by) => PlaneMask::Again(&by.scale[number], &by.shift[number]),
            };
            let plain = plain.as_mut().and_then(Iterator::next);
            let product = product.as_mut().and_then(Iterator::next);
            let sums = match (self.centre, plain, product) {
                (Some(centre), Some(plain), Some(product)) => Some((&centre[number], plain, product)),
                _ => None,
            };
            let x = self.x.get(range).unwrap_or_default();
            let call = &mut MaskedSums { gradient, x, mask, slope: self.slope, sums };
            load_kernels::masked_sums(cpu, call);
        }
    }
}
