//! How a picture of any size becomes a square of a network's size.
//!
//! The shorter side is brought to a length and the middle is cut out, as torchvision's `Resize` and `CenterCrop` do
//! (bilinear, smoothed when it shrinks, as Pillow's), so shapes are never distorted. Both are one step here, so a
//! picture of 20 000 by 1 pixels needs no large memory between them.

use anyhow::{Context, Result, bail};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// The rule, as model files and configurations keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fit {
    /// Pixels of a side of the square.
    pub side: usize,
    /// The length to which the picture's shorter side is resized before the centre is cropped; at least `side`.
    pub shorter: usize,
}

impl Fit {
    /// The usual rule for a network of that size: at 128 pixels or more the shorter side becomes 8/7 of it (256 for
    /// 224, as torchvision's classifiers are evaluated), below it the side itself.
    pub fn of(side: usize) -> Self {
        let shorter = if side >= 128 { side * 8 / 7 } else { side };
        Self { side, shorter }
    }

    /// Whether pictures can be fitted so.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> Result<()> {
        if !(1..=1024).contains(&self.side) {
            bail!("side is {}; use a value from 1 to 1024", self.side);
        }
        if !(self.side..=4096).contains(&self.shorter) {
            bail!("shorter is {}; use a value from the side, {}, to 4096", self.shorter, self.side);
        }
        Ok(())
    }

    /// Bytes of a fitted picture.
    pub fn bytes(&self) -> usize {
        3 * self.side * self.side
    }

    /// Writes the fitted picture to `out`, `[3][side][side]`.
    ///
    /// # Errors
    /// If `out` has another length than [`Self::bytes`], or the picture not the pixels that it says.
    pub fn apply(&self, picture: &Picture, out: &mut [u8]) -> Result<()> {
        let square = self.square(picture.height, picture.width);
        let pixels = resized(picture, square, (self.side, self.side))?;
        planes(&pixels, out)
    }

    /// The part that is cropped from a picture of that size: left, top, width and height, in its own pixels.
    fn square(&self, height: usize, width: usize) -> [f64; 4] {
        let short = height.min(width).max(1);
        // torchvision cuts off the fraction of the longer side.
        let after = |length: usize| self.shorter * length / short;
        let part = |length: usize| {
            let after = after(length).max(self.side);
            let scale = length as f64 / after as f64;
            (half_to_even(after - self.side) as f64 * scale, self.side as f64 * scale)
        };
        let ((left, across), (top, down)) = (part(width), part(height));
        [left, top, across, down]
    }
}

/// Half of it, as Python rounds it.
fn half_to_even(count: usize) -> usize {
    let half = count / 2;
    half + usize::from(count % 2 == 1 && half % 2 == 1)
}

/// The part of a picture (left, top, width, height) at another size (height and width): `[height][width][3]`.
pub(crate) fn resized(picture: &Picture, part: [f64; 4], to: (usize, usize)) -> Result<Vec<u8>> {
    let [left, top, width, height] = part;
    let whole = part == [0.0, 0.0, picture.width as f64, picture.height as f64];
    if whole && to == (picture.height, picture.width) {
        return Ok(picture.pixels.clone());
    }
    let (from_width, from_height) = (picture.width as u32, picture.height as u32);
    let from = ImageRef::new(from_width, from_height, &picture.pixels, PixelType::U8x3)
        .context("a picture without its pixels")?;
    let mut into = Image::new(to.1 as u32, to.0 as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        left,
        top,
        width.min(picture.width as f64 - left),
        height.min(picture.height as f64 - top),
    );
    Resizer::new().resize(&from, &mut into, &options).context("a picture cannot be resized")?;
    Ok(into.into_vec())
}

/// `[3][pixels]` of `[pixels][3]`.
pub(crate) fn planes(pixels: &[u8], out: &mut [u8]) -> Result<()> {
    if pixels.len() != out.len() || !out.len().is_multiple_of(3) {
        bail!("{} bytes for a picture of {}", out.len(), pixels.len());
    }
    let plane = out.len() / 3;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for (at, pixel) in pixels.chunks_exact(3).enumerate() {
        (red[at], green[at], blue[at]) = (pixel[0], pixel[1], pixel[2]);
    }
    Ok(())
}
