//! The regression itself.
//!
//! It is convex and small, so it is solved in f64 on one thread, by steps that a bound of the Hessian
//! makes safe (Böhning 1992) and that Nesterov's momentum makes fast: no step size, no seed, no batch.

use anyhow::{Context, Result, bail};
use nalgebra::{DMatrix, DVector};

use crate::recipe::LogisticSpec;

/// Most steps of a regression; a few hundred are usual.
const STEPS: usize = 1000;
/// Change of the largest weight, from one step to the next, at which a regression ends.
const SETTLED: f64 = 1e-5;
/// Parts of a cross-validation.
pub(super) const PARTS: usize = 4;
/// Penalty on biases: so little that it only makes them unique.
const PENALTY_OF_BIASES: f64 = 1e-9;

/// The data that new weights are fitted to.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// `[images, width]`.
    pub(super) features: DMatrix<f64>,
    /// `[images, old classes]`: logits of the old classes.
    pub(super) old: DMatrix<f64>,
    /// Class of each image, old classes first.
    pub(super) classes: Vec<usize>,
}

/// Weights and biases of new classes.
#[derive(Clone, Debug)]
pub(super) struct NewRows {
    /// `[new classes, width]`.
    pub(super) weights: DMatrix<f64>,
    /// `[new classes]`.
    pub(super) biases: DVector<f64>,
}

impl Seen {
    /// Rows at these places.
    fn part(&self, places: &[usize]) -> Self {
        Self {
            features: self.features.select_rows(places),
            old: self.old.select_rows(places),
            classes: places.iter().map(|at| self.classes[*at]).collect(),
        }
    }

    /// `[images]`: every class counts the same, and all together 1.
    fn weights(&self, classes: usize) -> Result<DVector<f64>> {
        let mut counts = vec![0usize; classes];
        self.classes.iter().for_each(|class| counts[*class] += 1);
        if let Some(class) = (self.old.ncols()..classes).find(|class| counts[*class] == 0) {
            bail!(
                "class {class} has no image that its weights could be fitted to; it needs {PARTS} at least"
            );
        }
        let there = counts.iter().filter(|count| **count > 0).count() as f64;
        let of = |class: &usize| 1.0 / (counts[*class] as f64 * there);
        Ok(DVector::from_iterator(self.classes.len(), self.classes.iter().map(of)))
    }

    /// The weights and biases of `n_new` classes that minimise the cross-entropy of the softmax over all classes, every
    /// class counting the same, plus `penalty / 2` times the squared weights of features brought to mean 0 and a mean
    /// deviation of 1.
    ///
    /// # Errors
    /// If a new class has no image, or the features have no spread.
    pub(super) fn fitted(&self, n_new: usize, penalty: f64) -> Result<NewRows> {
        let n_old = self.old.ncols();
        let share = self.weights(n_old + n_new)?;
        let (mean, deviation) =
            (self.features.row_mean(), self.features.row_variance().map(f64::sqrt).mean());
        if !(deviation.is_finite() && deviation > 0.0) {
            bail!("the features of all images are equal, so new classes cannot be separated from old ones");
        }
        let width = self.features.ncols();
        // A column of ones behind the features: the bias.
        let inputs = DMatrix::from_fn(self.features.nrows(), width + 1, |row, column| match column < width {
            true => (self.features[(row, column)] - mean[column]) / deviation,
            false => 1.0,
        });
        let mut weighted = inputs.clone();
        weighted.row_iter_mut().zip(share.iter()).for_each(|(mut row, share)| row *= *share);
        let ridge = DVector::from_fn(width + 1, |at, _| if at < width { penalty } else { PENALTY_OF_BIASES });
        // The softmax's Hessian is never above half the inputs' squares.
        let bound = inputs.transpose() * &weighted * 0.5 + DMatrix::from_diagonal(&ridge);
        let bound =
            bound.cholesky().context("the features of the images have no spread in some direction")?;
        let gradient = |at: &DMatrix<f64>| {
            let residual = self.residuals(&(&inputs * at), n_old);
            let mut found = weighted.transpose() * residual;
            found.column_iter_mut().zip(at.column_iter()).for_each(|(mut it, at)| {
                it += at.component_mul(&ridge);
            });
            found
        };
        let solved = nesterov(DMatrix::zeros(width + 1, n_new), |at| bound.solve(&gradient(at)));
        let weights = solved.rows(0, width).transpose() / deviation;
        let biases = solved.row(width).transpose() - &weights * mean.transpose();
        Ok(NewRows { weights, biases })
    }

