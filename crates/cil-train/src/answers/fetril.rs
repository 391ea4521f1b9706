//! FeTrIL: features of old classes are those of the most similar new class, moved to the old class's mean.
//!
//! It keeps the mean of each class's features, in f32, and the classifier is trained anew in every task, on the
//! task's features and the moved ones, all brought to length 1 (Petit et al., WACV 2023; PyCIL's `models/fetril.py`,
//! which takes the most similar class by cosine, as the paper does).

use anyhow::{Result, bail};
use candle_core::Tensor;
use nalgebra::{DMatrix, DVector, RowDVector};

use super::svm::{Rows, one_against_rest};
use super::values::{Answer, directions, kept, tensor};
use crate::discriminant::matrix;

const MEANS: &str = "means";
const WEIGHTS: &str = "weights";
const BIASES: &str = "biases";

/// What FeTrIL keeps, and the classifier of the newest task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fetril {
    /// `[classes, width]`, of features as they are.
    means: DMatrix<f64>,
    /// `[classes, width]`.
    weights: DMatrix<f64>,
    biases: DVector<f64>,
}

impl Fetril {
    /// After a task of these features, `[images, width]` of each new class, and what was kept before it; `cost` is that
    /// of a squared hinge beside half the squared weights.
    ///
    /// # Errors
    /// If there is no class, or one has no image.
    pub(crate) fn after(
        before: Option<&Self>,
        classes: impl ExactSizeIterator<Item = Result<Tensor>>,
        cost: f64,
    ) -> Result<Self> {
        let mut features = Vec::new();
        for (class, of_class) in classes.enumerate() {
            let of_class = matrix(&of_class?)?;
            if of_class.nrows() == 0 {
                bail!("new class {class} has no image to take a mean of");
            }
            features.push(of_class);
        }
        if features.is_empty() {
            bail!("a classifier of no class");
        }
        let own: Vec<RowDVector<f64>> = features.iter().map(DMatrix::row_mean).collect();
        let newest = kept(DMatrix::from_rows(&own));
        let old = before.map_or(0, |it| it.means.nrows());
        let mut means = newest.clone().insert_rows(0, old, 0.0);
        if let Some(before) = before {
            means.rows_mut(0, old).copy_from(&before.means);
        }
        let nearest = most_similar(&means.rows(0, old).into_owned(), &newest);
        let mut rows = Rows::new(means.ncols());
        for (class, similar) in nearest.into_iter().enumerate() {
            let moved_by = means.row(class) - &own[similar];
            let mut moved = features[similar].clone();
            moved.row_iter_mut().for_each(|mut row| row += &moved_by);
            rows.add(&directions(moved), class);
        }
        for (at, of_class) in features.into_iter().enumerate() {
            rows.add(&directions(of_class), old + at);
        }
        let (weights, biases) = one_against_rest(&rows, means.nrows(), cost);
        let biases =
            DVector::from_column_slice(kept(DMatrix::from_row_slice(1, biases.len(), &biases)).as_slice());
        Ok(Self { means, weights: kept(weights), biases })
    }

    pub(super) fn answer(&self) -> Answer {
        Answer { weights: self.weights.clone(), biases: self.biases.clone(), power: None }
    }

    /// The classifier is not kept: the next task trains another one.
    pub(crate) fn bytes(&self) -> usize {
        self.means.len() * size_of::<f32>()
    }

    pub(crate) fn values(&self) -> Result<[(&'static str, Tensor); 3]> {
        let biases = DMatrix::from_row_slice(1, self.biases.len(), self.biases.as_slice());
        Ok([
            (MEANS, tensor(&self.means)?),
            (WEIGHTS, tensor(&self.weights)?),
            (BIASES, tensor(&biases)?.flatten_all()?),
        ])
    }

    pub(crate) fn restore(
        get: impl Fn(&str, &[usize]) -> Result<Vec<f64>>,
        (classes, width): (usize, usize),
    ) -> Result<Self> {
        let rows = |name: &str| -> Result<DMatrix<f64>> {
            Ok(DMatrix::from_row_slice(classes, width, &get(name, &[classes, width])?))
        };
        let biases = DVector::from_vec(get(BIASES, &[classes])?);
        Ok(Self { means: rows(MEANS)?, weights: rows(WEIGHTS)?, biases })
    }
}

/// Of each old mean the new one of the largest cosine, the first of equals.
fn most_similar(old: &DMatrix<f64>, new: &DMatrix<f64>) -> Vec<usize> {
    let cosines = directions(old.clone()) * directions(new.clone()).transpose();
    let best = |row: usize| {
        (1..cosines.ncols())
            .fold(0, |best, at| if cosines[(row, at)] > cosines[(row, best)] { at } else { best })
    };
    (0..cosines.nrows()).map(best).collect()
}

#[cfg(test)]
mod tests;
