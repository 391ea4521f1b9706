//! From stored bytes to a network's input: brightness and contrast, crop, flip, a policy, normalisation, cutout.
//!
//! The augmentation of an image is drawn from that image's own stream, so it is the same in any batch and for any
//! number of threads. The operations are those of torchvision on 8-bit images.

use std::fmt;

use candle_core::{Device, Result, Tensor};
use cil_random::{Draw, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::normalise::Normalisation;
use crate::resized_crop::ResizedCrop;

mod operation;
mod pixels;
mod policy;

pub(crate) use pixels::Size;
use pixels::{blended, grey};
use policy::Drawn;
pub use policy::Policy;

/// Random changes to training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Augmentation {
    /// Black pixels on every side before a crop of the image's own size is taken anywhere (torchvision's
    /// `RandomCrop(side, padding)`); 4 for CIFAR.
    pub crop_padding: usize,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Brightness is multiplied by a factor within this of 1 (torchvision's `ColorJitter`); 63/255 in PODNet.
    pub brightness: f64,
    /// Contrast is multiplied by a factor within this of 1, before or after brightness as a coin says (torchvision's
    /// `ColorJitter`); of the whole image, before it is cropped. 0.8 in ABD.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub contrast: f64,
    /// What a crop finds beyond the image's edge.
    #[serde(default, skip_serializing_if = "is_black")]
    pub crop_fill: Fill,
    /// A part of the picture at the network's size, before all else; on ImageNet in place of the crop with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<ResizedCrop>,
    /// `trivial-augment-wide` or `auto-augment-cifar`: operations on the image after crop and mirror, as torchvision
    /// has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Side of a square that is set to 0 after normalisation, its middle anywhere in the image, so that a part of it
    /// may lie outside (DeVries and Taylor 2017: 16 for CIFAR-10, 8 for CIFAR-100); 0 for none.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cutout: usize,
}

/// What is around an image before a crop of it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// Black pixels, as where a crop is taken before images are normalised.
    #[default]
    Black,
    /// The colour that normalisation brings to 0, as where it is taken afterwards (iCaRL, R-DFCIL).
    Mean,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_black(fill: &Fill) -> bool {
    *fill == Fill::Black
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_nothing(value: &usize) -> bool {
    *value == 0
}

impl Augmentation {
    /// No change at all.
    pub fn none() -> Self {
        Self {
            crop_padding: 0,
            flip: false,
            brightness: 0.0,
            contrast: 0.0,
            crop_fill: Fill::Black,
            resized_crop: None,
            policy: None,
            cutout: 0,
        }
    }

    /// Whether the table of [`crate::elsewhere`] can tell what it does: a crop among black pixels, a mirror, a
    /// brightness.
    pub(crate) fn fits_a_table(&self) -> bool {
        self.contrast == 0.0
            && self.crop_fill == Fill::Black
            && self.resized_crop.is_none()
            && !self.goes_on()
    }

    /// Whether something is done behind crop and mirror.
    fn goes_on(&self) -> bool {
        self.policy.is_some() || self.cutout > 0
    }

    /// Whether images can be changed so.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> anyhow::Result<()> {
        for (key, value) in [("brightness", self.brightness), ("contrast", self.contrast)] {
            if !(0.0..=1.0).contains(&value) {
                anyhow::bail!("{key} is {value}; use a value from 0 to 1");
            }
        }
        if let Some(crop) = &self.resized_crop {
            crop.check().map_err(|error| anyhow::anyhow!("resized-crop.{error}"))?;
        }
        if self.policy.is_some() && self.crop_fill != Fill::Black {
            anyhow::bail!(
                "crop-fill is \"mean\" and policy is there, which changes bytes; crop-fill should be \"black\""
            );
        }
        if self.cutout > 1024 || !self.cutout.is_multiple_of(2) {
            anyhow::bail!("cutout is {}; use an even number of at most 1024", self.cutout);
        }
        if self.crop_padding > 1024 {
            anyhow::bail!("crop-padding is {}; use at most 1024", self.crop_padding);
        }
        Ok(())
    }
}

/// In a few words, for a table.
impl fmt::Display for Augmentation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.resized_crop.is_some() {
            parts.push("resized crop".to_owned());
        }
        if self.crop_padding > 0 {
            parts.push(format!("crop with {} pixels of padding", self.crop_padding));
        }
        for (name, value) in [("brightness", self.brightness), ("contrast", self.contrast)] {
            if value > 0.0 {
                parts.push(format!("{name} {value:.2}"));
            }
        }
        if self.flip {
            parts.push("flip".to_owned());
        }
        match self.policy {
            Some(Policy::TrivialAugmentWide) => parts.push("TrivialAugmentWide".to_owned()),
            Some(Policy::AutoAugmentCifar) => parts.push("AutoAugment's policy for CIFAR".to_owned()),
            None => {}
        }
        if self.cutout > 0 {
            parts.push(format!("cutout of {} pixels", self.cutout));
        }
        formatter.write_str(&if parts.is_empty() { "as they are".to_owned() } else { parts.join(", ") })
    }
}

/// How images are changed and normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    /// Changes to training images.
    pub augmentation: Augmentation,
    /// What all images go through.
    pub normalisation: Normalisation,
}

/// One image's changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Rows and columns that the crop begins below and right of the padded image's corner.
    pub corner: (usize, usize),
    /// Whether left and right change places.
    pub mirrored: bool,
    /// What brightness is multiplied by.
    pub brightness: f64,
    /// What contrast is multiplied by.
    pub contrast: f64,
    /// Whether contrast changes before brightness.
    pub contrast_first: bool,
}

