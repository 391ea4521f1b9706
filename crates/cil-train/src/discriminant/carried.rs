//! Statistics of old classes as a later backbone sees them.
//!
//! What is known of the change are features of the same images before and after it, `[images, width]` each. How it is
//! applied to means that no image is left of is a method's choice ([`crate::recipe::Carry`]).

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use nalgebra::{DMatrix, DVector, RowDVector};

use super::{ClassStatistics, Form, RIDGE, centred, gram, matrix, shrunk};

/// Share of the mean variance in the ridge of the change that features of several stages go through, which has more
/// numbers than there may be images.
const RIDGE_OF_CHANGE: f64 = 1e-2;
/// What is added to every weight of [`ClassStatistics::carried_nearby`], as in ADC's code: where no image is near, all
/// count.
const LEAST_WEIGHT: f64 = 1e-5;
/// Why there is no map.
const NO_SPREAD: &str =
    "the features of the images at hand do not differ, so they do not tell how the backbone changed";

impl ClassStatistics {
    /// Means and covariance through the affine map that fits best; what the map leaves unexplained is added to the
    /// covariance.
    ///
    /// # Errors
    /// If there is no image, or all are alike.
    pub(crate) fn carried(&self, before: &Tensor, after: &Tensor) -> Result<Self> {
        let (before, after) = pair(before, after)?;
        let (from, before) = centred(before);
        let (to, after) = centred(after);
        self.carried_between((&from, &to), &before, after)
    }

    /// The same through the linear map that fits best, without an offset: the optimum of LDC's projector
    /// (Gomez-Villa et al. 2024), which is trained by some steps of Adam there.
    ///
    /// # Errors
    /// If there is no image, or all are 0.
    pub(crate) fn carried_linearly(&self, before: &Tensor, after: &Tensor) -> Result<Self> {
        let (before, after) = pair(before, after)?;
        let origin = RowDVector::zeros(before.ncols());
        self.carried_between((&origin, &origin), &before, after)
    }

    /// Each mean moves by the mean change of the images, those near to it before the change counting most:
    /// `exp(-distance^2 / (2 sigma^2))` (SDC, Yu et al. 2020). The covariance stays.
    ///
    /// # Errors
    /// If there is no image.
    pub(crate) fn carried_nearby(&self, before: &Tensor, after: &Tensor, sigma: f64) -> Result<Self> {
        let (before, after) = pair(before, after)?;
        let change = after - &before;
        let shift = |mean: RowDVector<f64>| {
            let distance = |row: usize| (before.row(row) - &mean).norm_squared();
            let weight = |row: usize| (-distance(row) / (2.0 * sigma * sigma)).exp() + LEAST_WEIGHT;
            let weights = DVector::from_fn(before.nrows(), |row, _| weight(row));
            change.tr_mul(&weights).transpose() / weights.sum()
        };
        let shifts: Vec<_> = self.means.row_iter().map(|mean| shift(mean.into_owned())).collect();
        self.moved(&DMatrix::from_rows(&shifts))
    }

    /// Each mean moved by its row of `shifts`, `[classes, width]`. The covariance stays.
    ///
    /// # Errors
    /// If there are more or fewer rows than classes.
    pub(crate) fn moved(&self, shifts: &DMatrix<f64>) -> Result<Self> {
        if shifts.shape() != self.means.shape() {
            bail!("shifts are {:?}, the means {:?}", shifts.shape(), self.means.shape());
        }
        Ok(Self { means: &self.means + shifts, ..self.clone() }.into_kept())
    }

    /// Root of the mean variance of a feature within classes.
    pub(crate) fn deviation(&self) -> f64 {
        (self.covariance.trace() / self.covariance.nrows() as f64).sqrt()
    }

    /// `[classes, width]`.
    pub(crate) fn means(&self) -> &DMatrix<f64> {
        &self.means
    }

    fn carried_between(
        &self,
        ends: (&RowDVector<f64>, &RowDVector<f64>),
        before: &DMatrix<f64>,
        after: DMatrix<f64>,
    ) -> Result<Self> {
        match self.form {
            Form::Pooled => self.carried_by_map(ends, before, after),
            Form::Wide => self.carried_by_change(ends, before, after),
        }
    }

    fn carried_by_map(
        &self,
        (from, to): (&RowDVector<f64>, &RowDVector<f64>),
        before: &DMatrix<f64>,
        after: DMatrix<f64>,
    ) -> Result<Self> {
        let normal = shrunk(before.tr_mul(before), RIDGE);
        let map = normal.cholesky().context(NO_SPREAD)?.solve(&before.tr_mul(&after));
        let unexplained = after - before * &map;
        let mut means = self.means.clone();
        means.row_iter_mut().for_each(|mut mean| mean -= from);
        means *= &map;
        means.row_iter_mut().for_each(|mut mean| mean += to);
        let residual = unexplained.tr_mul(&unexplained) / unexplained.nrows() as f64;
        Ok(Self { means, covariance: map.tr_mul(&(&self.covariance * &map)) + residual, form: self.form })
    }

    /// By the identity and a change beside it, which alone is held by the ridge: what stays where it was is left alone,
    /// to the bit, and directions that the images do not tell of stay.
    fn carried_by_change(
        &self,
        (from, to): (&RowDVector<f64>, &RowDVector<f64>),
        before: &DMatrix<f64>,
        after: DMatrix<f64>,
    ) -> Result<Self> {
        let moved = after - before;
        if moved.amax() == 0.0 && from == to {
            return Ok(self.clone());
        }
        let normal = shrunk(gram(before, self.form), RIDGE_OF_CHANGE);
        let change = normal.cholesky().context(NO_SPREAD)?.solve(&(before.transpose() * &moved));
        let unexplained = moved - before * &change;
        let mut centred_means = self.means.clone();
        centred_means.row_iter_mut().for_each(|mut mean| mean -= from);
        let mut means = &self.means + centred_means * &change;
        let shift = to - from;
        means.row_iter_mut().for_each(|mut mean| mean += &shift);
        let right = &self.covariance + &self.covariance * &change;
        let residual = gram(&unexplained, self.form) / unexplained.nrows() as f64;
        let covariance = &right + change.transpose() * &right + residual;
        Ok(Self { means, covariance, form: self.form }.into_kept())
    }
}

/// Features of the same images before and after.
fn pair(before: &Tensor, after: &Tensor) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    if before.dims() != after.dims() || before.dim(0)? == 0 {
        bail!("features before and after are {:?} and {:?}", before.dims(), after.dims());
    }
    Ok((matrix(before)?, matrix(after)?))
}
