//! A classifier made of class means and one covariance.
//!
//! Of old classes it keeps the mean feature of each and one shared covariance, never an image. When the backbone
//! changes, both are carried to the new features by the affine map that fits best on the available images.
//! Sums are in f64, on one thread.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_backbone::StageCells;
use cil_engine::Parameters;
use cil_random::Draw;
use dfgr::Targets;
use nalgebra::{DMatrix, DVector, RowDVector, SymmetricEigen};

use crate::recipe::DiscriminantSpec;

mod carried;

/// Share of the mean variance that is added to a map's normal equations: features may have directions without spread.
const RIDGE: f64 = 1e-4;

/// How statistics are taken, carried and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In f64, the whole covariance; the ridge of a map holds the map itself.
    Pooled,
    /// Of several stages or random features, thousands of them: in f32, the covariance as a triangle; the ridge holds
    /// the map's difference to staying as it is.
    Wide,
}

/// Means and common covariance of classes' features.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassStatistics {
    form: Form,
    /// `[classes, width]`.
    means: DMatrix<f64>,
    /// `[width, width]`: the mean of the classes' covariances, each around its own mean.
    covariance: DMatrix<f64>,
}

impl ClassStatistics {
    /// Of each new class's features, `[images, width]`.
    ///
    /// # Errors
    /// If there is no class, one has no image, or its features cannot be had.
    pub(crate) fn of(classes: impl ExactSizeIterator<Item = Result<Tensor>>, form: Form) -> Result<Self> {
        let count = classes.len();
        let (mut means, mut covariance) = (Vec::new(), DMatrix::zeros(0, 0));
        for (class, features) in classes.enumerate() {
            let features = features?;
            if features.dim(0)? == 0 {
                bail!("new class {class} has no image to take statistics of");
            }
            let (mean, centred) = centred(matrix(&features)?);
            let of_class = gram(&centred, form) / (centred.nrows() * count) as f64;
            covariance = if class == 0 { of_class } else { covariance + of_class };
            means.push(mean);
        }
        if means.is_empty() {
            bail!("statistics of no class");
        }
        Ok(Self { form, means: DMatrix::from_rows(&means), covariance }.into_kept())
    }

    /// These classes and `newer` ones behind them; every class counts the same in the covariance.
    pub(crate) fn joined(&self, newer: &Self) -> Self {
        let (old, new) = (self.means.nrows() as f64, newer.means.nrows() as f64);
        let mut means = self.means.clone().resize_vertically(self.means.nrows() + newer.means.nrows(), 0.0);
        means.rows_mut(self.means.nrows(), newer.means.nrows()).copy_from(&newer.means);
        let covariance = (&self.covariance * old + &newer.covariance * new) / (old + new);
        Self { means, covariance, form: self.form }.into_kept()
    }

    /// Weights `[classes, width]` and biases `[classes]` of what answers by the settings.
    ///
    /// # Errors
    /// If the statistics have no such classifier, or the device refuses the tensors.
    pub(crate) fn answer(&self, spec: &DiscriminantSpec, device: &Device) -> Result<(Tensor, Tensor)> {
        match (spec.ridge, spec.nearest_mean) {
            (true, _) => self.least_squares(spec.shrinkage, device),
            (_, true) => self.nearest_mean(device),
            _ => self.discriminant(spec.shrinkage, device),
        }
    }

    /// Weights `[classes, width]` and biases `[classes]` of 0 of the ridge regression of class indicators on features,
    /// every class counting the same: `w = (C + m' m / classes + ridge)^-1 m / classes`, where the ridge is `share` of
    /// the mean square. Sums over images are what statistics make of them, so it is as if all images were at hand.
    ///
    /// # Errors
    /// If the sums have no inverse, or the device refuses the tensors.
    pub(crate) fn least_squares(&self, share: f64, device: &Device) -> Result<(Tensor, Tensor)> {
        let classes = self.means.nrows() as f64;
        let squares = &self.covariance + gram(&self.means, self.form) / classes;
        let inverse = shrunk(squares, share).cholesky().with_context(|| {
            format!("the features' squares have no inverse with discriminant.shrinkage {share}; a larger one may help")
        })?;
        let weights = inverse.solve(&(self.means.transpose() / classes));
        let dims = self.means.shape();
        let weights = Tensor::from_slice(weights.as_slice(), dims, device)?.to_dtype(DType::F32)?;
        Ok((weights, Tensor::zeros(dims.0, DType::F32, device)?))
    }

    /// Weights `[classes, width]`, the directions of the means, and biases `[classes]` of 0: the nearest direction of a
    /// mean to a feature's (the "nearest mean" of the codes of ADC and LDC).
    ///
    /// # Errors
    /// If the device refuses the tensors.
    pub(crate) fn nearest_mean(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let dims = self.means.shape();
        let mut directions = self.means.clone();
        directions.row_iter_mut().for_each(|mut row| row /= row.norm().max(f64::MIN_POSITIVE));
        let weights = Tensor::from_slice(directions.transpose().as_slice(), dims, device)?;
        Ok((weights.to_dtype(DType::F32)?, Tensor::zeros(dims.0, DType::F32, device)?))
    }

