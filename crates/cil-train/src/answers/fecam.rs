//! FeCAM: means of features, and covariances of their powers.
//!
//! As in the released code (dipamgoswami/FeCAM at ed84615, `models/base.py`, `utils/maha_utils.py`) a mean is of
//! features as they are and is transformed afterwards, a covariance is of transformed features, and distances are
//! between directions. What is kept is in f32, covariances as triangles; they are shrunk when they are used.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use nalgebra::{DMatrix, DVector};

use super::values::{Answer, directions, kept, tensor};
use crate::discriminant::{matrix, triangle};
use crate::recipe::{Covariance, FecamSpec};

const MEANS: &str = "means";
const COVARIANCES: &str = "covariances";

/// What FeCAM keeps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fecam {
    /// `[classes, width]`, of features as they are.
    means: DMatrix<f64>,
    /// `[width, width]` of transformed features: one of each class, or one.
    covariances: Vec<DMatrix<f64>>,
    per_class: bool,
}

/// Sums around a mean of some rows.
struct Scatter {
    rows: usize,
    mean: DMatrix<f64>,
    squares: DMatrix<f64>,
}

impl Scatter {
    fn of(mut rows: DMatrix<f64>) -> Self {
        let mean = rows.row_mean();
        rows.row_iter_mut().for_each(|mut row| row -= &mean);
        let mean = DMatrix::from_row_slice(1, mean.len(), mean.as_slice());
        Self { rows: rows.nrows(), mean, squares: rows.transpose() * rows }
    }

    /// Of the rows of both.
    fn joined(&self, other: &Self) -> Self {
        let (here, there) = (self.rows as f64, other.rows as f64);
        let apart = &other.mean - &self.mean;
        let between = apart.transpose() * &apart * (here * there / (here + there));
        Self {
            rows: self.rows + other.rows,
            mean: (&self.mean * here + &other.mean * there) / (here + there),
            squares: &self.squares + &other.squares + between,
        }
    }

    /// With one degree of freedom less, as numpy's `cov`.
    fn covariance(&self) -> DMatrix<f64> {
        &self.squares / (self.rows - 1) as f64
    }
}

impl Fecam {
    /// Of each new class's features, `[images, width]`.
    ///
    /// # Errors
    /// If there is no class, or too few images for a covariance.
    pub(crate) fn of(
        spec: &FecamSpec,
        classes: impl ExactSizeIterator<Item = Result<Tensor>>,
    ) -> Result<Self> {
        let (mut means, mut covariances, mut all) = (Vec::new(), Vec::new(), None::<Scatter>);
        for (class, features) in classes.enumerate() {
            let rows = matrix(&features?)?;
            let least = if spec.covariance == Covariance::Shared { 1 } else { 2 };
            if rows.nrows() < least {
                bail!("new class {class} has {} images; its statistics need {least}", rows.nrows());
            }
            means.push(rows.row_mean());
            let scatter = Scatter::of(transformed(rows, spec.tukey));
            match spec.covariance {
                Covariance::Shared => {
                    all = Some(match all {
                        None => scatter,
                        Some(before) => before.joined(&scatter),
                    });
                }
                _ => covariances.push(scatter.covariance()),
            }
        }
        if let Some(all) = all {
            if all.rows < 2 {
                bail!("the new classes have one image together; a covariance needs 2");
            }
            covariances.push(all.covariance());
        }
        if means.is_empty() {
            bail!("statistics of no class");
        }
        let per_class = spec.covariance == Covariance::PerClass;
        if !per_class {
            let mean = covariances.iter().sum::<DMatrix<f64>>() / covariances.len() as f64;
            covariances = vec![mean];
        }
        let covariances = covariances.into_iter().map(kept_covariance).collect();
        Ok(Self { means: kept(DMatrix::from_rows(&means)), covariances, per_class })
    }

    /// These classes and `newer` ones behind them; where there is one covariance, every class counts the same in it.
    pub(crate) fn joined(&self, newer: &Self) -> Self {
        let (old, new) = (self.means.nrows(), newer.means.nrows());
        let mut means = self.means.clone().resize_vertically(old + new, 0.0);
        means.rows_mut(old, new).copy_from(&newer.means);
        let covariances = if self.per_class {
            self.covariances.iter().chain(&newer.covariances).cloned().collect()
        } else {
            let all =
                (&self.covariances[0] * old as f64 + &newer.covariances[0] * new as f64) / (old + new) as f64;
            vec![kept_covariance(all)]
        };
        Self { means, covariances, per_class: self.per_class }
    }

