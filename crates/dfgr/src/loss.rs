//! Inversion losses: what a generator minimises so that its images look, to a frozen teacher, like the data that the
//! teacher was trained on.
//!
//! Every loss is a function of tensors that a forward pass returned, so it is tested without a network. This module
//! weights nothing and knows no teacher; see the inversion loop. Neither agreement nor batch-norm statistics notice a
//! generator that has collapsed to one picture a class; [`batch_entropy`] and [`diversity`] do.

use candle_core::{D, Device, Result, Tensor, bail};
use candle_nn::ops::log_softmax;
use cil_engine::rows::{self, Divisor};
use cil_engine::uploads;
use serde::{Deserialize, Serialize};

/// Stored variances below this count as this much; a channel that was always constant must not explode.
pub const STORED_VARIANCE_FLOOR: f64 = 1e-5;

/// Generated variances below this count as this much, with no gradient to leave it by.
pub const GENERATED_VARIANCE_FLOOR: f64 = 1e-8;

/// Added to the mode-seeking ratio before its reciprocal is taken; as in the released code of Mao et al. 2019.
pub const RATIO_FLOOR: f64 = 1e-5;

/// Moments of a generated batch in one batch-norm layer, and the layer's stored ones. All `[channels]`.
#[derive(Clone, Copy, Debug)]
pub struct LayerMoments<'a> {
    /// Mean of the layer's input over rows and positions.
    pub mean: &'a Tensor,
    /// Biased variance of the same.
    pub variance: &'a Tensor,
    /// The running mean; detached by the losses.
    pub running_mean: &'a Tensor,
    /// The running variance; detached by the losses.
    pub running_variance: &'a Tensor,
}

/// How the divergences of single channels become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelReduction {
    /// Sum over channels, then over layers; DFQ (Choi et al. 2020) as re-implemented, at weight 1.
    Sum,
    /// Mean over a layer's channels, then over layers; ABD and R-DFCIL, at weight 50.
    Mean,
}

/// Stored moments of all batch norms of a network, their channels one after the other: on a GPU a small operation costs
/// its launch, whatever it computes.
#[derive(Clone, Debug)]
pub struct Stored {
    mean: Tensor,
    variance: Tensor,
    /// The weight of each channel's divergence; 1 if absent.
    shares: Option<Tensor>,
}

impl Stored {
    /// Of running means and variances, `[channels]` each; detached.
    ///
    /// # Errors
    /// If there is no layer.
    pub fn new(layers: &[(&Tensor, &Tensor)], reduction: ChannelReduction) -> Result<Self> {
        let Some((first, _)) = layers.first() else { bail!("batch-norm statistics need at least one layer") };
        let joined = |part: fn(&(&Tensor, &Tensor)) -> Tensor| {
            Tensor::cat(&layers.iter().map(part).collect::<Vec<_>>(), 0)
        };
        let shares = match reduction {
            ChannelReduction::Sum => None,
            ChannelReduction::Mean => {
                let count = |(mean, _): &(&Tensor, &Tensor)| mean.elem_count();
                let share = |it| std::iter::repeat_n(1.0 / (count(it) * layers.len()) as f64, count(it));
                let shares = Tensor::from_iter(layers.iter().flat_map(share), &Device::Cpu)?;
                Some(shares.to_dtype(first.dtype())?.to_device(first.device())?)
            }
        };
        Ok(Self {
            mean: joined(|(mean, _)| mean.detach())?,
            variance: joined(|(_, variance)| variance.detach())?.maximum(STORED_VARIANCE_FLOOR)?,
            shares,
        })
    }

    /// `KL(N(mean, variance) ‖ N(running mean, running variance))` per channel, reduced; `mean`, `variance`: a batch's,
    /// the channels of all layers in their order.
    ///
    /// # Errors
    /// If there are not as many channels.
    pub fn from_generated(&self, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
        let variance = variance.maximum(GENERATED_VARIANCE_FLOOR)?;
        self.reduced(gaussian_kl(mean, &variance, &self.mean, &self.variance)?)
    }