    /// Weights `[classes, width]` and biases `[classes]` of the linear discriminant with equal priors:
    /// `w = C^-1 m`, `b = -m C^-1 m / 2`, where `C` is the covariance and `shrinkage` times its mean variance on the
    /// diagonal, less the mean of all classes. The logits are log-likelihoods but for a term that all classes share;
    /// without that mean it would be some hundred times the differences, of which f32 would lose three decimals.
    ///
    /// # Errors
    /// If the covariance is not positive definite for want of shrinkage, or the device refuses the tensors.
    pub(crate) fn discriminant(&self, shrinkage: f64, device: &Device) -> Result<(Tensor, Tensor)> {
        let covariance = shrunk(self.covariance.clone(), shrinkage);
        let inverse = covariance.cholesky().with_context(|| {
            format!("the features' covariance has no inverse with discriminant.shrinkage {shrinkage}; a larger one may help")
        })?;
        // A column for each class.
        let mut weights = inverse.solve(&self.means.transpose());
        let bias = |class: usize| -0.5 * self.means.row(class).transpose().dot(&weights.column(class));
        let mut biases = DVector::from_fn(self.means.nrows(), |class, _| bias(class));
        let shared = weights.column_mean();
        weights.column_iter_mut().for_each(|mut column| column -= &shared);
        biases.add_scalar_mut(-biases.mean());
        let dims = self.means.shape();
        let weights = Tensor::from_slice(weights.as_slice(), dims, device)?.to_dtype(DType::F32)?;
        let biases = Tensor::from_slice(biases.as_slice(), dims.0, device)?.to_dtype(DType::F32)?;
        Ok((weights, biases))
    }
}

/// Beside other statistics of the same classes and features.
impl ClassStatistics {
    /// These, with the means of `others`.
    pub(crate) fn with_means_of(&self, others: &Self) -> Self {
        Self { means: others.means.clone(), ..self.clone() }
    }

    /// Of each class the distance of both means, as a share of the deviation within classes that `truth` has.
    pub(crate) fn mean_distances(&self, truth: &Self) -> Vec<f64> {
        let deviation = truth.covariance.trace().sqrt();
        let apart = &self.means - &truth.means;
        apart.row_iter().map(|row| row.norm() / deviation).collect()
    }

    /// Distance of both covariances, as a share of `truth`'s.
    pub(crate) fn covariance_distance(&self, truth: &Self) -> f64 {
        (&self.covariance - &truth.covariance).norm() / truth.covariance.norm()
    }
}

/// For a generator.
impl ClassStatistics {
    /// What images of the classes should look like to the model that the statistics are of: the directions of the
    /// covariance's largest eigenvalues, `noise` of them or as many as there are. `stages`: what features they are of.
    ///
    /// # Errors
    /// If nothing varies, or the device refuses a tensor.
    pub(crate) fn targets(&self, stages: Vec<StageCells>, noise: usize) -> Result<Targets> {
        let width = self.covariance.nrows();
        let spread = SymmetricEigen::new(self.covariance.clone());
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|one, other| spread.eigenvalues[*other].total_cmp(&spread.eigenvalues[*one]));
        order.truncate(noise);
        let directions = order.iter().flat_map(|at| {
            let deviation = spread.eigenvalues[*at].max(0.0).sqrt();
            spread.eigenvectors.column(*at).iter().map(|value| (value * deviation) as f32).collect::<Vec<_>>()
        });
        let directions = Tensor::from_iter(directions, &Device::Cpu)?.reshape((order.len(), width))?;
        let means = Tensor::from_slice(self.means.transpose().as_slice(), self.means.shape(), &Device::Cpu)?;
        Ok(Targets::new(stages, means.to_dtype(DType::F32)?, directions, self.covariance.trace())?)
    }
}

/// Names of both values where they are kept.
const MEANS: &str = "means";
const COVARIANCE: &str = "covariance";

impl ClassStatistics {
    /// Rounded as it is kept, so that what is kept and taken up again is the same.
    fn into_kept(mut self) -> Self {
        if self.form == Form::Wide {
            let round = |value: &mut f64| *value = f64::from(*value as f32);
            self.means.iter_mut().for_each(round);
            self.covariance.fill_lower_triangle_with_upper_triangle();
            self.covariance.iter_mut().for_each(round);
        }
        self
    }

    /// How many classes they are of.
    pub(crate) fn classes(&self) -> usize {
        self.means.nrows()
    }

