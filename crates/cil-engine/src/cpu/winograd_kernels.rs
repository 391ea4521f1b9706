//! The transforms of Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, CVPR 2016).
//!
//! All are linear maps on a small square of vectors, first along its columns and then along its rows: patches of the
//! input, spread gradients of the output, collected products, and kernels there and back. [`sweep`] applies one to every
//! square of a regular arrangement.
//!
//! Behind a two-fold nearest upsampling the patch of a tile is `a b b c` in each direction, so that one of four products
//! is always zero: nine products instead of sixteen for four outputs (a direct convolution has thirty-six), and the
//! upsampled map is never made. This form is ours; the shapes with `Up` are its maps.

use super::layout::LANES;
use super::simd::{Lanes, dispatched};

/// Which map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// A patch of 4x4 pixels to sixteen factors.
    Patch,
    /// A patch of 3x3 pixels before the upsampling to nine factors.
    UpPatch,
    /// 2x2 gradients of the output to those of sixteen products.
    Spread,
    /// The same of nine.
    UpSpread,
    /// Sixteen products to 2x2 outputs.
    Collect,
    /// Nine products to 2x2 outputs.
    UpCollect,
    /// A 3x3 kernel to sixteen factors.
    Kernel,
    /// To nine.
    UpKernel,
    /// Sixteen gradients to those of the kernel.
    KernelBack,
    /// Nine.
    UpKernelBack,
}

impl Map {
    /// Sides of the squares that it reads and writes.
    pub(super) fn sides(self) -> (usize, usize) {
        match self {
            Self::Patch => (4, 4),
            Self::UpPatch | Self::UpKernel | Self::UpKernelBack => (3, 3),
            Self::Spread => (2, 4),
            Self::UpSpread => (2, 3),
            Self::Collect => (4, 2),
            Self::UpCollect => (3, 2),
            Self::Kernel => (3, 4),
            Self::KernelBack => (4, 3),
        }
    }
}

/// One line of a map: `[V; 4]` with `IN` values to one with `OUT`.
trait Line<V: Lanes> {
    const IN: usize;
    const OUT: usize;
    /// # Safety
    /// `V`'s instructions.
    unsafe fn line(x: [V; 4]) -> [V; 4];
}

macro_rules! line {
    ($name:ident: $inputs:literal => $outputs:literal, |$x:ident, $zero:ident| $body:expr) => {
        struct $name;
        impl<V: Lanes> Line<V> for $name {
            const IN: usize = $inputs;
            const OUT: usize = $outputs;
            #[inline(always)]
            unsafe fn line($x: [V; 4]) -> [V; 4] {
                // SAFETY: the caller's.
                unsafe {
                    let $zero = V::splat(0.0);
                    $body
                }
            }
        }
    };
}

line!(Patch: 4 => 4, |x, _zero| [x[0].sub(x[2]), x[1].add(x[2]), x[2].sub(x[1]), x[1].sub(x[3])]);
line!(UpPatch: 3 => 3, |x, zero| [x[0].sub(x[1]), x[1], x[1].sub(x[2]), zero]);
line!(Spread: 2 => 4, |x, zero| [x[0], x[0].add(x[1]), x[0].sub(x[1]), zero.sub(x[1])]);
line!(UpSpread: 2 => 3, |x, zero| [x[0], x[0].add(x[1]), zero.sub(x[1]), zero]);
line!(Collect: 4 => 2, |x, zero| [x[0].add(x[1]).add(x[2]), x[1].sub(x[2]).sub(x[3]), zero, zero]);
line!(UpCollect: 3 => 2, |x, zero| [x[0].add(x[1]), x[1].sub(x[2]), zero, zero]);
line!(Kernel: 3 => 4, |x, _zero| {
    let (half, ends) = (V::splat(0.5), x[0].add(x[2]));
    [x[0], ends.add(x[1]).mul(half), ends.sub(x[1]).mul(half), x[2]]
});
line!(UpKernel: 3 => 3, |x, zero| [x[0], x[0].add(x[1]).add(x[2]), x[2], zero]);
line!(KernelBack: 4 => 3, |x, zero| {
    let half = V::splat(0.5);
    let (sum, difference) = (x[1].add(x[2]).mul(half), x[1].sub(x[2]).mul(half));
    [x[0].add(sum), difference, sum.add(x[3]), zero]
});
line!(UpKernelBack: 3 => 3, |x, zero| [x[0].add(x[1]), x[1], x[1].add(x[2]), zero]);

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

