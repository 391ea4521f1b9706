//! The transforms of Winograd's minimal filtering (Lavin & Gray, CVPR 2016): F(2x2, 3x3) and F(4x4, 3x3).
//!
//! All are linear maps on a small square of vectors, first along its columns and then along its rows: patches of the
//! input, spread gradients of the output, collected products, and kernels there and back. [`sweep`] applies one to every
//! square of a regular arrangement.
//!
//! Behind a two-fold nearest upsampling the patch of a 2x2 tile is `a b b c` in each direction, so that one of four
//! products is always zero: nine products instead of sixteen for four outputs (a direct convolution has thirty-six), and
//! the upsampled map is never made. This form is ours: [`Form::Up`].

use std::hint::black_box;

use super::layout::LANES;
use super::simd::{Lanes, dispatched};

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
const LONGEST: usize = 6;

/// One line of a map: of `[V; 6]`, `IN` values to `OUT`.
trait Line<V: Lanes> {
    const IN: usize;
    const OUT: usize;
    /// # Safety
    /// `V`'s instructions.
    unsafe fn line(x: [V; LONGEST]) -> [V; LONGEST];
}

macro_rules! line {
    ($name:ident: $inputs:literal => $outputs:literal, |$x:ident, $zero:ident| $body:expr) => {
        struct $name;
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

/// Where squares of vectors lie: distances in values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squares {
    /// First value of the first square.
    pub(super) start: usize,
    /// From one square to the next along each of the three counts.
    pub(super) steps: [usize; 3],
    /// From one row and one column of a square to the next.
    pub(super) inner: [usize; 2],
}

impl Squares {
    /// One past the last value of squares of that side; `counts` are not zero.
    fn end(&self, counts: [usize; 3], side: usize) -> usize {
        let outer: usize = self.steps.iter().zip(counts).map(|(step, count)| step * (count - 1)).sum();
        self.start + outer + (side - 1) * (self.inner[0] + self.inner[1]) + LANES
    }
}

/// One map of many squares.
pub(super) struct Sweep<'a> {
    pub(super) form: Form,
    pub(super) map: Map,
    pub(super) counts: [usize; 3],
    pub(super) from: &'a [f32],
    pub(super) from_at: Squares,
    pub(super) to: &'a mut [f32],
    pub(super) to_at: Squares,
    /// Rows and columns that there are in all, where the last squares along the second and third count reach past them.
    pub(super) limits: [usize; 2],
    /// Whether the result is added to what is there.
    pub(super) add: bool,
}

/// One square, along its rows first. `FROM` and `TO` are the distances between columns where they are known, else 0.
///
/// # Safety
/// `V`'s instructions; addresses that [`sweep`] checks, for the given rows and columns of the result.
#[inline(always)]
unsafe fn square<V: Lanes, L: Line<V>, const FROM: usize, const TO: usize>(
    (from, from_inner): (*const f32, [usize; 2]),
    (to, to_inner): (*mut f32, [usize; 2]),
    (rows, columns): (usize, usize),
    add: bool,
) {
    // Opaque, or the compiler keeps the address of every vector of the square over the whole loop, and spills them.
    let ([from_row, from_column], [to_row, to_column]) = black_box((from_inner, to_inner));
    let from_column = if FROM == 0 { from_column } else { FROM };
    let to_column = if TO == 0 { to_column } else { TO };
    // SAFETY: the caller's.
    unsafe {
        let zero = V::splat(0.0);
        let mut half = [[zero; LONGEST]; LONGEST];
        for (i, half) in half.iter_mut().enumerate().take(L::IN) {
            let from = from.add(i * from_row);
            let mut line = [zero; LONGEST];
            for (j, value) in line.iter_mut().enumerate().take(L::IN) {
                *value = V::load(from.add(j * from_column));
            }
            *half = L::line(line);
        }
        for j in 0..L::OUT {
            let mut line = [zero; LONGEST];
            for (value, half) in line.iter_mut().zip(&half).take(L::IN) {
                *value = half[j];
            }
            let line = L::line(line);
            let to = to.add(j * to_column);
            if rows == L::OUT && columns == L::OUT && !add {
                for (i, value) in line.iter().enumerate().take(L::OUT) {
                    value.store(to.add(i * to_row));
                }
                continue;
            }
            for (i, value) in line.iter().enumerate().take(L::OUT) {
                if i < rows && j < columns {
                    let to = to.add(i * to_row);
                    let value = if add { value.add(V::load(to)) } else { *value };
                    value.store(to);
                }
            }
        }
    }
}

