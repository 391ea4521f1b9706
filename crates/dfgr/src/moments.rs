//! Moments of a batch in batch norms, as variables that collect gradients.
//!
//! The channels of all batch norms are in one tensor, so a loss on them is a few operations however deep the network
//! is.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use cil_engine::{BatchMoments, MomentGradient};

/// Means and biased variances of all batch norms' inputs.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `[channels of all]`, in the order of batch norms.
    pub mean: Var,
    /// The same of variances.
    pub variance: Var,
    /// Names and channels of batch norms.
    norms: Vec<(String, usize)>,
}

impl Moments {
    /// Of a pass's.
    ///
    /// # Errors
    /// If there are none.
    pub fn new(of: &[BatchMoments]) -> Result<Self> {
        let all = |part: fn(&BatchMoments) -> &Tensor| {
            Var::from_tensor(&Tensor::cat(&of.iter().map(part).collect::<Vec<_>>(), 0)?)
        };
        Ok(Self {
            mean: all(|it| &it.mean)?,
            variance: all(|it| &it.variance)?,
            norms: of.iter().map(|it| (it.name.clone(), it.mean.elem_count())).collect(),
        })
    }

    /// Gradients to each batch norm's moments, by its name; none where the loss reads no moment.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn grads(&self, grads: &GradStore) -> Result<BTreeMap<String, MomentGradient>> {
        let (Some(mean), Some(variance)) = (grads.get(&self.mean), grads.get(&self.variance)) else {
            return Ok(BTreeMap::new());
        };
        let (mut start, mut moments) = (0, BTreeMap::new());
        for (name, channels) in &self.norms {
            let part = |of: &Tensor| of.narrow(0, start, *channels);
            let gradient = MomentGradient { mean: part(mean)?, variance: part(variance)? };
            moments.insert(name.clone(), gradient);
            start += channels;
        }
        Ok(moments)
    }
}
