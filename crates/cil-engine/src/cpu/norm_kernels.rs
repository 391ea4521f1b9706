//! The inner loops of batch norm with what surrounds it: moments, scale-shift-add-activate, and their gradients.

use super::layout::LANES;
use super::simd::{Lanes, dispatched};
use crate::fusion::Activation;

/// Sixteen per-channel numbers.
pub(super) type Channel = [f32; LANES];

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn moments_as<V: Lanes>(plane: &[f32], mean: &mut [f32], squares: &mut [f32]) {
    assert!(
        mean.len() >= LANES && squares.len() >= LANES && plane.len().is_multiple_of(LANES),
        "whole pixels"
    );
    let pixels = plane.len() / LANES;
    let from = plane.as_ptr();
    // SAFETY: pixels below `pixels` lie inside `plane`; the results hold sixteen values.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let mut at = 0;
        while at < pixels {
            let count = (pixels - at).min(4);
            for (k, sum) in sums.iter_mut().enumerate().take(count) {
                *sum = sum.add(V::load(from.add((at + k) * LANES)));
            }
            at += count;
        }
        let centre = sums[0].add(sums[1]).add(sums[2].add(sums[3])).mul(V::splat(1.0 / pixels as f32));
        let mut sums = [V::splat(0.0); 4];
        at = 0;
        while at < pixels {
            let count = (pixels - at).min(4);
            for (k, sum) in sums.iter_mut().enumerate().take(count) {
                let distance = V::load(from.add((at + k) * LANES)).sub(centre);
                *sum = distance.fma(distance, *sum);
            }
            at += count;
        }
        centre.store(mean.as_mut_ptr());
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(squares.as_mut_ptr());
    }
}

dispatched! {
    /// Mean and summed squared distance from it, per lane, of the pixels of one plane.
    fn moments(plane: &[f32], mean: &mut [f32], squares: &mut [f32]) = moments_as
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn plane_sum_as<V: Lanes>(plane: &[f32], to: &mut [f32]) {
    assert!(to.len() >= LANES, "room for sixteen sums");
    // SAFETY: a pixel holds sixteen values, and so does the result.
    unsafe {
        let mut sum = V::splat(0.0);
        for pixel in plane.chunks_exact(LANES) {
            sum = sum.add(V::load(pixel.as_ptr()));
        }
        sum.store(to.as_mut_ptr());
    }
}

dispatched! {
    /// Sum per lane of the pixels of one plane.
    fn plane_sum(plane: &[f32], to: &mut [f32]) = plane_sum_as
}

/// # Safety
/// `V`'s instructions; `x` and `out` are valid for `len` values, a residual too.
#[inline(always)]
unsafe fn affine_with<V: Lanes, const RESIDUAL: bool, const ACTIVATION: u8>(
    x: *const f32,
    (scale, shift): (&Channel, &Channel),
    residual: *const f32,
    slope: f32,
    out: *mut f32,
    len: usize,
) {
    // SAFETY: every offset is below the common length; each vector is read before it is written.
    unsafe {
        let (scale, shift) = (V::load(scale.as_ptr()), V::load(shift.as_ptr()));
        let slope = V::splat(slope);
        for at in (0..len).step_by(LANES) {
            let mut value = V::load(x.add(at)).fma(scale, shift);
            if RESIDUAL {
                value = value.add(V::load(residual.add(at)));
            }
            value = match ACTIVATION {
                0 => value,
                1 => value.relu(),
                _ => value.positive(value, value.mul(slope)),
            };
            value.store(out.add(at));
        }
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn affine_as<V: Lanes>(
    x: Option<&[f32]>,
    by: (&Channel, &Channel),
    residual: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
) {
    let len = out.len();
    let whole = |values: Option<&[f32]>| values.is_none_or(|values| values.len() == len);
    assert!(len.is_multiple_of(LANES) && whole(x) && whole(residual), "equal planes");
    let slope = activation.slope();
    let out = out.as_mut_ptr();
    let x = x.map_or(out.cast_const(), <[f32]>::as_ptr);
    let other = residual.map_or(x, <[f32]>::as_ptr);
    // SAFETY: the lengths were checked.
    unsafe {
        match (residual.is_some(), activation) {
            (false, Activation::None) => affine_with::<V, false, 0>(x, by, other, slope, out, len),
            (false, Activation::Relu) => affine_with::<V, false, 1>(x, by, other, slope, out, len),
            (false, Activation::Leaky(_)) => affine_with::<V, false, 2>(x, by, other, slope, out, len),
            (true, Activation::None) => affine_with::<V, true, 0>(x, by, other, slope, out, len),
            (true, Activation::Relu) => affine_with::<V, true, 1>(x, by, other, slope, out, len),
            (true, Activation::Leaky(_)) => affine_with::<V, true, 2>(x, by, other, slope, out, len),
        }
    }
}

dispatched! {
    /// `out = activation(x * scale + shift + residual)` on some pixels of one plane; without an `x`, of what `out`
    /// holds.
    fn affine(
        x: Option<&[f32]>,
        by: (&Channel, &Channel),
        residual: Option<&[f32]>,
        activation: Activation,
        out: &mut [f32],
    ) = affine_as
}

/// `gradient * scale + (x - centre) * slope + shift`, per lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linearised {
    pub(super) scale: Channel,
    pub(super) centre: Channel,
    pub(super) slope: Channel,
    pub(super) shift: Channel,
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn linearised_as<V: Lanes>(gradient: &[f32], x: &[f32], by: &Linearised, out: &mut [f32]) {
    let len = gradient.len();
    assert!(len.is_multiple_of(LANES) && x.len() == len && out.len() == len, "equal planes");
    // SAFETY: every offset is below the common length.
    unsafe {
        let (scale, centre) = (V::load(by.scale.as_ptr()), V::load(by.centre.as_ptr()));
        let (slope, shift) = (V::load(by.slope.as_ptr()), V::load(by.shift.as_ptr()));
        let mut at = 0;
        while at < len {
            let distance = V::load(x.as_ptr().add(at)).sub(centre);
            let value = distance.fma(slope, V::load(gradient.as_ptr().add(at)).fma(scale, shift));
            value.store(out.as_mut_ptr().add(at));
            at += LANES;
        }
    }
}

dispatched! {
    /// The gradient before a batch norm, on some pixels of one plane.
    fn linearised(gradient: &[f32], x: &[f32], by: &Linearised, out: &mut [f32]) = linearised_as
}
