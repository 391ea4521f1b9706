//! Images with left and right changed, and images turned by right angles.

use anyhow::{Result, bail};
use candle_core::Tensor;
use cil_engine::uploads;

/// Images with left and right changed, `[images, channels, height, width]`.
///
/// # Errors
/// If the device refuses it.
pub(crate) fn mirrored(images: &Tensor) -> candle_core::Result<Tensor> {
    let width = images.dim(3)? as u32;
    let columns: Vec<u32> = (0..width).rev().collect();
    images.contiguous()?.index_select(&uploads::constant(&columns, images.device())?, 3)
}

/// Square images turned by one, two and three right angles against the clock, each `[images, channels, side, side]`.
///
/// # Errors
/// If the images are not square, or the device refuses it.
pub(crate) fn turns(images: &Tensor) -> Result<[Tensor; 3]> {
    let quarter = turned(images)?;
    let half = turned(&quarter)?;
    Ok([quarter, half.clone(), turned(&half)?])
}

/// Turned by a right angle against the clock.
fn turned(images: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = images.dims4()?;
    if height != width {
        bail!("images to be turned are {height} x {width}; only square images can be");
    }
    // Columns of the mirror image, from the top.
    Ok(mirrored(images)?.transpose(2, 3)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn turns_are_numpy_s() {
        // numpy.rot90([[0, 1], [2, 3]]) is [[1, 3], [0, 2]].
        let image = Tensor::from_vec(vec![0f32, 1.0, 2.0, 3.0], (1, 1, 2, 2), &Device::Cpu).unwrap();
        let flat = |of: &Tensor| of.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let [one, two, three] = turns(&image).unwrap();
        assert_eq!(flat(&one), [1.0, 3.0, 0.0, 2.0]);
        assert_eq!(flat(&two), [3.0, 2.0, 1.0, 0.0]);
        assert_eq!(flat(&three), [2.0, 0.0, 3.0, 1.0]);
        assert_eq!(flat(&turned(&three).unwrap()), flat(&image));
        let wide = Tensor::from_vec(vec![0f32; 6], (1, 1, 2, 3), &Device::Cpu).unwrap();
        assert!(turns(&wide).unwrap_err().to_string().contains("2 x 3; only square"));
    }
}
