//! Matrix products of linear layers, through the `gemm` crate.

use gemm::Parallelism;

use super::layout::LANES;

/// A row-major matrix, possibly read as its transpose.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> View<'a> {
    fn new(values: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        Self { values, rows, columns, row_step, column_step: 1 }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    fn check(&self) {
        let last = (self.rows - 1) * self.row_step + (self.columns - 1) * self.column_step;
        assert!(last < self.values.len(), "a matrix reaches past its values");
    }
}

/// `out = left * right`, rows of `out` being `step` apart; everything else in `out` becomes zero.
fn product(left: View<'_>, right: View<'_>, out: &mut [f32], step: usize) {
    out.fill(0.0);
    if left.rows == 0 || left.columns == 0 || right.columns == 0 {
        return;
    }
    assert_eq!(left.columns, right.rows, "matrices that fit");
    assert!((left.rows - 1) * step + right.columns <= out.len(), "a result that fits");
    left.check();
    right.check();
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the largest offset of each matrix was checked against its slice, and `out` is exclusive.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            step as isize,
            false,
            left.values.as_ptr(),
            left.column_step as isize,
            left.row_step as isize,
            right.values.as_ptr(),
            right.column_step as isize,
            right.row_step as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A linear layer's shape; vectors are padded to sixteen.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

impl Linear {
    /// `x W^T + b`
    pub(super) fn forward(self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let step = padded(self.outputs);
        let x = View::new(x, self.rows, self.inputs, padded(self.inputs));
        let weight = View::new(weight, self.outputs, self.inputs, self.inputs);
        product(x, weight.transposed(), out, step);
        if let Some(bias) = bias {
            for row in out.chunks_exact_mut(step) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        }
    }

    /// `dy W`
    pub(super) fn input_gradient(self, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
        let dy = View::new(dy, self.rows, self.outputs, padded(self.outputs));
        product(dy, View::new(weight, self.outputs, self.inputs, self.inputs), dx, padded(self.inputs));
    }

    /// `dy^T x`
    pub(super) fn weight_gradient(self, dy: &[f32], x: &[f32]) -> Vec<f32> {
        let mut weight = vec![0.0; self.outputs * self.inputs];
        let dy = View::new(dy, self.rows, self.outputs, padded(self.outputs));
        let x = View::new(x, self.rows, self.inputs, padded(self.inputs));
        product(dy.transposed(), x, &mut weight, self.inputs);
        weight
    }

    /// Sum of `dy` over rows.
    pub(super) fn bias_gradient(self, dy: &[f32]) -> Vec<f32> {
        let mut sums = vec![0f64; self.outputs];
        for row in dy.chunks_exact(padded(self.outputs)) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}