    /// `[images, new classes]`: probabilities less the labels.
    fn residuals(&self, new: &DMatrix<f64>, n_old: usize) -> DMatrix<f64> {
        let mut residuals = new.clone();
        for (row, class) in self.classes.iter().enumerate() {
            let largest = self.old.row(row).max().max(new.row(row).max());
            let old: f64 = self.old.row(row).iter().map(|logit| (logit - largest).exp()).sum();
            let mut found = residuals.row_mut(row);
            found.apply(|logit| *logit = (*logit - largest).exp());
            let sum = old + found.sum();
            found /= sum;
            if let Some(own) = class.checked_sub(n_old) {
                found[own] -= 1.0;
            }
        }
        residuals
    }

    /// [`Self::fitted`], its biases lowered by as much as costs `given-up` of the new images that have the best score
    /// of the new classes, which is counted on images that cross-validation left out.
    ///
    /// # Errors
    /// As [`Self::fitted`], in each part.
    pub(super) fn calibrated(&self, n_new: usize, spec: &LogisticSpec) -> Result<NewRows> {
        let (n_old, mut leads) = (self.old.ncols(), Vec::new());
        let parts = self.parts(n_old + n_new);
        for part in 0..PARTS {
            let (out, within): (Vec<usize>, Vec<usize>) =
                (0..self.classes.len()).partition(|row| parts[*row] == Some(part));
            let rows = self.part(&within).fitted(n_new, spec.penalty)?;
            let left_out = self.part(&out);
            let scores = rows.scores(&left_out.features);
            for (row, class) in left_out.classes.iter().enumerate() {
                let (best, score) = scores.row(row).transpose().argmax();
                if *class == n_old + best {
                    leads.push(score - left_out.old.row(row).max());
                }
            }
        }
        let mut rows = self.fitted(n_new, spec.penalty)?;
        rows.biases.add_scalar_mut(-lowered(leads, spec.given_up));
        Ok(rows)
    }

    /// The part of the cross-validation that each image is left out in: none of a class that has fewer images than
    /// parts.
    fn parts(&self, classes: usize) -> Vec<Option<usize>> {
        let mut counts = vec![0usize; classes];
        self.classes.iter().for_each(|class| counts[*class] += 1);
        let mut places = vec![0usize; classes];
        let place = |class: &usize| {
            places[*class] += 1;
            (counts[*class] >= PARTS).then(|| places[*class] % PARTS)
        };
        self.classes.iter().map(place).collect()
    }
}

impl NewRows {
    /// `[images, new classes]`: logits.
    fn scores(&self, features: &DMatrix<f64>) -> DMatrix<f64> {
        let mut scores = features * self.weights.transpose();
        scores.row_iter_mut().for_each(|mut row| row += self.biases.transpose());
        scores
    }
}

/// The amount by which biases are lowered, not below 0, from how far the best new logit leads the best old one, of new
/// images that have the best score of the new classes: as much as `given_up` of them may be lost by.
fn lowered(mut leads: Vec<f64>, given_up: f64) -> f64 {
    leads.sort_by(f64::total_cmp);
    // A share such as 0.1 has no exact form: 0.1 * 30 must be 3.
    let lost = (given_up * leads.len() as f64 + 1e-9).floor() as usize;
    // Just below the first that must not be lost.
    leads.get(lost).map_or(0.0, |lead| lead.next_down().max(0.0))
}

/// The place where `step` is 0, from `begin` on: `step` is a gradient through the inverse of a bound of its Hessian.
/// The momentum restarts where it points uphill (O'Donoghue and Candès 2015).
fn nesterov(begin: DMatrix<f64>, step: impl Fn(&DMatrix<f64>) -> DMatrix<f64>) -> DMatrix<f64> {
    let (mut at, mut ahead, mut momentum) = (begin.clone(), begin, 1.0f64);
    for _ in 0..STEPS {
        let down = step(&ahead);
        let next = &ahead - &down;
        let moved = &next - &at;
        if moved.amax() < SETTLED && down.amax() < SETTLED {
            return next;
        }
        if down.dot(&moved) > 0.0 {
            (momentum, ahead) = (1.0, next.clone());
        } else {
            let larger = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
            ahead = &next + &moved * ((momentum - 1.0) / larger);
            momentum = larger;
        }
        at = next;
    }
    at
}

#[cfg(test)]
mod tests;
