//! Operations of learned and random policies on 8-bit images, as Pillow has them.
//!
//! An operation is what torchvision's `_apply_op` does to a Pillow image, to the byte; what it finds beyond the image's
//! edge is black, and pixels are the nearest ones. `tests/golden/policy.py` made the numbers that they are held
//! against.

use super::pixels::{Size, blended, grey, luma};

/// One operation with its magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Rows move by this times their height.
    ShearX(f64),
    /// Columns move by this times their place.
    ShearY(f64),
    /// Moved to the right by that many pixels.
    TranslateX(i32),
    /// Moved down by that many pixels.
    TranslateY(i32),
    /// Degrees, against the clock.
    Rotate(f64),
    /// A factor, 1 for no change.
    Brightness(f64),
    /// A factor, 1 for no change.
    Color(f64),
    /// A factor, 1 for no change.
    Contrast(f64),
    /// A factor, 1 for no change.
    Sharpness(f64),
    /// High bits that stay.
    Posterize(u32),
    /// Bytes from this on are inverted.
    Solarize(f64),
    /// Each channel is stretched over all bytes.
    AutoContrast,
    /// Each channel's histogram is flattened.
    Equalize,
    /// Each byte is 255 less itself.
    Invert,
}

impl Operation {
    /// `image`: `[3][height][width]`, changed in place.
    pub(crate) fn apply(self, image: &mut [u8], size: Size) {
        let Size { height, width } = size;
        match self {
            Self::ShearX(by) => moved(image, size, [1.0, by, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(by) => moved(image, size, [1.0, 0.0, 0.0, by, 1.0, 0.0]),
            Self::TranslateX(by) => moved(image, size, [1.0, 0.0, -f64::from(by), 0.0, 1.0, 0.0]),
            Self::TranslateY(by) => moved(image, size, [1.0, 0.0, 0.0, 0.0, 1.0, -f64::from(by)]),
            Self::Rotate(degrees) => moved(image, size, rotation(degrees, size)),
            Self::Brightness(factor) => each(image, |byte| blended(0, byte, factor)),
            Self::Contrast(factor) => {
                let same: [u8; 256] = std::array::from_fn(|byte| byte as u8);
                let grey = grey(image, size, &same);
                each(image, |byte| blended(grey, byte, factor));
            }
            Self::Color(factor) => {
                let pixels = height * width;
                for at in 0..pixels {
                    let grey = luma([0, 1, 2].map(|channel| image[channel * pixels + at]));
                    for channel in 0..3 {
                        let byte = &mut image[channel * pixels + at];
                        *byte = blended(grey, *byte, factor);
                    }
                }
            }
            Self::Sharpness(factor) => {
                for plane in image.chunks_exact_mut(height * width) {
                    let smooth = smoothed(plane, size);
                    plane
                        .iter_mut()
                        .zip(smooth)
                        .for_each(|(byte, smooth)| *byte = blended(smooth, *byte, factor));
                }
            }
            Self::Posterize(bits) => each(image, |byte| byte & (0xff00u32 >> bits.min(8)) as u8),
            Self::Solarize(from) => {
                each(image, |byte| if f64::from(byte) < from { byte } else { 255 - byte })
            }
            Self::AutoContrast => image.chunks_exact_mut(height * width).for_each(stretched),
            Self::Equalize => image.chunks_exact_mut(height * width).for_each(flattened),
            Self::Invert => each(image, |byte| 255 - byte),
        }
    }
}

fn each(image: &mut [u8], to: impl Fn(u8) -> u8) {
    image.iter_mut().for_each(|byte| *byte = to(*byte));
}

/// Pillow's `Image.rotate`: where a pixel of the turned image comes from.
fn rotation(degrees: f64, Size { height, width }: Size) -> [f64; 6] {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    // Rounded to fifteen digits there, so that a right angle is one.
    let rounded = |value: f64| (value * 1e15).round() / 1e15;
    let (sine, cosine) = (rounded(angle.sin()), rounded(angle.cos()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    let back = |along: f64, across: f64| along * -x + across * -y;
    [cosine, sine, back(cosine, sine) + x, -sine, cosine, back(-sine, cosine) + y]
}

/// Each pixel from where `[a, b, c, d, e, f]` says that its centre comes from, `(a x + b y + c, d x + e y + f)`, in 16
/// bits behind the point as in Pillow.
fn moved(image: &mut [u8], Size { height, width }: Size, [a, b, c, d, e, f]: [f64; 6]) {
    let fixed = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let (right, down) = ([fixed(a), fixed(d)], [fixed(b), fixed(e)]);
    let first = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    let before = image.to_vec();
    let inside = |at: i64, side: usize| usize::try_from(at >> 16).ok().filter(|at| *at < side);
    for y in 0..height {
        for x in 0..width {
            let from = [0, 1].map(|axis| first[axis] + right[axis] * x as i64 + down[axis] * y as i64);
            let from = inside(from[0], width).zip(inside(from[1], height));
            for channel in 0..3 {
                let plane = channel * height * width;
                image[plane + y * width + x] = from.map_or(0, |(x, y)| before[plane + y * width + x]);
            }
        }
    }
}

/// Pillow's `SMOOTH`: the mean of nine pixels in which the middle one counts five times; the edge stays.
fn smoothed(plane: &[u8], Size { height, width }: Size) -> Vec<u8> {
    let mut smooth = plane.to_vec();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let nine = (0..9).map(|at| u32::from(plane[(y + at / 3 - 1) * width + x + at % 3 - 1]));
            let sum = nine.sum::<u32>() + 4 * u32::from(plane[y * width + x]);
            // Rounded; a half does not occur.
            smooth[y * width + x] = ((2 * sum + 13) / 26) as u8;
        }
    }
    smooth
}

fn histogram(plane: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    plane.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    counts
}

/// Pillow's `ImageOps.autocontrast`.
fn stretched(plane: &mut [u8]) {
    let counts = histogram(plane);
    let there = |count: &usize| *count > 0;
    let (Some(low), Some(high)) = (counts.iter().position(there), counts.iter().rposition(there)) else {
        return;
    };
    if high <= low {
        return;
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    each(plane, |byte| (f64::from(byte) * scale + offset).clamp(0.0, 255.0) as u8);
}

/// Pillow's `ImageOps.equalize`.
fn flattened(plane: &mut [u8]) {
    let counts = histogram(plane);
    let there = counts.iter().filter(|count| **count > 0);
    let Some(last) = there.clone().next_back() else { return };
    let step = (plane.len() - last) / 255;
    if there.count() <= 1 || step == 0 {
        return;
    }
    let mut below = step / 2;
    let table = counts.map(|count| {
        let byte = (below / step).min(255) as u8;
        below += count;
        byte
    });
    each(plane, |byte| table[usize::from(byte)]);
}
