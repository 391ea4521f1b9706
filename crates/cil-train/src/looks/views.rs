//! Views of images that nothing is learned from: turned, and with a square of another image.

use anyhow::Result;
use candle_core::{Device, Tensor};
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;

use crate::plan::Plan;
use crate::recipe::Views;
use crate::turned::turns;

/// All views of a batch of training images, each `[images, channels, height, width]`; a function of the draw and the
/// batch.
///
/// # Errors
/// If images are to be turned and are not square, or an executor fails.
pub(crate) fn of(
    plan: &Plan,
    train: &TrainSet,
    batch: &[SampleId],
    views: Views,
    draw: Draw<'_>,
) -> Result<Vec<Tensor>> {
    let Plan { preparation, device, .. } = plan;
    let images = train.images(batch, preparation, None, device)?;
    let mut found = Vec::with_capacity(views.count());
    if views.rotated {
        let [quarter, half, three_quarters] = turns(&images)?;
        found.extend([three_quarters, half, quarter]);
    }
    for number in 0..views.augmented {
        let draw = Draw { purpose: "augmented view", position: number as u64, ..draw };
        found.push(train.images(batch, preparation, Some(draw), device)?);
    }
    for number in 0..views.pasted {
        let draw = Draw { purpose: "pasted view", position: (number as u64) << 32 | draw.position, ..draw };
        found.push(pasted(&images, draw)?);
    }
    Ok(found)
}

/// Each image with a square of another one, at the same place and of half the sides' length.
fn pasted(images: &Tensor, draw: Draw<'_>) -> Result<Tensor> {
    let (rows, channels, height, width) = images.dims4()?;
    let mut stream = draw.stream("squares");
    let plane = height * width;
    // Where each pixel comes from among all images of the batch.
    let mut sources = Vec::with_capacity(rows * channels * plane);
    for row in 0..rows {
        let other = stream.below(rows);
        let (tall, wide) = (height / 2, width / 2);
        let (top, left) = (stream.below(height - tall + 1), stream.below(width - wide + 1));
        for channel in 0..channels {
            for at in 0..plane {
                let inside =
                    (top..top + tall).contains(&(at / width)) && (left..left + wide).contains(&(at % width));
                let of = if inside { other } else { row };
                sources.push(((of * channels + channel) * plane + at) as u32);
            }
        }
    }
    let count = sources.len();
    let sources = Tensor::from_vec(sources, count, &Device::Cpu)?.to_device(images.device())?;
    Ok(images.flatten_all()?.index_select(&sources, 0)?.reshape(images.dims())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_square_is_of_one_other_image_and_of_all_channels() {
        let (rows, side) = (40usize, 8usize);
        let values = (0..rows * 2 * side * side).map(|at| (at / (side * side)) as f32).collect::<Vec<_>>();
        // Each plane holds its number: 2 row + channel.
        let images = Tensor::from_vec(values, (rows, 2, side, side), &Device::Cpu).unwrap();
        let found = pasted(&images, Draw::new(1, "test")).unwrap();
        let (mut others, mut places) = (0, std::collections::BTreeSet::new());
        for row in 0..rows {
            let planes = found.get(row).unwrap().to_vec3::<f32>().unwrap();
            for (channel, plane) in planes.iter().enumerate() {
                let own = (2 * row + channel) as f32;
                let foreign: Vec<(usize, usize)> = (0..side * side)
                    .map(|at| (at / side, at % side))
                    .filter(|(line, column)| plane[*line][*column] != own)
                    .collect();
                if let (Some(first), 0) = (foreign.first(), channel) {
                    others += 1;
                    assert_eq!(foreign.len(), side * side / 4);
                    places.insert(*first);
                }
                let of = foreign.first().map(|(line, column)| plane[*line][*column]);
                assert!(foreign.iter().all(|(line, column)| Some(plane[*line][*column]) == of));
                assert!(of.is_none_or(|of| of as usize % 2 == channel));
            }
        }
        assert!(others > 30 && places.len() > 8, "{others}, {places:?}");
    }
}
