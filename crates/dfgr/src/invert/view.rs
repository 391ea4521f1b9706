//! How a generated image is changed before the teacher sees it: cropped and mirrored, as training images are.
//!
//! A teacher that sees an image from several places leads the generator to more than one fine pattern a class
//! (Fast-Datafree, Fang et al. 2022, and NAYER, Tran et al. 2024, do so). A change is a table of where each pixel comes
//! from, drawn on the host, so that a GPU can repeat an iteration; its gradient is candle's.

use candle_core::{Device, Result, Tensor};
use cil_random::Draw;

/// `[rows, height width]`, u32: the place of each pixel in a plane with `padding` more on every side. A square of the
/// image's own size is taken anywhere in it, and half of the images are mirrored if `flip`.
pub(super) fn sources(
    rows: usize,
    (height, width): (usize, usize),
    (padding, flip): (usize, bool),
    draw: Draw<'_>,
) -> Result<Tensor> {
    let mut stream = draw.stream("views");
    let mut found = Vec::with_capacity(rows * height * width);
    for _ in 0..rows {
        let (top, left) = (stream.below(2 * padding + 1), stream.below(2 * padding + 1));
        let mirrored = flip && stream.below(2) == 1;
        for row in 0..height {
            for column in 0..width {
                let column = if mirrored { width - 1 - column } else { column };
                found.push(((top + row) * (width + 2 * padding) + left + column) as u32);
            }
        }
    }
    Tensor::from_vec(found, (rows, height * width), &Device::Cpu)
}

/// Images `[rows, channels, height, width]` with each pixel from where `sources` says; beyond the edge they are 0, the
/// mean of normalised pixels.
pub(super) fn changed(images: &Tensor, sources: &Tensor, padding: usize) -> Result<Tensor> {
    let (rows, channels, height, width) = images.dims4()?;
    let padded = images.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
    let sources = sources.unsqueeze(1)?.broadcast_as((rows, channels, height * width))?.contiguous()?;
    padded.flatten_from(2)?.contiguous()?.gather(&sources, 2)?.reshape((rows, channels, height, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_crop_and_a_mirror_image() -> Result<()> {
        let (height, width, padding) = (3usize, 4usize, 1usize);
        let values: Vec<f64> = (0..64 * 2 * height * width).map(|at| at as f64 + 1.0).collect();
        let images = Tensor::from_vec(values, (64, 2, height, width), &Device::Cpu)?;
        let table = sources(64, (height, width), (padding, true), Draw::new(1, "test"))?;
        let found = changed(&images, &table, padding)?;
        let (mut plain, mut mirrored, mut offsets) = (0, 0, std::collections::BTreeSet::new());
        for row in 0..64 {
            let (image, found) = (images.get(row)?.to_vec3::<f64>()?, found.get(row)?.to_vec3::<f64>()?);
            let at = |channel: usize, line: isize, column: isize| {
                let inside = (0..height as isize).contains(&line) && (0..width as isize).contains(&column);
                if inside { image[channel][line as usize][column as usize] } else { 0.0 }
            };
            // One offset, and mirrored or not, explains every pixel of all channels.
            let explained = |top: isize, left: isize, flip: bool| {
                (0..2).all(|channel| {
                    (0..height as isize).all(|line| {
                        (0..width as isize).all(|column| {
                            let from = if flip { width as isize - 1 - column } else { column };
                            let is = found[channel][line as usize][column as usize];
                            is == at(channel, line + top, from + left)
                        })
                    })
                })
            };
            let all = (-1..=1)
                .flat_map(|top| (-1..=1).flat_map(move |left| [(top, left, false), (top, left, true)]));
            let right: Vec<_> = all.filter(|(top, left, flip)| explained(*top, *left, *flip)).collect();
            assert_eq!(right.len(), 1, "row {row}: {right:?}");
            if right[0].2 {
                mirrored += 1
            } else {
                plain += 1
            }
            offsets.insert((right[0].0, right[0].1));
        }
        assert!(plain > 15 && mirrored > 15 && offsets.len() == 9, "{plain} {mirrored} {offsets:?}");
        let still = sources(2, (height, width), (0, false), Draw::new(1, "test"))?;
        let same = changed(&images.narrow(0, 0, 2)?, &still, 0)?;
        let flat = |of: &Tensor| of.flatten_all()?.to_vec1::<f64>();
        assert_eq!(flat(&same)?, flat(&images.narrow(0, 0, 2)?)?);
        Ok(())
    }
}
