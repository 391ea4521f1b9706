//! The transforms of Winograd's minimal filtering (Lavin & Gray, CVPR 2016): F(2x2, 3x3) and F(4x4, 3x3).
//!
//! All are linear maps on a small square of vectors, first along its columns and then along its rows: patches of the
//! input, spread gradients of the output, collected products, and kernels there and back.
//! [`super::winograd_kernels::sweep`] applies one to every
//! square of a regular arrangement.
//!
//! Behind a two-fold nearest upsampling the patch of a 2x2 tile is `a b b c` in each direction, so that one of four
//! products is always zero: nine products instead of sixteen for four outputs (a direct convolution has thirty-six),
//! and the upsampled map is never made. This form is ours: [`Form::Up`].

use super::simd::Lanes;

/// Which filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// F(2x2, 3x3): sixteen products for four outputs.
    Two,
    /// F(4x4, 3x3) at the points 0, 1, -1, 2, -2: thirty-six products for sixteen outputs.
    Four,
    /// F(2x2, 3x3) of a map that is upsampled twofold: nine products for four outputs.
    Up,
}

/// Which map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// A patch of pixels to factors.
    Patch,
    /// Gradients of a tile of the output to those of its products.
    Spread,
    /// Products to a tile of the output.
    Collect,
    /// A 3x3 kernel to factors.
    Kernel,
    /// Gradients of those to the kernel's.
    KernelBack,
}

impl Form {
    /// Side of a tile of the output.
    pub(super) fn tile(self) -> usize {
        if self == Self::Four { 4 } else { 2 }
    }

    /// Side of a tile's pixels in the input.
    pub(super) fn step(self) -> usize {
        if self == Self::Up { 1 } else { self.tile() }
    }

    /// Side of a tile's products.
    pub(super) fn products(self) -> usize {
        match self {
            Self::Two => 4,
            Self::Four => 6,
            Self::Up => 3,
        }
    }

    /// Sides of the squares that a map reads and writes.
    pub(super) fn sides(self, map: Map) -> (usize, usize) {
        let products = self.products();
        match map {
            Map::Patch => (products, products),
            Map::Spread => (self.tile(), products),
            Map::Collect => (products, self.tile()),
            Map::Kernel => (3, products),
            Map::KernelBack => (products, 3),
        }
    }
}

/// The longest line.
pub(super) const LONGEST: usize = 6;

/// One line of a map: of `[V; 6]`, `IN` values to `OUT`.
pub(super) trait Line<V: Lanes> {
    const IN: usize;
    const OUT: usize;
    /// # Safety
    /// `V`'s instructions.
    unsafe fn line(x: [V; LONGEST]) -> [V; LONGEST];
}

macro_rules! line {
    ($name:ident: $inputs:literal => $outputs:literal, |$x:ident, $zero:ident| $body:expr) => {
        pub(super) struct $name;
        impl<V: Lanes> Line<V> for $name {
            const IN: usize = $inputs;
            const OUT: usize = $outputs;
            #[inline(always)]
            unsafe fn line($x: [V; LONGEST]) -> [V; LONGEST] {
                // SAFETY: the caller's.
                unsafe {
                    let $zero = V::splat(0.0);
                    $body
                }
            }
        }
    };
}

line!(Patch: 4 => 4, |x, zero| {
    [x[0].sub(x[2]), x[1].add(x[2]), x[2].sub(x[1]), x[1].sub(x[3]), zero, zero]
});
line!(Spread: 2 => 4, |x, zero| [x[0], x[0].add(x[1]), x[0].sub(x[1]), zero.sub(x[1]), zero, zero]);
line!(Collect: 4 => 2, |x, zero| {
    [x[0].add(x[1]).add(x[2]), x[1].sub(x[2]).sub(x[3]), zero, zero, zero, zero]
});
line!(Kernel: 3 => 4, |x, zero| {
    let (half, ends) = (V::splat(0.5), x[0].add(x[2]));
    [x[0], ends.add(x[1]).mul(half), ends.sub(x[1]).mul(half), x[2], zero, zero]
});
line!(KernelBack: 4 => 3, |x, zero| {
    let half = V::splat(0.5);
    let (sum, difference) = (x[1].add(x[2]).mul(half), x[1].sub(x[2]).mul(half));
    [x[0].add(sum), difference, sum.add(x[3]), zero, zero, zero]
});