impl Change {
    pub(crate) fn none() -> Self {
        Self { corner: (0, 0), mirrored: false, brightness: 1.0, contrast: 1.0, contrast_first: false }
    }

    pub(crate) fn draw(augmentation: &Augmentation, mut stream: Stream) -> Self {
        let places = 2 * augmentation.crop_padding + 1;
        Self {
            corner: (stream.below(places), stream.below(places)),
            mirrored: stream.unit() < 0.5 && augmentation.flip,
            brightness: stream.between(1.0 - augmentation.brightness, 1.0 + augmentation.brightness),
            // What follows was added later; what is drawn before it stays.
            contrast: stream.between(1.0 - augmentation.contrast, 1.0 + augmentation.contrast),
            contrast_first: stream.unit() < 0.5 && augmentation.contrast > 0.0,
        }
    }
}

/// `[n, 3, height, width]` of stored images; without a draw they are only normalised.
///
/// `images`: of each image the bytes, `[3][height][width]`, and the number that its stream is drawn by.
pub(crate) fn prepare(
    images: &[(&[u8], u64)],
    size: Size,
    preparation: &Preparation,
    draw: Option<Draw<'_>>,
) -> Result<Tensor> {
    let mut values = vec![0f32; images.len() * size.values()];
    values.par_chunks_exact_mut(size.values()).zip(images).for_each(|(out, (bytes, number))| {
        let augmentation = &preparation.augmentation;
        if let Some(draw) = draw.filter(|_| augmentation.goes_on()) {
            let change = Change::draw(augmentation, draw.stream_of(*number));
            let drawn = Drawn::draw((augmentation.policy, augmentation.cutout), size, draw, *number);
            further(bytes, size, augmentation, (change, drawn), &preparation.normalisation, out);
            return;
        }
        let (padding, change) = match draw {
            Some(draw) => (augmentation.crop_padding, Change::draw(augmentation, draw.stream_of(*number))),
            None => (0, Change::none()),
        };
        apply(bytes, size, (padding, augmentation.crop_fill), change, &preparation.normalisation, out);
    });
    Tensor::from_vec(values, (images.len(), 3, size.height, size.width), &Device::Cpu)
}

/// The same with what comes behind crop and mirror. Without a policy nothing is rounded to bytes in between.
fn further(
    bytes: &[u8],
    size: Size,
    augmentation: &Augmentation,
    (change, drawn): (Change, Drawn),
    by: &Normalisation,
    out: &mut [f32],
) {
    let edge = (augmentation.crop_padding, augmentation.crop_fill);
    if augmentation.policy.is_some() {
        // Bytes as bytes: what is around is black, which is 0.
        let plain = Normalisation { mean: [0.0; 3], deviation: [1.0 / 255.0; 3] };
        apply(bytes, size, edge, change, &plain, out);
        let mut image: Vec<u8> = out.iter().map(|value| value.round() as u8).collect();
        drawn.operations.into_iter().flatten().for_each(|it| it.apply(&mut image, size));
        apply(&image, size, (0, Fill::Black), Change::none(), by, out);
    } else {
        apply(bytes, size, edge, change, by, out);
    }
    if let Some((row, column)) = drawn.hole {
        let half = augmentation.cutout / 2;
        let rows = row.saturating_sub(half)..(row + half).min(size.height);
        for plane in out.chunks_exact_mut(size.height * size.width) {
            for y in rows.clone() {
                let columns = column.saturating_sub(half)..(column + half).min(size.width);
                plane[y * size.width..][columns].fill(0.0);
            }
        }
    }
}

fn apply(
    bytes: &[u8],
    size: Size,
    (padding, fill): (usize, Fill),
    change: Change,
    by: &Normalisation,
    out: &mut [f32],
) {
    let Size { height, width } = size;
    let jittered = jittered(bytes, size, change);
    for channel in 0..3 {
        let (mean, deviation) = (by.mean[channel], by.deviation[channel]);
        let normalised = |byte: u8| (f32::from(byte) / 255.0 - mean) / deviation;
        let table = jittered.map(normalised);
        let around = if fill == Fill::Black { normalised(0) } else { 0.0 };
        let plane = &bytes[channel * height * width..][..height * width];
        for y in 0..height {
            let row = &mut out[(channel * height + y) * width..][..width];
            let from_y = (y + change.corner.0).checked_sub(padding).filter(|from| *from < height);
            for (x, value) in row.iter_mut().enumerate() {
                let x = if change.mirrored { width - 1 - x } else { x };
                let from_x = (x + change.corner.1).checked_sub(padding).filter(|from| *from < width);
                *value = match (from_y, from_x) {
                    (Some(y), Some(x)) => table[usize::from(plane[y * width + x])],
                    _ => around,
                };
            }
        }
    }
}

/// What brightness and contrast make of each byte of an image, whatever its colour.
fn jittered(bytes: &[u8], size: Size, change: Change) -> [u8; 256] {
    let same: [u8; 256] = std::array::from_fn(|byte| byte as u8);
    let brighter = |table: [u8; 256]| table.map(|byte| blended(0, byte, change.brightness));
    if change.contrast == 1.0 {
        return brighter(same);
    }
    let contrasted = |table: [u8; 256]| {
        let grey = grey(bytes, size, &table);
        table.map(|byte| blended(grey, byte, change.contrast))
    };
    if change.contrast_first { brighter(contrasted(same)) } else { contrasted(brighter(same)) }
}

#[cfg(test)]
mod tests;
