//! A classifier made of class means and one covariance.
//!
//! One decision: what is kept of old classes is the mean feature of each and the covariance that all share, never an
//! image; when the backbone changes, both are carried to the new features by the affine map that fits best on images that
//! are at hand. Sums are in f64, on one thread.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_engine::Parameters;
use nalgebra::{DMatrix, DVector, RowDVector};

/// Share of the mean variance that is added to a map's normal equations: features may have directions without spread.
const RIDGE: f64 = 1e-4;

/// Means and common covariance of classes' features.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassStatistics {
    /// `[classes, width]`.
    means: DMatrix<f64>,
    /// `[width, width]`: the mean of the classes' covariances, each around its own mean.
    covariance: DMatrix<f64>,
}

impl ClassStatistics {
    /// Of each new class's features, `[images, width]`.
    ///
    /// # Errors
    /// If there is no class, or one has no image.
    pub(crate) fn of(classes: &[Tensor]) -> Result<Self> {
        let Some(first) = classes.first() else { bail!("statistics of no class") };
        let width = first.dim(1)?;
        let mut means = DMatrix::zeros(classes.len(), width);
        let mut covariance = DMatrix::zeros(width, width);
        for (class, features) in classes.iter().enumerate() {
            if features.dim(0)? == 0 {
                bail!("new class {class} has no image to take statistics of");
            }
            let (mean, centred) = centred(matrix(features)?);
            covariance += centred.tr_mul(&centred) / (centred.nrows() * classes.len()) as f64;
            means.set_row(class, &mean);
        }
        Ok(Self { means, covariance })
    }

    /// The same classes as a later backbone sees them, from the features `[images, width]` of the same images before and
    /// after: means go through the affine map that fits best, and so does the covariance, to which what the map leaves
    /// unexplained is added.
    ///
    /// # Errors
    /// If there is no image, or all are alike.
    pub(crate) fn carried(&self, before: &Tensor, after: &Tensor) -> Result<Self> {
        if before.dims() != after.dims() || before.dim(0)? == 0 {
            bail!("features before and after are {:?} and {:?}", before.dims(), after.dims());
        }
        let (from, before) = centred(matrix(before)?);
        let (to, after) = centred(matrix(after)?);
        let normal = shrunk(before.tr_mul(&before), RIDGE);
        let spread =
            "the features of the images at hand do not differ, so they do not tell how the backbone changed";
        let map = normal.cholesky().context(spread)?.solve(&before.tr_mul(&after));
        let unexplained = after - before * &map;
        let mut means = self.means.clone();
        means.row_iter_mut().for_each(|mut mean| mean -= &from);
        means *= &map;
        means.row_iter_mut().for_each(|mut mean| mean += &to);
        let residual = unexplained.tr_mul(&unexplained) / unexplained.nrows() as f64;
        Ok(Self { means, covariance: map.tr_mul(&(&self.covariance * &map)) + residual })
    }

    /// These classes and `newer` ones behind them; every class counts the same in the covariance.
    pub(crate) fn joined(&self, newer: &Self) -> Self {
        let (old, new) = (self.means.nrows() as f64, newer.means.nrows() as f64);
        let mut means = self.means.clone().resize_vertically(self.means.nrows() + newer.means.nrows(), 0.0);
        means.rows_mut(self.means.nrows(), newer.means.nrows()).copy_from(&newer.means);
        let covariance = (&self.covariance * old + &newer.covariance * new) / (old + new);
        Self { means, covariance }
    }

    /// Weights `[classes, width]` and biases `[classes]` of the linear discriminant with equal priors:
    /// `w = C^-1 m`, `b = -m C^-1 m / 2`, where `C` is the covariance and `shrinkage` times its mean variance on the
    /// diagonal. The logits are log-likelihoods but for a term that all classes share.
    ///
    /// # Errors
    /// If the covariance is not positive definite for want of shrinkage, or the device refuses the tensors.
    pub(crate) fn discriminant(&self, shrinkage: f64, device: &Device) -> Result<(Tensor, Tensor)> {
        let covariance = shrunk(self.covariance.clone(), shrinkage);
        let inverse = covariance.cholesky().with_context(|| {
            format!("the features' covariance has no inverse with discriminant.shrinkage {shrinkage}; a larger one may help")
        })?;
        // A column for each class.
        let weights = inverse.solve(&self.means.transpose());
        let bias = |class: usize| -0.5 * self.means.row(class).transpose().dot(&weights.column(class));
        let biases = DVector::from_fn(self.means.nrows(), |class, _| bias(class));
        let dims = self.means.shape();
        let weights = Tensor::from_slice(weights.as_slice(), dims, device)?.to_dtype(DType::F32)?;
        let biases = Tensor::from_slice(biases.as_slice(), dims.0, device)?.to_dtype(DType::F32)?;
        Ok((weights, biases))
    }
}

/// Names of both values where they are kept.
const MEANS: &str = "means";
const COVARIANCE: &str = "covariance";

