//! Cross-entropy on new images and exemplars.

use cil_data::exemplars::Budget;

use super::method::{Exemplars, Family, Listed, Method, Presets};
use super::{abd, fine_tune};
use crate::recipe::{Recipe, Training};

/// `rehearsal`.
pub static METHOD: Method = Method {
    exemplars: Exemplars::OfProtocol,
    presets: &[Presets::at(abd::published, Family::EqualTasks, Listed::All)],
    ..Method::new(
        "rehearsal",
        "cross-entropy over all classes seen, on new images and as many exemplars",
        |lengths| rehearsal(lengths.base.clone(), lengths.increment.clone(), lengths.exemplars),
    )
};

/// Cross-entropy over all classes seen, on new images and exemplars: what exemplars do alone. As ABD's table means it:
/// exemplars drawn at random, and in a task as many draws of them, with replacement, as there are new images.
pub fn rehearsal(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    Recipe { random_exemplars: true, oversample: true, ..with_kept(base, increment, exemplars) }
}

/// [`fine_tune()`] on new images and the most typical of the old ones, each once.
pub fn with_kept(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    Recipe { exemplars, ..fine_tune(base, increment) }
}