    /// What answers; with a covariance of each class as many rows a class as features.
    ///
    /// # Errors
    /// If a covariance has no inverse.
    pub(super) fn answer(&self, spec: &FecamSpec, shrinkage: f64) -> Result<Answer> {
        let (classes, width) = self.means.shape();
        let means = directions(transformed(self.means.clone(), spec.tukey));
        let power = spec.is_powered().then_some(spec.tukey);
        let metric = |covariance: &DMatrix<f64>| {
            let ready = prepared(covariance.clone(), spec, shrinkage)?;
            ready.cholesky().with_context(|| {
                format!(
                    "a covariance of the features has no inverse with discriminant.shrinkage {shrinkage} and \
                     fecam.off-diagonal {}; use a larger shrinkage, not below off-diagonal",
                    spec.off_diagonal
                )
            })
        };
        if !self.per_class {
            let weights = metric(&self.covariances[0])?.solve(&means.transpose()).transpose();
            let biases = (0..classes).map(|class| -0.5 * means.row(class).dot(&weights.row(class)));
            let biases = DVector::from_iterator(classes, biases);
            return Ok(Answer { weights, biases, power });
        }
        let mut weights = DMatrix::zeros(classes * width, width);
        let mut biases = DVector::zeros(classes * width);
        for (class, covariance) in self.covariances.iter().enumerate() {
            // |L^-1 (x - m)|^2 is the squared distance.
            let root = metric(covariance)?.unpack();
            let inverse = root
                .solve_lower_triangular(&DMatrix::identity(width, width))
                .context("a covariance's root has no inverse")?;
            let bias = -(&inverse * means.row(class).transpose());
            weights.rows_mut(class * width, width).copy_from(&inverse);
            biases.rows_mut(class * width, width).copy_from(&bias);
        }
        Ok(Answer { weights, biases, power })
    }

    pub(crate) fn bytes(&self) -> usize {
        let (classes, width) = self.means.shape();
        (classes * width + self.covariances.len() * triangle(width)) * size_of::<f32>()
    }

    pub(crate) fn values(&self) -> Result<[(&'static str, Tensor); 2]> {
        let width = self.means.ncols();
        let upper = |covariance: &DMatrix<f64>| -> Vec<f32> {
            let places = (0..width).flat_map(|column| (0..=column).map(move |row| (row, column)));
            places.map(|at| covariance[at] as f32).collect()
        };
        let rows: Vec<f32> = self.covariances.iter().flat_map(upper).collect();
        let dims = (self.covariances.len(), triangle(width));
        Ok([(MEANS, tensor(&self.means)?), (COVARIANCES, Tensor::from_vec(rows, dims, &Device::Cpu)?)])
    }

    pub(crate) fn restore(
        spec: &FecamSpec,
        get: impl Fn(&str, &[usize]) -> Result<Vec<f64>>,
        (classes, width): (usize, usize),
    ) -> Result<Self> {
        let per_class = spec.covariance == Covariance::PerClass;
        let count = if per_class { classes } else { 1 };
        let means = DMatrix::from_row_slice(classes, width, &get(MEANS, &[classes, width])?);
        let rows = get(COVARIANCES, &[count, triangle(width)])?;
        let covariance = |upper: &[f64]| {
            let at = |row: usize, column: usize| upper[triangle(row.max(column)) + row.min(column)];
            DMatrix::from_fn(width, width, at)
        };
        let covariances = rows.chunks_exact(triangle(width)).map(covariance).collect();
        Ok(Self { means, covariances, per_class })
    }
}

/// Tukey's transform; values are not below 0.
fn transformed(mut rows: DMatrix<f64>, power: f64) -> DMatrix<f64> {
    if power != 1.0 {
        rows.iter_mut().for_each(|value| *value = value.powf(power));
    }
    rows
}

/// Symmetric to the bit, and rounded as it is kept.
fn kept_covariance(mut covariance: DMatrix<f64>) -> DMatrix<f64> {
    covariance.fill_lower_triangle_with_upper_triangle();
    kept(covariance)
}

/// A covariance, shrunk and made correlations of as the settings say.
fn prepared(mut covariance: DMatrix<f64>, spec: &FecamSpec, shrinkage: f64) -> Result<DMatrix<f64>> {
    let width = covariance.nrows();
    for _ in 0..spec.rounds {
        let variance = covariance.trace() / width as f64;
        // As in the code, pairs that do not vary together at all do not count.
        let others = (0..width).flat_map(|row| (0..width).map(move |column| (row, column)));
        let pairs: Vec<f64> = others
            .filter(|(row, column)| row != column)
            .map(|at| covariance[at])
            .filter(|value| *value != 0.0)
            .collect();
        let shared = pairs.iter().sum::<f64>() / pairs.len().max(1) as f64;
        let (on, off) = (shrinkage * variance, spec.off_diagonal * shared);
        for row in 0..width {
            for column in 0..width {
                covariance[(row, column)] += if row == column { on } else { off };
            }
        }
    }
    if spec.correlations {
        let deviations: Vec<f64> = covariance.diagonal().iter().map(|it| it.sqrt()).collect();
        if deviations.iter().any(|it| it.is_nan() || *it <= 0.0) {
            bail!(
                "a feature does not vary within a class, and fecam.correlations is true; use a larger \
                 discriminant.shrinkage than {shrinkage}"
            );
        }
        for row in 0..width {
            for column in 0..width {
                covariance[(row, column)] /= deviations[row] * deviations[column];
            }
        }
    }
    Ok(covariance)
}

#[cfg(test)]
mod tests;
