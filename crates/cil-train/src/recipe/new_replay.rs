//! The new classes, where their images are not shared but a model of them is.
//!
//! Images of a second generator, inverted from the new teacher, take the place of the real images of new classes in
//! every step of the student; recipes that need a real one are refused here.

use anyhow::{Result, anyhow, bail};
use dfgr::InversionConfig;
use serde::{Deserialize, Serialize};

use super::Recipe;

/// Most generated images of a new class in an epoch; data sets have some hundreds or thousands.
const MOST_IMAGES: usize = 100_000;

/// Images generated from the new teacher, in place of the new images: only the new teacher sees these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewReplaySpec {
    /// How the second generator is trained: from scratch in every task, from the new teacher alone.
    pub inversion: InversionConfig,
    /// Generated images of an epoch for each new class. A step has `training.batch` of its phase, and the last step as
    /// many as the others.
    pub images_per_class: usize,
}

impl NewReplaySpec {
    /// Steps of an epoch of that many new classes, with `batch` of their images in each.
    pub fn steps(&self, n_new: usize, batch: usize) -> usize {
        (self.images_per_class * n_new).div_ceil(batch)
    }
}

impl Recipe {
    /// Refuses what needs a real image of a new class where there is none.
    pub(super) fn without_new_images(&self) -> Result<()> {
        let Some(spec) = &self.new_replay else { return Ok(()) };
        if self.joint {
            bail!(
                "new-replay is set and joint is true; joint learns from the images, so leave new-replay out"
            );
        }
        if self.bias_correction.is_some() {
            bail!(
                "new-replay and bias-correction are both set; a bias is corrected on images of new classes, which \
                 are \
                 not shared, so leave one of them out"
            );
        }
        if !self.exemplars.is_none() {
            bail!(
                "new-replay is set and exemplars are kept; images of new classes are not shared, so set exemplars \
                 to 0"
            );
        }
        if self.discriminant.is_some() {
            bail!(
                "new-replay and discriminant are both set; statistics of new classes are of their images, which are \
                 not \
                 shared, so leave one of them out"
            );
        }
        if self.new_teacher.is_none() {
            bail!(
                "new-replay is set, and its images are generated from the new teacher; add the table new-teacher"
            );
        }
        if self.replay.is_none() {
            bail!("new-replay is set, and no image of an old class would be left; add the table replay");
        }
        spec.inversion.check().map_err(|error| anyhow!("new-replay.{error}"))?;
        let count = spec.images_per_class;
        if count == 0 || count > MOST_IMAGES {
            bail!("new-replay.images-per-class is {count}; use a value from 1 to {MOST_IMAGES}");
        }
        Ok(())
    }
}