impl ClassStatistics {
    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        (self.means.len() + self.covariance.len()) * size_of::<f64>()
    }

    /// All values by name, in f64.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub(crate) fn values(&self) -> Result<Parameters> {
        let tensor =
            |of: &DMatrix<f64>| Tensor::from_slice(of.transpose().as_slice(), of.shape(), &Device::Cpu);
        let values = [(MEANS, tensor(&self.means)?), (COVARIANCE, tensor(&self.covariance)?)];
        Ok(Parameters::from_tensors(values.map(|(name, value)| (name.to_owned(), value)).into()))
    }

    /// The statistics of `classes` classes of that width that gave `values`.
    ///
    /// # Errors
    /// If the values have another form.
    pub(crate) fn restore(values: &Parameters, classes: usize, width: usize) -> Result<Self> {
        let get = |name: &str, rows: usize| {
            let value = values.get(name)?;
            if value.dims() != [rows, width] || value.dtype() != DType::F64 {
                bail!(
                    "{name} is {:?} of {:?}; [{rows}, {width}] of F64 is right",
                    value.dims(),
                    value.dtype()
                );
            }
            matrix(value)
        };
        Ok(Self { means: get(MEANS, classes)?, covariance: get(COVARIANCE, width)? })
    }
}

/// Rows without their mean, and the mean.
fn centred(mut rows: DMatrix<f64>) -> (RowDVector<f64>, DMatrix<f64>) {
    let mean = rows.row_mean();
    rows.row_iter_mut().for_each(|mut row| row -= &mean);
    (mean, rows)
}

/// A matrix with `share` of its mean diagonal added to the diagonal.
fn shrunk(mut matrix: DMatrix<f64>, share: f64) -> DMatrix<f64> {
    let added = share * matrix.trace() / matrix.nrows() as f64;
    (0..matrix.nrows()).for_each(|at| matrix[(at, at)] += added);
    matrix
}

fn matrix(rows: &Tensor) -> Result<DMatrix<f64>> {
    let (count, width) = rows.dims2()?;
    let values = rows.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(DMatrix::from_row_slice(count, width, &values))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// As normal distributions and least squares have it in PyTorch (`tests/golden/discriminant.py`).
    const GOLDEN: &str = include_str!("../tests/golden/discriminant.json");

    fn rows(value: &Value) -> Tensor {
        let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
        let dims = (rows.len(), rows[0].len());
        Tensor::from_vec(rows.concat(), dims, &Device::Cpu).unwrap()
    }

    fn classes(value: &Value) -> Vec<Tensor> {
        value.as_array().unwrap().iter().map(rows).collect()
    }

    /// Logits less the first class's.
    fn answers(statistics: &ClassStatistics, shrinkage: f64, images: &Tensor) -> Vec<Vec<f64>> {
        let (weights, biases) = statistics.discriminant(shrinkage, &Device::Cpu).unwrap();
        let images = images.to_dtype(DType::F32).unwrap();
        let logits = images.matmul(&weights.t().unwrap()).unwrap().broadcast_add(&biases).unwrap();
        let logits = logits.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        logits.iter().map(|row| row.iter().map(|it| it - row[0]).collect()).collect()
    }

    fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>], within: f64) {
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < within * (1.0 + expected.abs()), "{found}, {expected}");
        }
    }

    #[test]
    fn logits_are_log_likelihoods_before_and_after_a_change_of_the_backbone() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let expected = |name: &str| serde_json::from_value::<Vec<Vec<f64>>>(golden[name].clone()).unwrap();
        let (shrinkage, images) = (golden["shrinkage"].as_f64().unwrap(), rows(&golden["images"]));
        let old = ClassStatistics::of(&classes(&golden["old"])).unwrap();
        // Weights are handed out in f32.
        assert_close(&answers(&old, shrinkage, &images), &expected("alone"), 1e-5);
        let after = classes(&golden["after"]);
        let newer = ClassStatistics::of(&after).unwrap();
        let carried = old.carried(&rows(&golden["before"]), &Tensor::cat(&after, 0).unwrap()).unwrap();
        assert_close(&answers(&carried.joined(&newer), shrinkage, &images), &expected("joined"), 1e-5);
    }

    #[test]
    fn a_backbone_that_stays_carries_nothing_away() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let (old, seen) = (ClassStatistics::of(&classes(&golden["old"])).unwrap(), rows(&golden["before"]));
        let carried = old.carried(&seen, &seen).unwrap();
        // The ridge shrinks by a ten-thousandth or so.
        assert!((&carried.means - &old.means).amax() < 0.002, "{}", carried.means);
        assert!((&carried.covariance - &old.covariance).amax() < 0.002 * old.covariance.amax());
        assert_ne!(carried, old);
    }

    #[test]
    fn what_is_kept_comes_back_and_other_values_are_refused() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let statistics = ClassStatistics::of(&classes(&golden["old"])).unwrap();
        let values = statistics.values().unwrap();
        assert_eq!(ClassStatistics::restore(&values, 3, 5).unwrap(), statistics);
        assert_eq!(statistics.bytes(), (3 * 5 + 5 * 5) * 8);
        for (classes, width) in [(4, 5), (3, 6)] {
            let error = ClassStatistics::restore(&values, classes, width).unwrap_err().to_string();
            assert!(error.contains("is right"), "{error}");
        }
    }

    #[test]
    fn what_has_no_statistics_is_refused() {
        let none = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
        let one = Tensor::ones((1, 5), DType::F32, &Device::Cpu).unwrap();
        assert!(ClassStatistics::of(&[]).is_err());
        assert!(
            ClassStatistics::of(&[one.clone(), none.clone()]).unwrap_err().to_string().contains("class 1")
        );
        let flat = ClassStatistics::of(&[one]).unwrap();
        assert!(flat.discriminant(0.01, &Device::Cpu).unwrap_err().to_string().contains("shrinkage"));
        assert!(flat.carried(&none, &none).is_err());
        let alike = Tensor::ones((3, 5), DType::F32, &Device::Cpu).unwrap();
        assert!(flat.carried(&alike, &alike).unwrap_err().to_string().contains("do not differ"));
    }
}