/// # Safety
/// `V`'s instructions; addresses that [`sweep`] checks.
#[inline(always)]
unsafe fn square<V: Lanes, L: Line<V>>(from: *const f32, [row, column]: [usize; 2]) -> [[V; 4]; 4] {
    // SAFETY: the caller's.
    unsafe {
        let zero = V::splat(0.0);
        let (mut half, mut full) = ([[zero; 4]; 4], [[zero; 4]; 4]);
        for j in 0..L::IN {
            let mut line = [zero; 4];
            for (i, value) in line.iter_mut().enumerate().take(L::IN) {
                *value = V::load(from.add(i * row + j * column));
            }
            let line = L::line(line);
            for (half, value) in half.iter_mut().zip(line).take(L::OUT) {
                half[j] = value;
            }
        }
        for (full, half) in full.iter_mut().zip(half).take(L::OUT) {
            *full = L::line(half);
        }
        full
    }
}

/// # Safety
/// `V`'s instructions; addresses that [`sweep`] checks.
#[inline(always)]
unsafe fn sweep_with<V: Lanes, L: Line<V>>(call: &mut Sweep<'_>) {
    let (from, to) = (call.from.as_ptr(), call.to.as_mut_ptr());
    let (from_at, to_at) = (call.from_at, call.to_at);
    for a in 0..call.counts[0] {
        for b in 0..call.counts[1] {
            let rows = (call.limits[0] - b * L::OUT).min(L::OUT);
            for c in 0..call.counts[2] {
                let columns = (call.limits[1] - c * L::OUT).min(L::OUT);
                let offset = |at: &Squares| at.start + a * at.steps[0] + b * at.steps[1] + c * at.steps[2];
                // SAFETY: the caller's; rows and columns are at most those of a square.
                unsafe {
                    let values = square::<V, L>(from.add(offset(&from_at)), from_at.inner);
                    let to = to.add(offset(&to_at));
                    if rows == L::OUT && columns == L::OUT && !call.add {
                        for (i, values) in values.iter().enumerate().take(L::OUT) {
                            for (j, value) in values.iter().enumerate().take(L::OUT) {
                                value.store(to.add(i * to_at.inner[0] + j * to_at.inner[1]));
                            }
                        }
                        continue;
                    }
                    for (i, values) in values.iter().enumerate().take(rows) {
                        for (j, value) in values.iter().enumerate().take(columns) {
                            let to = to.add(i * to_at.inner[0] + j * to_at.inner[1]);
                            let value = if call.add { value.add(V::load(to)) } else { *value };
                            value.store(to);
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// `V`'s instructions.
#[inline(always)]
unsafe fn sweep_as<V: Lanes>(call: &mut Sweep<'_>) {
    let (inputs, outputs) = call.map.sides();
    let counts = call.counts;
    if counts.contains(&0) {
        return;
    }
    for (count, limit) in counts[1..].iter().zip(call.limits) {
        assert!((count - 1) * outputs < limit, "a square that is cut away");
    }
    assert!(call.from_at.end(counts, inputs) <= call.from.len(), "input too short");
    // Where squares are cut, the last one may end before its full side.
    let cut = |axis: usize| (counts[axis + 1] * outputs).saturating_sub(call.limits[axis]);
    let missing = cut(0) * call.to_at.inner[0] + cut(1) * call.to_at.inner[1];
    assert!(call.to_at.end(counts, outputs) - missing <= call.to.len(), "output too short");
    // SAFETY: the first and the last address of either side were checked, and steps are not negative.
    unsafe {
        match call.map {
            Map::Patch => sweep_with::<V, Patch>(call),
            Map::UpPatch => sweep_with::<V, UpPatch>(call),
            Map::Spread => sweep_with::<V, Spread>(call),
            Map::UpSpread => sweep_with::<V, UpSpread>(call),
            Map::Collect => sweep_with::<V, Collect>(call),
            Map::UpCollect => sweep_with::<V, UpCollect>(call),
            Map::Kernel => sweep_with::<V, Kernel>(call),
            Map::UpKernel => sweep_with::<V, UpKernel>(call),
            Map::KernelBack => sweep_with::<V, KernelBack>(call),
            Map::UpKernelBack => sweep_with::<V, UpKernelBack>(call),
        }
    }
}

dispatched! {
    /// Applies one map to every square.
    fn sweep(call: &mut Sweep<'_>) = sweep_as
}

/// The gradient of [`Map::UpPatch`]: nine gradients of every tile to those of the pixels before the upsampling.
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
    /// The gradient of [`Map::UpPatch`].
    fn unpatch(call: &mut Unpatch<'_>) = unpatch_as
}
