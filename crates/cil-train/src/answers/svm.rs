//! Linear support vector machines, one class against the rest.
//!
//! What is minimised is scikit-learn's `LinearSVC` as FeTrIL runs it, `|w|^2 / 2 + cost sum max(0, 1 - y (w x + b))^2`
//! where `|w|^2` has `b^2` in it, by Newton's method with conjugate gradients and a line search: the loss is convex and
//! has one minimum, so the way there does not matter. Classes are independent and trained side by side, each on one
//! thread, so the numbers do not depend on how many there are.

use nalgebra::DMatrix;
use rayon::prelude::*;

/// Training ends where the gradient is this times the smaller side's share of the rows as long as at the beginning
/// (LIBLINEAR's rule and default).
const TOLERANCE: f64 = 1e-4;
/// A step's direction is found up to this share of the gradient (LIBLINEAR's).
const OF_A_STEP: f64 = 0.1;
/// Most steps; some ten are taken.
const MOST_STEPS: usize = 1000;
/// A step must lower the loss by this share of what the gradient promises.
const SUFFICIENT: f64 = 1e-4;
/// Halvings after which a step is not taken: rounding is all that is left.
const MOST_HALVINGS: usize = 40;

/// Labelled rows.
#[derive(Debug)]
pub(crate) struct Rows {
    width: usize,
    values: Vec<f32>,
    labels: Vec<usize>,
}

impl Rows {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, values: Vec::new(), labels: Vec::new() }
    }

    /// Appends rows of one class.
    pub(crate) fn add(&mut self, rows: &DMatrix<f64>, label: usize) {
        self.values.extend(rows.transpose().iter().map(|value| *value as f32));
        self.labels.extend(std::iter::repeat_n(label, rows.nrows()));
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.width..][..self.width]
    }

    /// What `w`, whose last element is the bias, says of a row.
    fn said(&self, at: usize, w: &[f64]) -> f64 {
        let sum: f64 = self.row(at).iter().zip(w).map(|(value, w)| f64::from(*value) * w).sum();
        sum + w[self.width]
    }

    /// Adds `factor` times a row and its constant to `to`.
    fn add_to(&self, at: usize, factor: f64, to: &mut [f64]) {
        for (to, value) in to.iter_mut().zip(self.row(at)) {
            *to += factor * f64::from(*value);
        }
        to[self.width] += factor;
    }
}

/// Weights `[classes, width]` and biases of every class against all others.
pub(crate) fn one_against_rest(rows: &Rows, classes: usize, cost: f64) -> (DMatrix<f64>, Vec<f64>) {
    let found: Vec<Vec<f64>> =
        (0..classes).into_par_iter().map(|class| minimum(rows, class, cost, TOLERANCE)).collect();
    let weights = DMatrix::from_fn(classes, rows.width, |class, at| found[class][at]);
    (weights, found.iter().map(|it| it[rows.width]).collect())
}

/// `[width + 1]`: weights and bias of one class.
fn minimum(rows: &Rows, class: usize, cost: f64, tolerance: f64) -> Vec<f64> {
    let signs: Vec<f64> = rows.labels.iter().map(|it| if *it == class { 1.0 } else { -1.0 }).collect();
    let positive = signs.iter().filter(|sign| **sign > 0.0).count();
    let share = positive.min(signs.len() - positive).max(1) as f64 / signs.len() as f64;
    let mut w = vec![0.0; rows.width + 1];
    let mut said = vec![0.0; signs.len()];
    let mut first = None;
    for _ in 0..MOST_STEPS {
        // Rows that are not yet on their side of the margin, and by how much.
        let short: Vec<(usize, f64)> = (0..signs.len())
            .map(|at| (at, 1.0 - signs[at] * said[at]))
            .filter(|(_, short)| *short > 0.0)
            .collect();
        let mut gradient = w.clone();
        for (at, short) in &short {
            rows.add_to(*at, -2.0 * cost * short * signs[*at], &mut gradient);
        }
        let length = dot(&gradient, &gradient).sqrt();
        let bound = tolerance * share * *first.get_or_insert(length);
        if length <= bound || length == 0.0 {
            break;
        }
        let step = direction(rows, &short, cost, &gradient);
        let moved: Vec<f64> = (0..signs.len()).map(|at| rows.said(at, &step)).collect();
        let loss = |size: f64| {
            let at = |at: usize| 1.0 - signs[at] * (said[at] + size * moved[at]);
            let hinges: f64 = (0..signs.len()).map(|it| at(it).max(0.0).powi(2)).sum();
            let squares: f64 = w.iter().zip(&step).map(|(w, step)| (w + size * step).powi(2)).sum();
            0.5 * squares + cost * hinges
        };
        let (before, slope) = (loss(0.0), dot(&gradient, &step));
        let sizes = (0..MOST_HALVINGS).map(|halvings| 0.5f64.powi(halvings as i32));
        let mut fitting = sizes.filter(|size| loss(*size) <= before + SUFFICIENT * size * slope);
        let Some(size) = fitting.next() else { break };
        w.iter_mut().zip(&step).for_each(|(w, step)| *w += size * step);
        said.iter_mut().zip(&moved).for_each(|(said, moved)| *said += size * moved);
    }
    w
}

/// The step that Newton's method takes, by conjugate gradients on `1 + 2 cost sum x x'` over the rows that count.
fn direction(rows: &Rows, short: &[(usize, f64)], cost: f64, gradient: &[f64]) -> Vec<f64> {
    let mut step = vec![0.0; gradient.len()];
    let mut left: Vec<f64> = gradient.iter().map(|it| -it).collect();
    let mut along = left.clone();
    let mut squared = dot(&left, &left);
    let enough = OF_A_STEP * OF_A_STEP * squared;
    for _ in 0..10 * gradient.len() {
        if squared <= enough {
            break;
        }
        let mut bent = along.clone();
        for (at, _) in short {
            rows.add_to(*at, 2.0 * cost * rows.said(*at, &along), &mut bent);
        }
        let size = squared / dot(&along, &bent);
        step.iter_mut().zip(&along).for_each(|(step, along)| *step += size * along);
        left.iter_mut().zip(&bent).for_each(|(left, bent)| *left -= size * bent);
        let now = dot(&left, &left);
        along.iter_mut().zip(&left).for_each(|(along, left)| *along = left + now / squared * *along);
        squared = now;
    }
    step
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Trained until nothing moves, so that what is left is the loss itself.
    pub(crate) fn exactly(rows: &Rows, classes: usize, cost: f64) -> Vec<Vec<f64>> {
        (0..classes).map(|class| minimum(rows, class, cost, 1e-12)).collect()
    }

    #[test]
    fn one_row_has_the_minimum_that_can_be_worked_out() {
        // Of |w|^2 / 2 + c (1 - 2 w)^2, with a bias for the second w: w = 2 c / (1 + 4 c).
        let mut rows = Rows::new(1);
        rows.add(&DMatrix::from_element(1, 1, 1.0), 0);
        for cost in [1e-6, 1.0, 1e6] {
            let found = minimum(&rows, 0, cost, 1e-9);
            let expected = 2.0 * cost / (1.0 + 4.0 * cost);
            assert!(found.iter().all(|it| (it - expected).abs() < 1e-6 * expected), "{found:?} {expected}");
        }
    }
}