/// # Safety
/// `V`'s instructions; addresses that [`sweep`] checks.
#[inline(always)]
unsafe fn sweep_with<V: Lanes, L: Line<V>, const FROM: usize, const TO: usize>(call: &mut Sweep<'_>) {
    let (from, to) = (call.from.as_ptr(), call.to.as_mut_ptr());
    let (from_at, to_at) = (call.from_at, call.to_at);
    let offset = |at: &Squares, a: usize, b: usize| at.start + a * at.steps[0] + b * at.steps[1];
    for a in 0..call.counts[0] {
        for b in 0..call.counts[1] {
            let rows = (call.limits[0] - b * L::OUT).min(L::OUT);
            // SAFETY: the caller's; rows and columns are at most those of a square.
            unsafe {
                let mut from = from.add(offset(&from_at, a, b));
                let mut to = to.add(offset(&to_at, a, b));
                for c in 0..call.counts[2] {
                    let columns = (call.limits[1] - c * L::OUT).min(L::OUT);
                    square::<V, L, FROM, TO>(
                        (from, from_at.inner),
                        (to, to_at.inner),
                        (rows, columns),
                        call.add,
                    );
                    from = from.wrapping_add(from_at.steps[2]);
                    to = to.wrapping_add(to_at.steps[2]);
                }
            }
        }
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn sweep_as<V: Lanes>(call: &mut Sweep<'_>) {
    let (inputs, outputs) = call.form.sides(call.map);
    let counts = call.counts;
    if counts.contains(&0) {
        return;
    }
    for (count, limit) in counts[1..].iter().zip(call.limits) {
        assert!((count - 1) * outputs < limit, "a square that is cut away");
    }
    let known = |at: &Squares, map: bool| !map || at.inner[1] == LANES;
    let (read, written) = (matches!(call.map, Map::Patch | Map::Spread), call.map == Map::Collect);
    assert!(known(&call.from_at, read) && known(&call.to_at, written), "pixels lie side by side");
    assert!(call.from_at.end(counts, inputs) <= call.from.len(), "input too short");
    // Where squares are cut, the last one may end before its full side.
    let cut = |axis: usize| (counts[axis + 1] * outputs).saturating_sub(call.limits[axis]);
    let missing = cut(0) * call.to_at.inner[0] + cut(1) * call.to_at.inner[1];
    assert!(call.to_at.end(counts, outputs) - missing <= call.to.len(), "output too short");
    // SAFETY: the first and the last address of either side were checked, and steps are not negative.
    unsafe {
        match (call.form, call.map) {
            (Form::Two, Map::Patch) => sweep_with::<V, Patch, LANES, 0>(call),
            (Form::Two, Map::Spread) => sweep_with::<V, Spread, LANES, 0>(call),
            (Form::Two, Map::Collect) => sweep_with::<V, Collect, 0, LANES>(call),
            (Form::Two, Map::Kernel) => sweep_with::<V, Kernel, 0, 0>(call),
            (Form::Two, Map::KernelBack) => sweep_with::<V, KernelBack, 0, 0>(call),
            (Form::Four, Map::Patch) => sweep_with::<V, Patch4, LANES, 0>(call),
            (Form::Four, Map::Spread) => sweep_with::<V, Spread4, LANES, 0>(call),
            (Form::Four, Map::Collect) => sweep_with::<V, Collect4, 0, LANES>(call),
            (Form::Four, Map::Kernel) => sweep_with::<V, Kernel4, 0, 0>(call),
            (Form::Four, Map::KernelBack) => sweep_with::<V, KernelBack4, 0, 0>(call),
            (Form::Up, Map::Patch) => sweep_with::<V, UpPatch, LANES, 0>(call),
            (Form::Up, Map::Spread) => sweep_with::<V, UpSpread, LANES, 0>(call),
            (Form::Up, Map::Collect) => sweep_with::<V, UpCollect, 0, LANES>(call),
            (Form::Up, Map::Kernel) => sweep_with::<V, UpKernel, 0, 0>(call),
            (Form::Up, Map::KernelBack) => sweep_with::<V, UpKernelBack, 0, 0>(call),
        }
    }
}

dispatched! {
    /// Applies one map to every square.
    fn sweep(call: &mut Sweep<'_>) = sweep_as
}

/// The gradient of [`Form::Up`]'s [`Map::Patch`]: nine gradients of every tile to those of the pixels before the upsampling.
pub(super) struct Unpatch<'a> {
    /// `[3 x 3][blocks][tiles][16]`
    pub(super) from: &'a [f32],
    /// From one of the nine to the next.
    pub(super) position: usize,
    /// From one group of channels to the next, in `from`.
    pub(super) plane: usize,
    pub(super) blocks: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// `[blocks][rows][columns][16]`
    pub(super) to: &'a mut [f32],
    /// Room for three rows.
    pub(super) scratch: &'a mut [f32],
    pub(super) add: bool,
}

/// What a pixel receives along one line: from the next tile's first, its own three, and the last of the tile before.
///
/// # Safety
/// `V`'s instructions; `at(k, distance)` gives a valid address for every distance that is there.
#[inline(always)]
unsafe fn unpatch_line<V: Lanes>(before: bool, after: bool, at: impl Fn(usize, isize) -> *const f32) -> V {
    // SAFETY: the caller's.
    unsafe {
        let mut sum = V::load(at(1, 0)).sub(V::load(at(0, 0))).add(V::load(at(2, 0)));
        if after {
            sum = sum.add(V::load(at(0, 1)));
        }
        if before {
            sum = sum.sub(V::load(at(2, -1)));
        }
        sum
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn unpatch_as<V: Lanes>(call: &mut Unpatch<'_>) {
    let (rows, columns) = (call.rows, call.columns);
    let (plane, line) = (rows * columns * LANES, columns * LANES);
    assert!(rows > 0 && columns > 0 && call.blocks > 0, "an empty map");
    assert!(8 * call.position + (call.blocks - 1) * call.plane + plane <= call.from.len(), "input too short");
    assert!(call.blocks * plane <= call.to.len() && 3 * line <= call.scratch.len(), "output too short");
    for block in 0..call.blocks {
        for y in 0..rows {
            // SAFETY: rows and columns stay inside the map, and the ends were checked.
            unsafe {
                for k in 0..3 {
                    for x in 0..columns {
                        let from = call.from.as_ptr().add(block * call.plane + y * line + x * LANES);
                        let sum = unpatch_line::<V>(y > 0, y + 1 < rows, |i, distance| {
                            from.add((3 * i + k) * call.position).offset(distance * line as isize)
                        });
                        sum.store(call.scratch.as_mut_ptr().add(k * line + x * LANES));
                    }
                }
                for x in 0..columns {
                    let scratch = call.scratch.as_ptr().add(x * LANES);
                    let mut sum = unpatch_line::<V>(x > 0, x + 1 < columns, |k, distance| {
                        scratch.add(k * line).offset(distance * LANES as isize)
                    });
                    let to = call.to.as_mut_ptr().add(block * plane + y * line + x * LANES);
                    if call.add {
                        sum = sum.add(V::load(to));
                    }
                    sum.store(to);
                }
            }
        }
    }
}

dispatched! {
    /// The gradient of [`Form::Up`]'s [`Map::Patch`].
    fn unpatch(call: &mut Unpatch<'_>) = unpatch_as
}
