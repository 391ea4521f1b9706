//! More views of the new images, by which statistics follow the backbone, as data.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Views of the task's images that the change of the backbone is seen in, beside the images as they are. They need no
/// image of an old class, and look less like the new classes than their images do; ours (docs/results.md).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Views {
    /// Whether each image is also turned by one, two and three right angles; of square images.
    pub rotated: bool,
    /// How many times each image is augmented as for training.
    pub augmented: usize,
    /// How many times a square of a quarter of each image is taken from another image.
    pub pasted: usize,
}

/// Most views of a kind; each is a pass through both models.
const MOST: usize = 100;

impl Views {
    /// Views of an image in all, without the image as it is.
    pub fn count(&self) -> usize {
        self.augmented + self.pasted + if self.rotated { 3 } else { 0 }
    }

    pub(super) fn check(&self) -> Result<()> {
        for (key, count) in [("augmented", self.augmented), ("pasted", self.pasted)] {
            if count > MOST {
                bail!("discriminant.views.{key} is {count}; use a value from 0 to {MOST}");
            }
        }
        match self.count() {
            0 => bail!(
                "discriminant.views names no view; set rotated, augmented or pasted, or leave views out"
            ),
            _ => Ok(()),
        }
    }
}
