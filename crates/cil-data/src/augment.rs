//! From stored bytes to a network's input: crop, flip, brightness, normalisation.
//!
//! One decision: what happens to an image is drawn from that image's own stream, so it is the same in any batch and for
//! any number of threads. The operations are those of torchvision on 8-bit images.

use candle_core::{Device, Result, Tensor};
use cil_random::{Draw, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::normalise::Normalisation;
use crate::resized_crop::ResizedCrop;

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
    /// A part of the picture at the network's size, before all else; on ImageNet in place of the crop with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<ResizedCrop>,
}

impl Augmentation {
    /// No change at all.
    pub fn none() -> Self {
        Self { crop_padding: 0, flip: false, brightness: 0.0, resized_crop: None }
    }

    /// Whether images can be changed so.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> anyhow::Result<()> {
        if !(0.0..=1.0).contains(&self.brightness) {
            anyhow::bail!("brightness is {}; it should be from 0 to 1", self.brightness);
        }
        if let Some(crop) = &self.resized_crop {
            crop.check().map_err(|error| anyhow::anyhow!("resized-crop.{error}"))?;
        }
        if self.crop_padding > 1024 {
            anyhow::bail!("crop-padding is {}; it should be at most 1024", self.crop_padding);
        }
        Ok(())
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

/// Height and width of an image of three colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Size {
    /// Values of one image.
    pub(crate) fn values(self) -> usize {
        3 * self.height * self.width
    }
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
}

impl Change {
    pub(crate) fn none() -> Self {
        Self { corner: (0, 0), mirrored: false, brightness: 1.0 }
    }

    pub(crate) fn draw(augmentation: &Augmentation, mut stream: Stream) -> Self {
        let places = 2 * augmentation.crop_padding + 1;
        Self {
            corner: (stream.below(places), stream.below(places)),
            mirrored: stream.unit() < 0.5 && augmentation.flip,
            brightness: stream.between(1.0 - augmentation.brightness, 1.0 + augmentation.brightness),
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
        let (padding, change) = match draw {
            Some(draw) => {
                let change = Change::draw(&preparation.augmentation, draw.stream_of(*number));
                (preparation.augmentation.crop_padding, change)
            }
            None => (0, Change::none()),
        };
        apply(bytes, size, padding, change, &preparation.normalisation, out);
    });
    Tensor::from_vec(values, (images.len(), 3, size.height, size.width), &Device::Cpu)
}

fn apply(bytes: &[u8], size: Size, padding: usize, change: Change, by: &Normalisation, out: &mut [f32]) {
    let Size { height, width } = size;
    for channel in 0..3 {
        let table = table(change.brightness, by.mean[channel], by.deviation[channel]);
        let plane = &bytes[channel * height * width..][..height * width];
        for y in 0..height {
            let row = &mut out[(channel * height + y) * width..][..width];
            let from_y = (y + change.corner.0).checked_sub(padding).filter(|from| *from < height);
            for (x, value) in row.iter_mut().enumerate() {
                let x = if change.mirrored { width - 1 - x } else { x };
                let from_x = (x + change.corner.1).checked_sub(padding).filter(|from| *from < width);
                let byte = match (from_y, from_x) {
                    (Some(y), Some(x)) => plane[y * width + x],
                    _ => 0,
                };
                *value = table[usize::from(byte)];
            }
        }
    }
}

