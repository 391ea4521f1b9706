//! A part of a picture at the network's size: torchvision's `RandomResizedCrop`.
//!
//! The part is drawn as torchvision does, of the area first and the shape of its sides then, up to ten times, and from
//! a stream of its own, so that no other change of an image moves.

use anyhow::Result;
use cil_random::{Draw, Stream};
use serde::{Deserialize, Serialize};

use crate::fit::resized;
use crate::picture::Picture;

/// How often torchvision tries before it takes the middle.
const TRIES: usize = 10;

/// Which parts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResizedCrop {
    /// Least and largest share of the picture's area; 0.08 and 1 on ImageNet.
    pub scale: [f64; 2],
    /// Least and largest width over height; 3/4 and 4/3 on ImageNet.
    pub ratio: [f64; 2],
}

/// A part of a picture, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ResizedCrop {
    /// As networks are trained on ImageNet.
    pub fn imagenet() -> Self {
        Self { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }

    /// Whether parts can be drawn.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> Result<()> {
        let right =
            |[least, most]: [f64; 2], from: f64, to: f64| from <= least && least <= most && most <= to;
        if !right(self.scale, 1e-4, 1.0) {
            anyhow::bail!("scale is {:?}; use two numbers from 0.0001 to 1, the least first", self.scale);
        }
        if !right(self.ratio, 0.01, 100.0) {
            anyhow::bail!("ratio is {:?}; use two numbers from 0.01 to 100, the least first", self.ratio);
        }
        Ok(())
    }

    /// The stream of one image's part.
    pub(crate) fn stream(draw: Draw<'_>, number: u64) -> Stream {
        draw.stream_in("resized crop", number)
    }

    /// The part of a picture of that size.
    pub fn draw(&self, height: usize, width: usize, stream: &mut Stream) -> Part {
        let (log_least, log_most) = (self.ratio[0].ln(), self.ratio[1].ln());
        let tries = (0..TRIES).map(|_| {
            let area = stream.between(self.scale[0], self.scale[1]);
            let ratio = stream.between(log_least, log_most).exp();
            (area, ratio, stream.unit(), stream.unit())
        });
        self.part(height, width, tries)
    }

    /// What torchvision makes of its draws: of each try the share of the area, the ratio, and where the part begins
    /// among the places that it fits, as shares.
    fn part(&self, height: usize, width: usize, tries: impl Iterator<Item = (f64, f64, f64, f64)>) -> Part {
        let area = (height * width) as f64;
        for (share, ratio, top, left) in tries {
            let target = area * share;
            let (w, h) =
                ((target * ratio).sqrt().round_ties_even(), (target / ratio).sqrt().round_ties_even());
            if 0.0 < w && w <= width as f64 && 0.0 < h && h <= height as f64 {
                let (w, h) = (w as usize, h as usize);
                let place = |share: f64, free: usize| ((share * (free + 1) as f64) as usize).min(free);
                return Part {
                    top: place(top, height - h),
                    left: place(left, width - w),
                    height: h,
                    width: w,
                };
            }
        }
        self.middle(height, width)
    }

    /// The largest part in the middle whose ratio is allowed.
    fn middle(&self, height: usize, width: usize) -> Part {
        let found = width as f64 / height as f64;
        let (w, h) = if found < self.ratio[0] {
            (width, (width as f64 / self.ratio[0]).round_ties_even() as usize)
        } else if found > self.ratio[1] {
            ((height as f64 * self.ratio[1]).round_ties_even() as usize, height)
        } else {
            (width, height)
        };
        let (h, w) = (h.clamp(1, height), w.clamp(1, width));
        Part { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// The part of a picture as a square of `side` pixels, `[side][side][3]`.
pub(crate) fn cut(picture: &Picture, part: Part, side: usize) -> Result<Vec<u8>> {
    let Part { top, left, height, width } = part;
    // torchvision crops before it resizes, so nothing beyond the part shines in.
    let mut pixels = Vec::with_capacity(3 * height * width);
    for row in top..top + height {
        pixels.extend_from_slice(&picture.pixels[3 * (row * picture.width + left)..][..3 * width]);
    }
    resized(&Picture { height, width, pixels }, [0.0, 0.0, width as f64, height as f64], (side, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/resized_crop.py`.
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        height: usize,
        width: usize,
        scale: [f64; 2],
        ratio: [f64; 2],
        tries: Vec<(f64, f64, f64, f64)>,
        part: Part,
    }

    #[test]
    fn parts_are_torchvisions() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/resized_crop.json")).unwrap();
        assert!(golden.cases.len() > 30);
        for Case { height, width, scale, ratio, tries, part } in golden.cases {
            let crop = ResizedCrop { scale, ratio };
            assert_eq!(crop.part(height, width, tries.into_iter()), part, "{height}x{width} {crop:?}");
        }
    }

    #[test]
    fn parts_lie_in_the_picture_and_have_the_area_that_was_asked_for() {
        let crop = ResizedCrop::imagenet();
        let mut shares = 0.0;
        for number in 0..2000 {
            let mut stream = ResizedCrop::stream(Draw::new(1, "test"), number);
            let Part { top, left, height, width } = crop.draw(256, 341, &mut stream);
            assert!(top + height <= 256 && left + width <= 341 && height > 0 && width > 0);
            let (share, ratio) = ((height * width) as f64 / (256.0 * 341.0), width as f64 / height as f64);
            assert!((0.075..=1.0).contains(&share) && (0.73..1.37).contains(&ratio), "{share} {ratio}");
            shares += share;
        }
        // Less than the mean of 0.08 and 1, since large parts of the wrong shape do not fit; 0.433 in Python.
        assert!((0.415..0.451).contains(&(shares / 2000.0)), "{shares}");
        for (height, width) in [(1, 1), (1, 20_000), (3, 2)] {
            let part = crop.draw(height, width, &mut ResizedCrop::stream(Draw::new(1, "test"), 0));
            assert!(part.height >= 1 && part.width >= 1 && part.top + part.height <= height);
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        let message = |scale, ratio| ResizedCrop { scale, ratio }.check().unwrap_err().to_string();
        assert!(message([0.5, 0.2], [1.0, 1.0]).starts_with("scale is [0.5, 0.2]"));
        assert!(message([0.5, f64::NAN], [1.0, 1.0]).starts_with("scale"));
        assert!(message([0.5, 1.0], [0.0, 1.0]).starts_with("ratio is [0.0, 1.0]"));
        ResizedCrop::imagenet().check().unwrap();
    }
}
