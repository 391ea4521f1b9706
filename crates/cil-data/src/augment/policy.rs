//! Policies: which operations an image goes through.
//!
//! A policy's draws are of a stream of their own, so an image's crop and mirror do not depend on whether there is one;
//! its table is torchvision's (`transforms/autoaugment.py`).

use cil_random::{Draw, Stream};
use serde::{Deserialize, Serialize};

use super::operation::Operation;
use super::pixels::Size;

/// Which operations are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// TrivialAugmentWide (Müller and Hutter, ICCV 2021): one of 14 operations, with one of 31 magnitudes.
    TrivialAugmentWide,
    /// The policy that AutoAugment (Cubuk et al., CVPR 2019) learned on CIFAR-10: one of 25 pairs of operations, each
    /// of which happens with a probability of its own.
    AutoAugmentCifar,
}

/// Magnitudes of TrivialAugmentWide.
const WIDE: usize = 31;
/// Of AutoAugment.
const BINS: usize = 10;

/// A name of an operation, before its magnitude is known.
#[derive(Clone, Copy)]
enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

use Kind::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Invert, Posterize, Rotate, Sharpness,
    ShearX, ShearY, Solarize, TranslateX, TranslateY,
};

/// TrivialAugmentWide's, in torchvision's order.
const TRIVIAL: [Kind; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

/// Operation, probability in tenths, and which magnitude.
type Step = (Kind, u8, usize);

/// The pairs that AutoAugment learned on CIFAR-10.
const LEARNED: [[Step; 2]; 25] = [
    [(Invert, 1, 0), (Contrast, 2, 6)],
    [(Rotate, 7, 2), (TranslateX, 3, 9)],
    [(Sharpness, 8, 1), (Sharpness, 9, 3)],
    [(ShearY, 5, 8), (TranslateY, 7, 9)],
    [(AutoContrast, 5, 0), (Equalize, 9, 0)],
    [(ShearY, 2, 7), (Posterize, 3, 7)],
    [(Color, 4, 3), (Brightness, 6, 7)],
    [(Sharpness, 3, 9), (Brightness, 7, 9)],
    [(Equalize, 6, 0), (Equalize, 5, 0)],
    [(Contrast, 6, 7), (Sharpness, 6, 5)],
    [(Color, 7, 7), (TranslateX, 5, 8)],
    [(Equalize, 3, 0), (AutoContrast, 4, 0)],
    [(TranslateY, 4, 3), (Sharpness, 2, 6)],
    [(Brightness, 9, 6), (Color, 2, 8)],
    [(Solarize, 5, 2), (Invert, 0, 0)],
    [(Equalize, 2, 0), (AutoContrast, 6, 0)],
    [(Equalize, 2, 0), (Equalize, 6, 0)],
    [(Color, 9, 9), (Equalize, 6, 0)],
    [(AutoContrast, 8, 0), (Solarize, 2, 8)],
    [(Brightness, 1, 3), (Color, 7, 0)],
    [(Solarize, 4, 5), (AutoContrast, 9, 0)],
    [(TranslateY, 9, 9), (TranslateY, 7, 9)],
    [(AutoContrast, 9, 0), (Solarize, 8, 3)],
    [(Equalize, 8, 0), (Invert, 1, 0)],
    [(TranslateY, 7, 9), (AutoContrast, 9, 0)],
];

/// Largest magnitudes of a policy; posterising takes off at most so many bits.
struct Space {
    bins: usize,
    shear: f64,
    translation: [f64; 2],
    rotation: f64,
    factor: f64,
    bits: usize,
}

impl Space {
    /// torchvision's tables are of single precision.
    fn magnitude(&self, largest: f64, bin: usize) -> f64 {
        f64::from((largest * bin as f64 / (self.bins - 1) as f64) as f32)
    }

    /// `signed`: 1 or -1, for operations that go both ways.
    fn operation(&self, kind: Kind, bin: usize, signed: f64) -> Option<Operation> {
        let both = |largest: f64| signed * self.magnitude(largest, bin);
        Some(match kind {
            Identity => return None,
            ShearX => Operation::ShearX(both(self.shear)),
            ShearY => Operation::ShearY(both(self.shear)),
            TranslateX => Operation::TranslateX(both(self.translation[0]) as i32),
            TranslateY => Operation::TranslateY(both(self.translation[1]) as i32),
            Rotate => Operation::Rotate(both(self.rotation)),
            Brightness => Operation::Brightness(1.0 + both(self.factor)),
            Color => Operation::Color(1.0 + both(self.factor)),
            Contrast => Operation::Contrast(1.0 + both(self.factor)),
            Sharpness => Operation::Sharpness(1.0 + both(self.factor)),
            Posterize => {
                let off = (bin * self.bits) as f64 / (self.bins - 1) as f64;
                Operation::Posterize(8 - off.round_ties_even() as u32)
            }
            Solarize => Operation::Solarize(255.0 - self.magnitude(255.0, bin)),
            AutoContrast => Operation::AutoContrast,
            Equalize => Operation::Equalize,
            Invert => Operation::Invert,
        })
    }
}

impl Policy {
    /// At most two operations on an image of that size, one after the other.
    fn drawn(self, size: Size, stream: &mut Stream) -> [Option<Operation>; 2] {
        match self {
            Self::TrivialAugmentWide => {
                let space = Space {
                    bins: WIDE,
                    shear: 0.99,
                    translation: [32.0; 2],
                    rotation: 135.0,
                    factor: 0.99,
                    bits: 6,
                };
                let (kind, bin) = (TRIVIAL[stream.below(TRIVIAL.len())], stream.below(WIDE));
                [space.operation(kind, bin, sign(stream)), None]
            }
            Self::AutoAugmentCifar => {
                let of = |side: usize| 150.0 / 331.0 * side as f64;
                let space = Space {
                    bins: BINS,
                    shear: 0.3,
                    translation: [of(size.width), of(size.height)],
                    rotation: 30.0,
                    factor: 0.9,
                    bits: 4,
                };
                LEARNED[stream.below(LEARNED.len())].map(|(kind, tenths, bin)| {
                    let (happens, signed) = (stream.unit() < f64::from(tenths) / 10.0, sign(stream));
                    if happens { space.operation(kind, bin, signed) } else { None }
                })
            }
        }
    }
}

fn sign(stream: &mut Stream) -> f64 {
    if stream.unit() < 0.5 { -1.0 } else { 1.0 }
}

/// What becomes of one image behind crop and mirror.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) operations: [Option<Operation>; 2],
    /// Row and column of the middle of the square that is cut out.
    pub(crate) hole: Option<(usize, usize)>,
}

impl Drawn {
    /// Of the image whose streams have that number.
    pub(crate) fn draw(
        (policy, cutout): (Option<Policy>, usize),
        size: Size,
        draw: Draw<'_>,
        number: u64,
    ) -> Self {
        let operations =
            policy.map_or([None; 2], |policy| policy.drawn(size, &mut draw.stream_in("policy", number)));
        let mut stream = draw.stream_in("cutout", number);
        let middle = (stream.below(size.height), stream.below(size.width));
        Self { operations, hole: (cutout > 0).then_some(middle) }
    }
}

#[cfg(test)]
mod tests;