    /// `KL(N(running mean, running variance) ‖ N(mean, variance))` per channel, reduced.
    ///
    /// # Errors
    /// If there are not as many channels.
    pub fn to_generated(&self, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
        let variance = variance.maximum(GENERATED_VARIANCE_FLOOR)?;
        self.reduced(gaussian_kl(&self.mean, &self.variance, mean, &variance)?)
    }

    fn reduced(&self, per_channel: Tensor) -> Result<Tensor> {
        match &self.shares {
            Some(shares) => (per_channel * shares)?.sum_all(),
            None => per_channel.sum_all(),
        }
    }
}

/// `KL(N(mean, variance) ‖ N(running mean, running variance))` per channel, reduced. Never negative; zero when the
/// generated moments are the stored ones; `3/2 - ln 2` a channel for equal means and four times the variance.
///
/// The direction of DFQ (Choi et al. 2020): a generated channel may be narrower than the stored one at little cost.
pub fn bn_kl_generated_to_stored(layers: &[LayerMoments<'_>], reduction: ChannelReduction) -> Result<Tensor> {
    let (stored, mean, variance) = joined(layers, reduction)?;
    stored.from_generated(&mean, &variance)
}

/// `KL(N(running mean, running variance) ‖ N(mean, variance))` per channel, reduced. Never negative; zero when the
/// generated moments are the stored ones.
///
/// The direction of ABD and R-DFCIL: a generated channel that is too narrow costs much.
pub fn bn_kl_stored_to_generated(layers: &[LayerMoments<'_>], reduction: ChannelReduction) -> Result<Tensor> {
    let (stored, mean, variance) = joined(layers, reduction)?;
    stored.to_generated(&mean, &variance)
}

/// The stored moments of layers, and a batch's means and variances.
fn joined(layers: &[LayerMoments<'_>], reduction: ChannelReduction) -> Result<(Stored, Tensor, Tensor)> {
    let running: Vec<_> = layers.iter().map(|it| (it.running_mean, it.running_variance)).collect();
    let stored = Stored::new(&running, reduction)?;
    let all =
        |of: fn(&LayerMoments<'_>) -> Tensor| Tensor::cat(&layers.iter().map(of).collect::<Vec<_>>(), 0);
    Ok((stored, all(|it| it.mean.clone())?, all(|it| it.variance.clone())?))
}

/// Mean over rows of `-ln p(label)`: the teacher should see in each image the class that was asked for. Not negative.
///
/// `logits`: `[rows, classes]` of the teacher; `labels`: u32 `[rows]`. DF-GR's conditional form (Choi et al. 2021);
/// ABD and R-DFCIL take the teacher's argmax as label and logits divided by 1000.
pub fn label_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_rows(logits)?;
    if let Some(loss) = rows::cross_entropy(logits, labels, None, Divisor::Rows)? {
        return Ok(loss);
    }
    let log_p = log_softmax(logits, D::Minus1)?;
    log_p.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

/// Mean over rows of the entropy of the teacher's prediction; minimised, each image should be of one class.
/// From 0 (certain) to `ln classes`. `logits`: `[rows, classes]`. DFQ (Choi et al. 2020).
pub fn instance_entropy(logits: &Tensor) -> Result<Tensor> {
    check_rows(logits)?;
    let log_p = log_softmax(logits, D::Minus1)?;
    (log_p.exp()? * log_p)?.sum(D::Minus1)?.mean_all()?.neg()
}

/// Minus the entropy of the mean prediction over rows; minimised, a batch should hold all classes alike.
/// From `-ln classes` (balanced) to 0 (all rows one class). `logits`: `[rows, classes]`. DFQ (Choi et al. 2020);
/// ABD divides by `ln classes` and adds 1.
pub fn batch_entropy(logits: &Tensor) -> Result<Tensor> {
    let n_rows = check_rows(logits)?;
    // ln of the mean probability, without leaving the log scale: no class is so rare that 0 · ln 0 appears.
    let log_mean = (log_softmax(logits, D::Minus1)?.log_sum_exp(0)? - (n_rows as f64).ln())?;
    (log_mean.exp()? * log_mean)?.sum_all()
}

/// Mean over pairs of `|image₁ - image₂| / |noise₁ - noise₂|`, each distance the mean over its elements.
/// Never negative; zero for a generator that ignores its noise.
///
/// `images`: `[rows, ..]`; `noise`: `[rows, ..]`, detached; `pairs`: rows to compare, of the same label where labels
/// condition the generator, see [`pairs_within_labels`]. `None` without pairs. The released code of Mao et al. 2019
/// divides mean by mean over the batch; noise distances are all but equal in many dimensions, and so are the two.
pub fn mode_seeking_ratio(images: &Tensor, noise: &Tensor, pairs: &[(u32, u32)]) -> Result<Option<Tensor>> {
    check_pairs(images, noise)?;
    if pairs.is_empty() {
        return Ok(None);
    }
    let index = |side: Vec<u32>| {
        let n_pairs = side.len();
        uploads::fresh(side, n_pairs, images.device())
    };
    let (first, second) = pairs.iter().copied().unzip();
    mode_seeking_ratio_of(images, noise, &index(first)?, &index(second)?).map(Some)
}

/// [`mode_seeking_ratio`] of rows `first`, u32 `[pairs]`, with rows `second`; there is at least one pair.
fn mode_seeking_ratio_of(images: &Tensor, noise: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let images = pair_distances(images, first, second)?;
    let noise = pair_distances(&noise.detach(), first, second)?.maximum(f64::from(f32::EPSILON))?;
    (images / noise)?.mean_all()
}

fn check_pairs(images: &Tensor, noise: &Tensor) -> Result<()> {
    if images.dim(0)? != noise.dim(0)? {
        bail!("{} images were made from {} noise vectors", images.dim(0)?, noise.dim(0)?)
    }
    Ok(())
}

/// `1 / (ratio + 1e-5)` of [`mode_seeking_ratio`]; minimised, different noise should give different images. Positive,
/// at most 1e5; steep near that end: its gradient grows with the square. `None` without pairs.
///
/// Mode-seeking regularisation, Mao et al., CVPR 2019.
pub fn diversity(images: &Tensor, noise: &Tensor, pairs: &[(u32, u32)]) -> Result<Option<Tensor>> {
    let ratio = mode_seeking_ratio(images, noise, pairs)?;
    ratio.map(|it| (it + RATIO_FLOOR)?.recip()).transpose()
}

/// [`diversity`] of rows `first`, u32 `[pairs]`, with rows `second`, where the images are: nothing is brought there.
/// There is at least one pair.
pub fn diversity_of(images: &Tensor, noise: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
    check_pairs(images, noise)?;
    (mode_seeking_ratio_of(images, noise, first, second)? + RATIO_FLOOR)?.recip()
}

/// Each row with the next row of the same label. A label with one row has no pair.
pub fn pairs_within_labels(labels: &[u32]) -> Vec<(u32, u32)> {
    let next_of = |row: usize| (row + 1..labels.len()).find(|it| labels[*it] == labels[row]);
    (0..labels.len()).filter_map(|row| Some((row as u32, next_of(row)? as u32))).collect()
}

/// Row `i` of the first half with row `i` of the second, for an unconditional generator. An odd last row has no pair.
pub fn pairs_of_halves(n_rows: usize) -> Vec<(u32, u32)> {
    let half = (n_rows / 2) as u32;
    (0..half).map(|row| (row, row + half)).collect()
}

/// Total variation: the mean squared difference of horizontal neighbours plus that of vertical ones. Never negative;
/// zero for images of one colour. `images`: `[rows, channels, height, width]`.
///
/// An image prior as in DeepInversion (Yin et al. 2020), by means instead of norms, so it does not grow with the
/// image. ABD's prior is another, the squared distance to a Gaussian blur.
pub fn smoothness(images: &Tensor) -> Result<Tensor> {
    let (n_rows, _, height, width) = images.dims4()?;
    if n_rows == 0 {
        bail!("smoothness needs at least one image")
    }
    let along = |dim: usize, size: usize| -> Result<Tensor> {
        if size < 2 {
            return Tensor::zeros((), images.dtype(), images.device());
        }
        (images.narrow(dim, 1, size - 1)? - images.narrow(dim, 0, size - 1)?)?.sqr()?.mean_all()
    };
    along(2, height)? + along(3, width)?
}

/// [`batch_entropy`] as a share of the largest, and 1: from 0 (a batch holds all classes alike) to 1 (one class).
/// `None` where there is one class. `logits`: `[rows, classes]`. ABD (Smith et al. 2021) and R-DFCIL.
pub fn balance(logits: &Tensor) -> Result<Option<Tensor>> {
    match logits.dim(1)? {
        0 | 1 => Ok(None),
        classes => (batch_entropy(logits)? / (classes as f64).ln())?.affine(1.0, 1.0).map(Some),
    }
}

/// Weights of pixels at distance 0, 1 and 2 in [`blur`]: a Gaussian of variance 2, brought to the sum 1. ABD's code
/// means a deviation of 1 and squares twice it.
const BLUR: [f64; 3] = [0.303_641_224_713_136, 0.236_476_023_579_351, 0.111_703_364_064_081];

/// Mean squared difference between the images and a Gaussian blur of them, 5 pixels wide, borders reflected. Not
/// negative; zero for images of one colour. `images`: `[rows, channels, height, width]`. The image prior of ABD and
/// R-DFCIL.
pub fn blur(images: &Tensor) -> Result<Tensor> {
    let (n_rows, _, height, width) = images.dims4()?;
    if n_rows == 0 || height < 3 || width < 3 {
        bail!("a blur needs an image of 3x3 pixels at least, got {n_rows} of {height}x{width}")
    }
    let smooth = blurred(&blurred(images, 2)?, 3)?;
    (images - smooth)?.sqr()?.mean_all()
}

/// Blurred along one side.
fn blurred(images: &Tensor, dim: usize) -> Result<Tensor> {
    let size = images.dim(dim)?;
    let reflected = |at: usize| {
        let at = (at as i64 - 2).abs();
        at.min(2 * (size as i64 - 1) - at) as u32
    };
    // Alike in every step, so candle keeps it where it brought it once.
    let reflected: Vec<u32> = (0..size + 4).map(reflected).collect();
    let padded = images.contiguous()?.index_select(&Tensor::new(reflected, images.device())?, dim)?;
    let mut sum = (padded.narrow(dim, 2, size)? * BLUR[0])?;
    for (distance, weight) in [(1, BLUR[1]), (2, BLUR[2])] {
        let both = (padded.narrow(dim, 2 - distance, size)? + padded.narrow(dim, 2 + distance, size)?)?;
        sum = (sum + (both * weight)?)?;
    }
    Ok(sum)
}

/// `KL(N(mean, variance) ‖ N(other_mean, other_variance))`, elementwise.
fn gaussian_kl(
    mean: &Tensor,
    variance: &Tensor,
    other_mean: &Tensor,
    other_variance: &Tensor,
) -> Result<Tensor> {
    let spread = ((mean - other_mean)?.sqr()? + variance)?;
    let half = (spread / other_variance)?.sub(&(variance / other_variance)?.log()?)?;
    half.affine(0.5, -0.5)
}

fn check_rows(logits: &Tensor) -> Result<usize> {
    let (n_rows, n_classes) = logits.dims2()?;
    if n_rows == 0 || n_classes == 0 {
        bail!("the teacher's logits must have a row and a class, got [{n_rows}, {n_classes}]")
    }
    Ok(n_rows)
}

/// The mean absolute difference of the two rows of each pair: `[pairs]`.
fn pair_distances(rows: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let rows = rows.flatten_from(1)?.contiguous()?;
    let difference = (rows.index_select(first, 0)? - rows.index_select(second, 0)?)?;
    // Not `abs`: candle 0.11.1 gives it the gradient 1 at zero, which would tear equal images apart to one side.
    (&difference * difference.sign()?)?.mean(1)
}

#[cfg(test)]
mod tests;
