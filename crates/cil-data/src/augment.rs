//! From stored bytes to a network's input: brightness and contrast, crop, flip, normalisation.
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
        }
    }

    /// Whether the table of [`crate::elsewhere`] can tell what it does: a crop among black pixels, a mirror, a
    /// brightness.
    pub(crate) fn fits_a_table(&self) -> bool {
        self.contrast == 0.0 && self.crop_fill == Fill::Black && self.resized_crop.is_none()
    }

    /// Whether images can be changed so.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> anyhow::Result<()> {
        for (key, value) in [("brightness", self.brightness), ("contrast", self.contrast)] {
            if !(0.0..=1.0).contains(&value) {
                anyhow::bail!("{key} is {value}; it should be from 0 to 1");
            }
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
        let (padding, change) = match draw {
            Some(draw) => (augmentation.crop_padding, Change::draw(augmentation, draw.stream_of(*number))),
            None => (0, Change::none()),
        };
        apply(bytes, size, (padding, augmentation.crop_fill), change, &preparation.normalisation, out);
    });
    Tensor::from_vec(values, (images.len(), 3, size.height, size.width), &Device::Cpu)
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

/// `from` at factor 0 and `to` at factor 1, and beyond: Pillow computes in `f32` and cuts off the fraction.
fn blended(from: u8, to: u8, factor: f64) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor as f32 * (to - from)).clamp(0.0, 255.0) as u8
}

/// The mean grey of an image whose bytes `table` has changed, rounded: what Pillow's contrast blends with.
fn grey(bytes: &[u8], size: Size, table: &[u8; 256]) -> u8 {
    let pixels = size.height * size.width;
    let weighted = |at: usize| {
        let [red, green, blue] =
            [0, 1, 2].map(|channel| u32::from(table[usize::from(bytes[channel * pixels + at])]));
        // Pillow's weights of ITU-R 601-2, in 65536ths.
        u64::from((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16)
    };
    let sum: u64 = (0..pixels).map(weighted).sum();
    (sum as f64 / pixels as f64 + 0.5) as u8
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
        #[serde(default = "one")]
        contrast: f64,
        #[serde(default)]
        contrast_first: bool,
        #[serde(default)]
        fill: Fill,
        values: Vec<f32>,
    }

    fn one() -> f64 {
        1.0
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
            let Changed { padding, corner, mirrored, brightness, contrast, contrast_first, fill, values } =
                case;
            let mut found = vec![0f32; values.len()];
            let change = Change { corner, mirrored, brightness, contrast, contrast_first };
            apply(
                &bytes,
                Size { height, width },
                (padding, fill),
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
            let change = Change { brightness: factor, ..Change::none() };
            let table = jittered(&[0; 3], Size { height: 1, width: 1 }, change);
            for (byte, expected) in bytes.into_iter().enumerate() {
                let found = table[byte];
                assert_eq!(found, expected, "byte {byte} times {factor}");
            }
        }
    }

    /// What is added around an image is black, as a pixel, whose normalised value is not 0; or what is normalised to 0.
    #[test]
    fn padding_is_black_or_the_mean_colour() {
        let by = Normalisation { mean: [0.5; 3], deviation: [0.25; 3] };
        let change = Change { corner: (0, 2), ..Change::none() };
        let mut found = [0f32; 12];
        let size = Size { height: 2, width: 2 };
        for (fill, around) in [(Fill::Black, -2.0), (Fill::Mean, 0.0)] {
            apply(&[255; 12], size, (1, fill), change, &by, &mut found);
            for plane in found.chunks_exact(4) {
                assert_eq!(plane, [around, around, 2.0, around]);
            }
        }
    }

    #[test]
    fn every_place_and_both_sides_are_drawn_alike_often() {
        let augmentation =
            Augmentation { crop_padding: 2, flip: true, brightness: 0.3, ..Augmentation::none() };
        let (mut rows, mut columns, mut mirrored, mut first) = ([0; 5], [0; 5], 0, 0);
        for sample in 0..5000 {
            let stream = Draw::new(1, "test").stream_of(sample);
            let change = Change::draw(&augmentation, stream.clone());
            rows[change.corner.0] += 1;
            columns[change.corner.1] += 1;
            mirrored += usize::from(change.mirrored);
            assert!((0.7..1.3).contains(&change.brightness));
            let unmirrored =
                Change::draw(&Augmentation { flip: false, ..augmentation.clone() }, stream.clone());
            let contrasted =
                Change::draw(&Augmentation { contrast: 0.8, ..augmentation.clone() }, stream.clone());
            assert!((0.2..1.8).contains(&contrasted.contrast));
            first += usize::from(contrasted.contrast_first);
            assert_eq!(Change { contrast: 1.0, contrast_first: false, ..contrasted }, change);
            assert_eq!(
                unmirrored,
                Change { mirrored: false, ..change },
                "turning one change off moves another"
            );
        }
        assert!(rows.iter().chain(&columns).all(|count| (900..1100).contains(count)), "{rows:?} {columns:?}");
        assert!((2350..2650).contains(&mirrored), "{mirrored}");
        assert!((2350..2650).contains(&first), "{first}");
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
        assert_eq!(
            told(Augmentation { contrast: -0.5, ..none.clone() }),
            "contrast is -0.5; it should be from 0 to 1"
        );
        assert!(told(Augmentation { crop_padding: usize::MAX, ..none.clone() }).contains("at most 1024"));
        assert!(
            serde_json::from_str::<Augmentation>(r#"{"crop_padding":1,"flip":true,"brightness":0}"#).is_err()
        );
        let read = serde_json::from_str::<Augmentation>(r#"{"crop-padding":4,"flip":true,"brightness":0}"#);
        let read = read.unwrap();
        assert_eq!(read, Augmentation { crop_padding: 4, flip: true, ..none });
        // Keys that came later are written only where they say something.
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            r#"{"crop-padding":4,"flip":true,"brightness":0.0}"#
        );
    }
}
