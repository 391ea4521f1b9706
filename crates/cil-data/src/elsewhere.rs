//! Stored images where batches of them are needed, such as on a GPU.
//!
//! One decision: what happens to an image is drawn here, from that image's own stream, wherever the image lies. So who
//! keeps images elsewhere is handed a small table of what becomes of each, and must give the very values that the
//! processor would.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::augment::Change;
use crate::dataset::Dataset;
use crate::normalise::Normalisation;
use crate::store::Images;

/// A copy of [`Images`] on a device.
pub trait Elsewhere: Debug + Send + Sync {
    /// Where batches of them are made.
    fn device(&self) -> &Device;

    /// What becomes of each image of a batch, as numbers for [`Self::batch`]: u32 `[changes, numbers]`, with the
    /// processor. `changes`: the image's position among all that are kept, and what becomes of it.
    ///
    /// # Errors
    /// If an image is none of those kept.
    fn table(&self, changes: &[(u32, Change)]) -> candle_core::Result<Tensor>;

    /// `[changes, 3, height, width]` of a table, which is here already or is brought.
    ///
    /// `padding`: black pixels on every side before the crop. The operations are those of [`crate::augment`].
    ///
    /// # Errors
    /// If it is no such table, or the device refuses the tensor.
    fn batch(
        &self,
        table: &Tensor,
        padding: usize,
        normalisation: &Normalisation,
    ) -> candle_core::Result<Tensor>;
}

impl Dataset {
    /// The same data set, whose training and test images `copy` also keeps elsewhere; where it gives `None` they stay
    /// with the processor alone. Sets that are split from it make batches for that device there.
    ///
    /// # Errors
    /// If `copy` fails.
    pub fn kept(mut self, copy: impl Fn(&Images) -> Result<Option<Arc<dyn Elsewhere>>>) -> Result<Self> {
        for images in self.parts_mut() {
            images.elsewhere = copy(images)?;
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