    /// `[rows, width]` features of each class, drawn from a normal distribution of its mean and the common
    /// covariance; not below 0, as features after ReLU are.
    ///
    /// # Errors
    /// If the covariance is none, or the device refuses the tensors.
    pub(crate) fn sampled(&self, rows: usize, draw: Draw<'_>, device: &Device) -> Result<Vec<Tensor>> {
        let width = self.covariance.nrows();
        let root = shrunk(self.covariance.clone(), RIDGE)
            .cholesky()
            .context("the covariance that was kept is none")?;
        let of_class = |class: usize| {
            let mut stream = draw.stream_in("statistics", class as u64);
            let noise = DMatrix::from_fn(width, rows, |_, _| f64::from(stream.normal() as f32));
            let mut drawn = root.l() * noise;
            let mean = self.means.row(class).transpose();
            drawn.column_iter_mut().for_each(|mut column| column += &mean);
            // Column by column is row by row of what is asked for.
            let values: Vec<f32> = drawn.iter().map(|value| value.max(0.0) as f32).collect();
            Ok(Tensor::from_vec(values, (rows, width), device)?)
        };
        (0..self.classes()).map(of_class).collect()
    }

    /// Statistics of as many classes as there are means, with that width.
    ///
    /// # Errors
    /// If the values have another form.
    pub(crate) fn restore_all(values: &Parameters, width: usize, form: Form) -> Result<Self> {
        let classes = values.get(MEANS)?.dims().first().copied().unwrap_or(0);
        Self::restore(values, classes, width, form)
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        match self.form {
            Form::Pooled => (self.means.len() + self.covariance.len()) * size_of::<f64>(),
            Form::Wide => (self.means.len() + triangle(self.covariance.nrows())) * size_of::<f32>(),
        }
    }

    /// All values by name, as they are kept.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub(crate) fn values(&self) -> Result<Parameters> {
        let rows =
            |of: &DMatrix<f64>| Tensor::from_slice(of.transpose().as_slice(), of.shape(), &Device::Cpu);
        let values = match self.form {
            Form::Pooled => [(MEANS, rows(&self.means)?), (COVARIANCE, rows(&self.covariance)?)],
            Form::Wide => {
                // Column by column, down to the diagonal.
                let width = self.covariance.nrows();
                let upper = (0..width).flat_map(|column| (0..=column).map(move |row| (row, column)));
                let covariance = Tensor::from_iter(upper.map(|at| self.covariance[at] as f32), &Device::Cpu)?;
                [(MEANS, rows(&self.means)?.to_dtype(DType::F32)?), (COVARIANCE, covariance)]
            }
        };
        Ok(Parameters::from_tensors(values.map(|(name, value)| (name.to_owned(), value)).into()))
    }

    /// The statistics of `classes` classes of that width and form that gave `values`.
    ///
    /// # Errors
    /// If the values have another form.
    pub(crate) fn restore(values: &Parameters, classes: usize, width: usize, form: Form) -> Result<Self> {
        let get = |name: &str, dims: &[usize], dtype: DType| {
            let value = values.get(name)?;
            if value.dims() != dims || value.dtype() != dtype {
                bail!("{name} is {:?} of {:?}, not {dims:?} of {dtype:?}", value.dims(), value.dtype());
            }
            Ok(value.clone())
        };
        let (means, covariance) = match form {
            Form::Pooled => {
                let covariance = get(COVARIANCE, &[width, width], DType::F64)?;
                (get(MEANS, &[classes, width], DType::F64)?, matrix(&covariance)?)
            }
            Form::Wide => {
                let upper = get(COVARIANCE, &[triangle(width)], DType::F32)?.to_vec1::<f32>()?;
                let at = |row: usize, column: usize| f64::from(upper[triangle(column) + row]);
                let whole = |row: usize, column: usize| at(row.min(column), row.max(column));
                let means = get(MEANS, &[classes, width], DType::F32)?;
                (means, DMatrix::from_fn(width, width, whole))
            }
        };
        Ok(Self { form, means: matrix(&means)?, covariance })
    }
}

/// Values of a symmetric matrix on and above its diagonal.
pub(crate) fn triangle(width: usize) -> usize {
    width * (width + 1) / 2
}

/// Sums of products of columns, `rows' rows`. Of a few features column by column, as it always was; of thousands in
/// blocks, which is many times faster and differs in the last bit.
fn gram(rows: &DMatrix<f64>, form: Form) -> DMatrix<f64> {
    match form {
        Form::Pooled => rows.tr_mul(rows),
        Form::Wide => rows.transpose() * rows,
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

/// `[rows, columns]` in f64.
///
/// # Errors
/// If the tensor is no matrix.
pub(crate) fn matrix(rows: &Tensor) -> Result<DMatrix<f64>> {
    let (count, width) = rows.dims2()?;
    let values = rows.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(DMatrix::from_row_slice(count, width, &values))
}

#[cfg(test)]
mod tests;
