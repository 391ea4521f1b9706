//! Grids of images as PNG files.
//!
//! A grid is made of normalised images and undoes the normalisation itself; values beyond a pixel's range are cut off,
//! as a screen would. The model's predictions for the images are written beside the picture, as [`Drawn`].

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use cil_data::normalise::Normalisation;
use image::{ImageFormat, Rgb, RgbImage};
use serde::{Deserialize, Serialize};

/// Generated images that a run's picture is chosen from, and shown for each class.
pub const PICTURED: (usize, usize) = (400, 10);

/// Version of the file beside a picture.
const FORMAT: u32 = 1;
/// Pixels of each side of an image pixel.
pub(crate) const ZOOM: u32 = 2;
/// Pixels between images.
pub(crate) const GAP: u32 = 2;

/// Of which classes the images of a picture are, by the model that they were drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drawn {
    /// Version of the file.
    pub format: u32,
    /// One entry for each row of the picture: the classes in the order of learning.
    pub classes: Vec<ClassDrawn>,
}

/// One class of [`Drawn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDrawn {
    /// Images of this class among all that were drawn; the picture shows the first of them.
    pub drawn: usize,
    /// Mean probability that the model gives to the class, over all images drawn of it; null if there are none.
    pub confidence: Option<f64>,
}

impl Drawn {
    /// `logits`: `[images, classes]`, the model's; `labels`: of each image.
    ///
    /// # Errors
    /// If a label has no logit.
    pub fn new(logits: &Tensor, labels: &[u32]) -> Result<Self> {
        let mut sums = vec![(0, 0.0); logits.dim(1)?];
        for (row, label) in logits.to_dtype(DType::F64)?.to_vec2::<f64>()?.iter().zip(labels) {
            let label = *label as usize;
            let own = row.get(label).with_context(|| format!("class {label} has no logit"))?;
            let sum = &mut sums[label];
            // The softmax at the label; where the others' exponentials overflow, it is 0.
            sum.1 += row.iter().map(|logit| (logit - own).exp()).sum::<f64>().recip();
            sum.0 += 1;
        }
        let class = |(drawn, sum): (usize, f64)| ClassDrawn {
            drawn,
            confidence: (drawn > 0).then(|| sum / drawn as f64),
        };
        Ok(Self { format: FORMAT, classes: sums.into_iter().map(class).collect() })
    }
}

/// The PNG file of a grid: one row of images for each list of indices into `images`: `[n, 3, height, width]`.
pub fn grid(images: &Tensor, rows: &[Vec<usize>], normalisation: &Normalisation) -> Result<Vec<u8>> {
    let (_, _, height, width) = images.dims4()?;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let (step_x, step_y) = (width as u32 * ZOOM + GAP, height as u32 * ZOOM + GAP);
    let size = (columns.max(1) * step_x + GAP, rows.len().max(1) as u32 * step_y + GAP);
    let mut picture = RgbImage::from_pixel(size.0, size.1, Rgb([255, 255, 255]));
    for (row, indices) in rows.iter().enumerate() {
        for (column, index) in indices.iter().enumerate() {
            let pixels = images.get(*index)?.to_dtype(DType::F32)?.to_vec3::<f32>()?;
            let (left, top) = (GAP + column as u32 * step_x, GAP + row as u32 * step_y);
            for y in 0..height as u32 * ZOOM {
                for x in 0..width as u32 * ZOOM {
                    let at = ((y / ZOOM) as usize, (x / ZOOM) as usize);
                    let colour = std::array::from_fn(|channel| {
                        byte(pixels[channel][at.0][at.1], channel, normalisation)
                    });
                    picture.put_pixel(left + x, top + y, Rgb(colour));
                }
            }
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).context("cannot encode a picture")?;
    Ok(bytes.into_inner())
}

/// The PNG file of one normalised image: `[3, height, width]`.
pub fn single(image: &Tensor, normalisation: &Normalisation) -> Result<Vec<u8>> {
    let (_, height, width) = image.dims3()?;
    let pixels = image.to_dtype(DType::F32)?.to_vec3::<f32>()?;
    let picture = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb(std::array::from_fn(|channel| {
            byte(pixels[channel][y as usize][x as usize], channel, normalisation)
        }))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).context("cannot encode a picture")?;
    Ok(bytes.into_inner())
}

/// A normalised value as that of a pixel.
fn byte(value: f32, channel: usize, by: &Normalisation) -> u8 {
    ((value * by.deviation[channel] + by.mean[channel]) * 255.0).round().clamp(0.0, 255.0) as u8
}

/// Of `labels`, the first `count` rows of each class.
pub fn by_class(labels: &[u32], classes: usize, count: usize) -> Vec<Vec<usize>> {
    let of = |class: usize| {
        let rows = labels.iter().enumerate().filter(|(_, label)| **label as usize == class);
        rows.map(|(row, _)| row).take(count).collect()
    };
    (0..classes).map(of).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn confidence_is_the_mean_probability_of_the_label() {
        let ln3 = 3f32.ln();
        let logits = Tensor::new(&[[ln3, 0., 0.], [0., 0., 1e4], [0., 0., 0.]], &Device::Cpu).unwrap();
        let drawn = Drawn::new(&logits, &[0, 1, 0]).unwrap();
        assert_eq!(drawn.classes.iter().map(|it| it.drawn).collect::<Vec<_>>(), [2, 1, 0]);
        let confidence: Vec<_> = drawn.classes.iter().map(|it| it.confidence).collect();
        assert!((confidence[0].unwrap() - (3. / 5. + 1. / 3.) / 2.).abs() < 1e-6, "{confidence:?}");
        assert_eq!(confidence[1..], [Some(0.0), None]);
        assert!(Drawn::new(&logits, &[3]).is_err());
    }

    #[test]
    fn pixels_are_where_they_belong() {
        // Two 1x2 images: black and white, then red twice.
        let values = [-1f32, 1., -1., 1., -1., 1., 1., 1., -1., -1., -1., -1.];
        let images = Tensor::from_slice(&values, (2, 3, 1, 2), &Device::Cpu).unwrap();
        let normalisation = Normalisation { mean: [0.5; 3], deviation: [0.5; 3] };
        let rows = by_class(&[1, 0], 3, 8);
        assert_eq!(rows, [vec![1], vec![0], vec![]]);
        let png = grid(&images, &rows, &normalisation).unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (2 * ZOOM + 2 * GAP, 3 * (ZOOM + GAP) + GAP));
        assert_eq!(picture.get_pixel(GAP, GAP).0, [255, 0, 0]);
        let second = GAP + ZOOM + GAP;
        assert_eq!(picture.get_pixel(GAP, second).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(GAP + ZOOM, second).0, [255, 255, 255]);
    }
}