/// What becomes of each byte of a channel.
fn table(brightness: f64, mean: f32, deviation: f32) -> [f32; 256] {
    std::array::from_fn(|byte| {
        // Pillow blends with black in floats and cuts off the fraction.
        let bright = (byte as f32 * brightness as f32).clamp(0.0, 255.0).trunc();
        (bright / 255.0 - mean) / deviation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/augment.py`.
    #[derive(Deserialize)]
    struct Golden {
        height: usize,
        width: usize,
        mean: [f32; 3],
        deviation: [f32; 3],
        bytes: Vec<u8>,
        changes: Vec<Changed>,
        brightness: Vec<Brightness>,
    }

    #[derive(Deserialize)]
    struct Changed {
        padding: usize,
        corner: (usize, usize),
        mirrored: bool,
        brightness: f64,
        values: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Brightness {
        factor: f64,
        bytes: Vec<u8>,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../tests/golden/augment.json")).unwrap()
    }

    #[test]
    fn changes_match_torchvision() {
        let Golden { height, width, mean, deviation, bytes, changes, .. } = golden();
        for case in changes {
            let Changed { padding, corner, mirrored, brightness, values } = case;
            let mut found = vec![0f32; values.len()];
            let change = Change { corner, mirrored, brightness };
            apply(
                &bytes,
                Size { height, width },
                padding,
                change,
                &Normalisation { mean, deviation },
                &mut found,
            );
            for (at, (found, expected)) in found.iter().zip(&values).enumerate() {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{change:?}, value {at}: {found}, torchvision {expected}"
                );
            }
        }
    }

    #[test]
    fn brightness_matches_torchvision_for_every_byte() {
        for Brightness { factor, bytes } in golden().brightness {
            let table = table(factor, 0.0, 1.0);
            for (byte, expected) in bytes.into_iter().enumerate() {
                let found = (table[byte] * 255.0).round() as u8;
                assert_eq!(found, expected, "byte {byte} times {factor}");
            }
        }
    }

    /// What is added around an image is black, as a pixel: its normalised value is not 0.
    #[test]
    fn padding_is_black_before_normalisation() {
        let by = Normalisation { mean: [0.5; 3], deviation: [0.25; 3] };
        let change = Change { corner: (0, 2), ..Change::none() };
        let mut found = [0f32; 12];
        apply(&[255; 12], Size { height: 2, width: 2 }, 1, change, &by, &mut found);
        for plane in found.chunks_exact(4) {
            assert_eq!(plane, [-2.0, -2.0, 2.0, -2.0]);
        }
    }

    #[test]
    fn every_place_and_both_sides_are_drawn_alike_often() {
        let augmentation =
            Augmentation { crop_padding: 2, flip: true, brightness: 0.3, ..Augmentation::none() };
        let (mut rows, mut columns, mut mirrored) = ([0; 5], [0; 5], 0);
        for sample in 0..5000 {
            let stream = Draw::new(1, "test").stream_of(sample);
            let change = Change::draw(&augmentation, stream.clone());
            rows[change.corner.0] += 1;
            columns[change.corner.1] += 1;
            mirrored += usize::from(change.mirrored);
            assert!((0.7..1.3).contains(&change.brightness));
            let unmirrored = Change::draw(&Augmentation { flip: false, ..augmentation }, stream);
            assert_eq!(
                unmirrored,
                Change { mirrored: false, ..change },
                "turning one change off moves another"
            );
        }
        assert!(rows.iter().chain(&columns).all(|count| (900..1100).contains(count)), "{rows:?} {columns:?}");
        assert!((2350..2650).contains(&mirrored), "{mirrored}");
        let unchanged = Change::draw(&Augmentation::none(), Draw::new(1, "test").stream_of(0));
        assert_eq!(unchanged, Change::none());
    }

    #[test]
    fn wrong_values_are_told() {
        let told = |augmentation: Augmentation| augmentation.check().unwrap_err().to_string();
        let none = Augmentation::none();
        assert_eq!(
            told(Augmentation { brightness: 1.5, ..none.clone() }),
            "brightness is 1.5; it should be from 0 to 1"
        );
        assert!(Augmentation { brightness: f64::NAN, ..none.clone() }.check().is_err());
        assert!(told(Augmentation { crop_padding: usize::MAX, ..none }).contains("at most 1024"));
        assert!(
            serde_json::from_str::<Augmentation>(r#"{"crop_padding":1,"flip":true,"brightness":0}"#).is_err()
        );
        let read = serde_json::from_str::<Augmentation>(r#"{"crop-padding":4,"flip":true,"brightness":0}"#);
        assert_eq!(read.unwrap(), Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() });
    }
}