line!(Patch4: 6 => 6, |x, _zero| {
    let (two, four, minus_four, minus_five) = (V::splat(2.0), V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
    let (even, odd) = (x[2].fma(minus_four, x[4]), x[1].fma(minus_four, x[3]));
    let (outer, inner) = (x[4].sub(x[2]), x[3].sub(x[1]).mul(two));
    [
        x[0].fma(four, x[2].fma(minus_five, x[4])),
        even.add(odd),
        even.sub(odd),
        outer.add(inner),
        outer.sub(inner),
        x[1].fma(four, x[3].fma(minus_five, x[5])),
    ]
});
line!(Spread4: 4 => 6, |x, _zero| {
    let (two, four) = (V::splat(2.0), V::splat(4.0));
    let (even, odd) = (x[0].add(x[2]), x[1].add(x[3]));
    let (far, wide) = (x[2].fma(four, x[0]), x[3].fma(four, x[1]).mul(two));
    [x[0], even.add(odd), even.sub(odd), far.add(wide), far.sub(wide), x[3]]
});
line!(Collect4: 6 => 4, |x, zero| {
    let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
    let (near, turn) = (x[1].add(x[2]), x[1].sub(x[2]));
    let (far, swing) = (x[3].add(x[4]), x[3].sub(x[4]));
    [
        x[0].add(near).add(far),
        swing.fma(two, turn),
        far.fma(four, near),
        swing.fma(eight, turn).add(x[5]),
        zero,
        zero,
    ]
});
line!(Kernel4: 3 => 6, |x, _zero| {
    let (quarter, sixth) = (V::splat(0.25), V::splat(1.0 / 6.0));
    let (twelfth, small) = (V::splat(1.0 / 12.0), V::splat(1.0 / 24.0));
    let (near, turn) = (x[0].add(x[2]).mul(sixth), x[1].mul(sixth));
    let (far, swing) = (x[0].fma(small, x[2].mul(sixth)), x[1].mul(twelfth));
    let zero = V::splat(0.0);
    [
        x[0].mul(quarter),
        zero.sub(near.add(turn)),
        turn.sub(near),
        far.add(swing),
        far.sub(swing),
        x[2],
    ]
});
line!(KernelBack4: 6 => 3, |x, zero| {
    let (quarter, sixth) = (V::splat(0.25), V::splat(1.0 / 6.0));
    let (twelfth, small) = (V::splat(1.0 / 12.0), V::splat(1.0 / 24.0));
    let (near, turn) = (x[1].add(x[2]).mul(sixth), x[2].sub(x[1]).mul(sixth));
    let (far, swing) = (x[3].add(x[4]), x[3].sub(x[4]));
    [
        x[0].fma(quarter, far.fma(small, zero.sub(near))),
        swing.fma(twelfth, turn),
        far.fma(sixth, x[5]).sub(near),
        zero,
        zero,
        zero,
    ]
});

line!(UpPatch: 3 => 3, |x, zero| [x[0].sub(x[1]), x[1], x[1].sub(x[2]), zero, zero, zero]);
line!(UpSpread: 2 => 3, |x, zero| [x[0], x[0].add(x[1]), zero.sub(x[1]), zero, zero, zero]);
line!(UpCollect: 3 => 2, |x, zero| [x[0].add(x[1]), x[1].sub(x[2]), zero, zero, zero, zero]);
line!(UpKernel: 3 => 3, |x, zero| [x[0], x[0].add(x[1]).add(x[2]), x[2], zero, zero, zero]);
line!(UpKernelBack: 3 => 3, |x, zero| [x[0].add(x[1]), x[1], x[1].add(x[2]), zero, zero, zero]);
