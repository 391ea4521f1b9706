//! Features that generated images are drawn towards: those that kept statistics of the teacher's classes expect.
//!
//! Where means and a covariance of the classes' features were kept while their images existed, a generator need not
//! find out by itself what a class looks like to the teacher. Of a conditional one, label and noise say which
//! features an image should have. Of one without labels, an image's features should be no farther from the mean of
//! the class that the teacher sees than those of the class's own images are.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, bail};
use cil_backbone::cells::{self, StageCells};
use cil_backbone::head::normalized;

/// Class means, and the directions in which features of a class differ.
#[derive(Clone, Debug)]
pub struct Targets {
    stages: Vec<StageCells>,
    means: Tensor,
    directions: Tensor,
    /// Mean squared distance of a target from its class's mean.
    variance: f64,
    /// The same of features of the class's images.
    spread: f64,
}

impl Targets {
    /// Of features of these `stages`, or of pooled features of length 1 if there is none.
    ///
    /// `means`: `[classes, width]`; `directions`: `[noise, width]`, orthogonal, each as long as the standard deviation
    /// of the features along it. As many elements of the noise are used; the rest of it is free. `spread`: the mean
    /// squared distance of a class's features from their mean, of all directions.
    ///
    /// # Errors
    /// If the widths differ or nothing varies.
    pub fn new(stages: Vec<StageCells>, means: Tensor, directions: Tensor, spread: f64) -> Result<Self> {
        let ((_, width), (count, of_directions)) = (means.dims2()?, directions.dims2()?);
        let variance = directions.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        if width != of_directions || count == 0 {
            bail!("the means are {:?}, the directions {:?}", means.dims(), directions.dims());
        }
        if [variance, spread].iter().any(|it| !(*it > 0.0 && it.is_finite())) {
            bail!("features of a class do not differ, so there is nothing to draw images towards");
        }
        Ok(Self { stages, means, directions, variance, spread })
    }

    /// Taps of the maps that features are read from.
    pub(crate) fn taps(&self) -> Vec<String> {
        cells::taps(&self.stages)
    }

    /// How many classes there are, and how many elements of the noise are used.
    pub(crate) fn sizes(&self) -> Result<(usize, usize)> {
        Ok((self.means.dim(0)?, self.directions.dim(0)?))
    }

    /// On the device of `like` and in its type.
    pub(crate) fn beside(self, like: &Tensor) -> Result<Self> {
        let moved = |it: &Tensor| it.to_device(like.device())?.to_dtype(like.dtype());
        Ok(Self { means: moved(&self.means)?, directions: moved(&self.directions)?, ..self })
    }

    /// Mean over images of the squared distance between their features and their targets, as a share of what a
    /// target's own squared distance from its class's mean is on average: 1 if all images of a class had its mean's
    /// features, 0 if each has those that its noise asks for.
    ///
    /// `pooled`: `[images, width]`; `maps`: of the stages, by tap; `noise`: `[images, at least the directions]`;
    /// `labels`: u32 `[images]`.
    ///
    /// # Errors
    /// If a map is missing, or shapes do not fit.
    pub fn distance(
        &self,
        pooled: &Tensor,
        maps: &BTreeMap<String, Tensor>,
        noise: &Tensor,
        labels: &Tensor,
    ) -> Result<Tensor> {
        let read = self.read(pooled, maps)?;
        let noise = noise.narrow(1, 0, self.directions.dim(0)?)?.contiguous()?;
        let targets = (self.means.index_select(labels, 0)? + noise.matmul(&self.directions)?)?;
        (read - targets)?.sqr()?.sum_all()? / (pooled.dim(0)? as f64 * self.variance)
    }

    /// Mean over images of how far their features are outside of their classes: `max(0, d - 1)`, `d` the squared
    /// distance from the class's mean as a share of what it is on average in the class's own images. 0 where no image
    /// is farther than that.
    ///
    /// `pooled`, `maps`, `labels`: as of [`Self::distance`].
    ///
    /// # Errors
    /// If a map is missing, or shapes do not fit.
    pub fn outside(
        &self,
        pooled: &Tensor,
        maps: &BTreeMap<String, Tensor>,
        labels: &Tensor,
    ) -> Result<Tensor> {
        let apart = (self.read(pooled, maps)? - self.means.index_select(labels, 0)?)?;
        ((apart.sqr()?.sum(1)? / self.spread)? - 1.0)?.relu()?.mean_all()
    }

    /// The features that the means are of.
    fn read(&self, pooled: &Tensor, maps: &BTreeMap<String, Tensor>) -> Result<Tensor> {
        match self.stages.as_slice() {
            [] => normalized(pooled),
            stages => cells::differentiable(maps, stages),
        }
    }
}
