//! Grids of images as PNG files.
//!
//! One decision: a grid is made of normalised images and undoes the normalisation itself; values beyond a pixel's range
//! are cut off, as a screen would.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use cil_data::normalise::Normalisation;
use image::{ImageFormat, Rgb, RgbImage};

/// Pixels of each side of an image pixel.
const ZOOM: u32 = 2;
/// Pixels between images.
const GAP: u32 = 2;

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
                        let value = pixels[channel][at.0][at.1];
                        let value = value * normalisation.deviation[channel] + normalisation.mean[channel];
                        (value * 255.0).round().clamp(0.0, 255.0) as u8
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
