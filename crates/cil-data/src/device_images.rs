//! Copies of a data set's images on a device that augments and batches them, such as a GPU.
//!
//! The augmentation of an image is drawn here, on the host, from that image's own stream, wherever its pixels are
//! stored. A device that holds the images receives a small table with the parameters of each, and must return the
//! values that the CPU would compute.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::augment::Change;
use crate::dataset::Dataset;
use crate::normalise::Normalisation;
use crate::store::Images;

/// A copy of [`Images`] on a device.
pub trait DeviceImages: Debug + Send + Sync {
    /// The device of the copy and of its batches.
    fn device(&self) -> &Device;

    /// The augmentation parameters of a batch as numbers for [`Self::batch`]: u32 `[changes, numbers]`, on the CPU.
    /// `changes`: for each image its position in the copy and its parameters.
    ///
    /// # Errors
    /// If a position is not in the copy.
    fn table(&self, changes: &[(u32, Change)]) -> candle_core::Result<Tensor>;

    /// The images of a table, which may be on the device or on the CPU: `[changes, 3, height, width]`.
    ///
    /// `padding`: black pixels on every side before the crop. The operations are those of [`crate::augment`].
    ///
    /// # Errors
    /// If the table does not have that form, or the device has no memory.
    fn batch(
        &self,
        table: &Tensor,
        padding: usize,
        normalisation: &Normalisation,
    ) -> candle_core::Result<Tensor>;
}

impl Dataset {
    /// The same data set with copies of its training and test images on a device; where `copy` returns `None` there is
    /// none. Sets that are split from it make batches for that device there.
    ///
    /// # Errors
    /// If `copy` fails.
    pub fn with_device_copies(
        mut self,
        copy: impl Fn(&Images) -> Result<Option<Arc<dyn DeviceImages>>>,
    ) -> Result<Self> {
        for images in self.parts_mut() {
            images.device_copy = copy(images)?;
        }
        Ok(self)
    }
}

impl Images {
    /// Height and width of an image.
    pub fn sides(&self) -> (usize, usize) {
        (self.size.height, self.size.width)
    }

    /// Bytes of all images, `[image][3][height][width]`.
    pub fn bytes(&self) -> &[u8] {
        &self.pixels
    }
}
