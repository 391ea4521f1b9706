//! Winograd's transforms of many squares: [`sweep`] applies a map of [`super::winograd_lines`] to every square of a
//! regular arrangement.

use std::hint::black_box;

use super::layout::LANES;
use super::simd::{Lanes, dispatched};
use super::winograd_lines::{
    Collect, Collect4, Form, Kernel, Kernel4, KernelBack, KernelBack4, LONGEST, Line, Map, Patch, Patch4,
    Spread, Spread4, UpCollect, UpKernel, UpKernelBack, UpPatch, UpSpread,
};

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

/// The gradient of [`Form::Up`]'s [`Map::Patch`]: nine gradients of every tile to those of the pixels before the
/// upsampling.
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
