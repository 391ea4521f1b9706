//! Operations while a convolution loads its maps: batch norm with addition and activation, and batch norm's gradient.
//!
//! Planes are `[height][width][16]`; the frame around them was zeroed before.

use super::layout::LANES;
use super::norm_kernels::{Channel, Linearised};
use super::simd::{Lanes, dispatched};

/// Rows of a plane that are written into a frame.
pub(super) struct Rows<'a> {
    pub(super) height: usize,
    pub(super) width: usize,
    /// The frame from the plane's first pixel on.
    pub(super) to: &'a mut [f32],
    /// From one row of the frame to the next, in values.
    pub(super) row: usize,
}

impl Rows<'_> {
    fn check(&self) {
        assert!(self.height > 0 && self.width > 0, "an empty plane");
        assert!((self.height - 1) * self.row + self.width * LANES <= self.to.len(), "a frame that holds it");
    }

    fn len(&self) -> usize {
        self.height * self.width * LANES
    }
}

/// `activation(x * scale + shift + residual)`.
pub(super) struct Normed<'a> {
    pub(super) x: &'a [f32],
    pub(super) scale: &'a Channel,
    pub(super) shift: &'a Channel,
    pub(super) residual: Option<&'a [f32]>,
    /// Factor of values that are not positive.
    pub(super) slope: f32,
    /// Where the plane is written as well.
    pub(super) copy: Option<&'a mut [f32]>,
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn normed_with<V: Lanes, const RESIDUAL: bool, const COPY: bool, const ACTIVATION: u8>(
    rows: &mut Rows<'_>,
    normed: &mut Normed<'_>,
) {
    let x = normed.x.as_ptr();
    let residual = normed.residual.map_or(x, <[f32]>::as_ptr);
    let to = rows.to.as_mut_ptr();
    let copy = normed.copy.as_mut().map_or(to, |copy| copy.as_mut_ptr());
    // SAFETY: `normed_as` checked the lengths of all planes and of the frame.
    unsafe {
        let (scale, shift) = (V::load(normed.scale.as_ptr()), V::load(normed.shift.as_ptr()));
        let slope = V::splat(normed.slope);
        for y in 0..rows.height {
            let from = y * rows.width * LANES;
            for at in (0..rows.width * LANES).step_by(LANES) {
                let mut value = V::load(x.add(from + at)).fma(scale, shift);
                if RESIDUAL {
                    value = value.add(V::load(residual.add(from + at)));
                }
                value = match ACTIVATION {
                    0 => value,
                    1 => value.relu(),
                    _ => value.positive(value, value.mul(slope)),
                };
                value.store(to.add(y * rows.row + at));
                if COPY {
                    value.store(copy.add(from + at));
                }
            }
        }
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn normed_as<V: Lanes>(rows: &mut Rows<'_>, normed: &mut Normed<'_>) {
    rows.check();
    assert!(normed.x.len() >= rows.len(), "a whole plane");
    assert!(normed.residual.is_none_or(|residual| residual.len() >= rows.len()), "a whole residual");
    assert!(normed.copy.as_ref().is_none_or(|copy| copy.len() >= rows.len()), "room for a copy");
    let activation = if normed.slope == 1.0 { 0 } else { 1 + u8::from(normed.slope != 0.0) };
    // SAFETY: the caller's.
    unsafe {
        match (normed.residual.is_some(), normed.copy.is_some(), activation) {
            (false, false, 0) => normed_with::<V, false, false, 0>(rows, normed),
            (false, false, 1) => normed_with::<V, false, false, 1>(rows, normed),
            (false, false, _) => normed_with::<V, false, false, 2>(rows, normed),
            (false, true, 0) => normed_with::<V, false, true, 0>(rows, normed),
            (false, true, 1) => normed_with::<V, false, true, 1>(rows, normed),
            (false, true, _) => normed_with::<V, false, true, 2>(rows, normed),
            (true, false, 0) => normed_with::<V, true, false, 0>(rows, normed),
            (true, false, 1) => normed_with::<V, true, false, 1>(rows, normed),
            (true, false, _) => normed_with::<V, true, false, 2>(rows, normed),
            (true, true, 0) => normed_with::<V, true, true, 0>(rows, normed),
            (true, true, 1) => normed_with::<V, true, true, 1>(rows, normed),
            (true, true, _) => normed_with::<V, true, true, 2>(rows, normed),
        }
    }
}

dispatched! {
    /// A plane through batch norm and activation into a frame.
    fn normed(rows: &mut Rows<'_>, normed: &mut Normed<'_>) = normed_as
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn linearised_as<V: Lanes>(rows: &mut Rows<'_>, gradient: &[f32], x: &[f32], by: &Linearised) {
    rows.check();
    assert!(gradient.len() >= rows.len() && x.len() >= rows.len(), "whole planes");
    // SAFETY: the lengths of the planes and of the frame were checked.
    unsafe {
        let (scale, centre) = (V::load(by.scale.as_ptr()), V::load(by.centre.as_ptr()));
        let (slope, shift) = (V::load(by.slope.as_ptr()), V::load(by.shift.as_ptr()));
        for y in 0..rows.height {
            let from = y * rows.width * LANES;
            for at in (0..rows.width * LANES).step_by(LANES) {
                let distance = V::load(x.as_ptr().add(from + at)).sub(centre);
                let gradient = V::load(gradient.as_ptr().add(from + at)).fma(scale, shift);
                distance.fma(slope, gradient).store(rows.to.as_mut_ptr().add(y * rows.row + at));
            }
        }
    }
}

dispatched! {
    /// A plane's gradient before a batch norm, from that behind it, into a frame.
    fn linearised(rows: &mut Rows<'_>, gradient: &[f32], x: &[f32], by: &Linearised) = linearised_as
}

/// Where an activation's gradient is cut, and what is summed on the way.
pub(super) struct MaskedSums<'a> {
    pub(super) gradient: &'a mut [f32],
    /// The input of the batch norm; not read where nothing is summed and the mask comes from the output.
    pub(super) x: &'a [f32],
    pub(super) mask: PlaneMask<'a>,
    /// Factor of the gradient where the output is not positive.
    pub(super) slope: f32,
    /// The value subtracted from `x`, and sixteen sums of the gradient and of gradient times `x - centre`.
    pub(super) sums: Option<(&'a Channel, &'a mut [f32], &'a mut [f32])>,
}

/// Where an activation's output is known from.
#[derive(Clone, Copy)]
pub(super) enum PlaneMask<'a> {
    /// There is no activation.
    None,
    /// The output itself.
    Output(&'a [f32]),
    /// `x * scale + shift`.
    Again(&'a Channel, &'a Channel),
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn masked_with<V: Lanes, const MASK: u8, const SUMS: bool>(call: &mut MaskedSums<'_>) {
    let len = call.gradient.len();
    let gradient = call.gradient.as_mut_ptr();
    let x = call.x.as_ptr();
    // SAFETY: `masked_as` checked the lengths.
    unsafe {
        let zero = V::splat(0.0);
        let (mut output, mut scale, mut shift) = (x, zero, zero);
        match call.mask {
            PlaneMask::None => {}
            PlaneMask::Output(values) => output = values.as_ptr(),
            PlaneMask::Again(by, plus) => (scale, shift) = (V::load(by.as_ptr()), V::load(plus.as_ptr())),
        }
        let slope = V::splat(call.slope);
        let centre = call.sums.as_ref().map_or(zero, |(centre, ..)| V::load(centre.as_ptr()));
        let (mut sums, mut products) = ([zero; 4], [zero; 4]);
        let mut at = 0;
        while at < len {
            let count = ((len - at) / LANES).min(4);
            for k in 0..count {
                let at = at + k * LANES;
                let mut value = V::load(gradient.add(at));
                let input = if SUMS || MASK == 2 { V::load(x.add(at)) } else { zero };
                if MASK > 0 {
                    let output = if MASK == 1 { V::load(output.add(at)) } else { input.fma(scale, shift) };
                    value = output.positive(value, value.mul(slope));
                    value.store(gradient.add(at));
                }
                if SUMS {
                    sums[k] = sums[k].add(value);
                    products[k] = value.fma(input.sub(centre), products[k]);
                }
            }
            at += count * LANES;
        }
        if let Some((_, plain, product)) = &mut call.sums {
            sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(plain.as_mut_ptr());
            products[0].add(products[1]).add(products[2].add(products[3])).store(product.as_mut_ptr());
        }
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn masked_as<V: Lanes>(call: &mut MaskedSums<'_>) {
    let len = call.gradient.len();
    assert!(len.is_multiple_of(LANES), "whole pixels");
    let reads_x = call.sums.is_some() || matches!(call.mask, PlaneMask::Again(..));
    assert!(!reads_x || call.x.len() >= len, "a whole input");
    if let PlaneMask::Output(output) = call.mask {
        assert!(output.len() >= len, "a whole output");
    }
    if let Some((_, plain, product)) = &call.sums {
        assert!(plain.len() >= LANES && product.len() >= LANES, "room for sixteen sums");
    }
    // SAFETY: the caller's.
    unsafe {
        match (call.mask, call.sums.is_some()) {
            (PlaneMask::None, true) => masked_with::<V, 0, true>(call),
            (PlaneMask::None, false) => {}
            (PlaneMask::Output(_), true) => masked_with::<V, 1, true>(call),
            (PlaneMask::Output(_), false) => masked_with::<V, 1, false>(call),
            (PlaneMask::Again(..), true) => masked_with::<V, 2, true>(call),
            (PlaneMask::Again(..), false) => masked_with::<V, 2, false>(call),
        }
    }
}

dispatched! {
    /// The gradient before an activation, in place, and its sums, over one plane.
    fn masked_sums(call: &mut MaskedSums<'_>) = masked_as
}
