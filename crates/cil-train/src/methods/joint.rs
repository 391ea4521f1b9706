//! The upper bound: every task is trained with the images of all classes.

use super::method::{Family, Listed, Method, Presets};
use super::{fine_tune, lucir};
use crate::recipe::{Recipe, Training};

/// `joint`. Every task begins with new weights, so each is trained as long as the base classes.
pub static METHOD: Method = Method {
    presets: &[
        Presets::of(Family::ColdStart, Listed::All),
        Presets::at(lucir::half_first, Family::HalfFirst, Listed::Nothing),
        Presets::of(Family::StrongBase, Listed::Nothing),
        Presets::at(lucir::equal_tasks, Family::EqualTasks, Listed::All),
        Presets::of(Family::ImageNet, Listed::All),
    ],
    ..Method::new(
        "joint",
        "retraining on all images of all classes seen in every task: the upper bound",
        |lengths| joint(lengths.base.clone(), lengths.base.clone()),
    )
};

/// Every task anew with all images: the upper bound.
pub fn joint(base: Training, increment: Training) -> Recipe {
    Recipe { joint: true, ..fine_tune(base, increment) }
}
