//! The base model's features, never trained again.

use super::lucir;
use super::method::{Family, Heads, Listed, Method, Presets};
use crate::recipe::{Columns, Recipe, Rows, Trained, Training};
use crate::term::CrossEntropy;

/// `frozen`.
pub static METHOD: Method = Method {
    heads: Heads::Required,
    combinations: &["discriminant", "ridge", "stages", "fecam", "fecamshared", "fetril"],
    presets: &[
        Presets::of(Family::ColdStart, Listed::All),
        Presets::at(lucir::half_first, Family::HalfFirst, Listed::All),
        Presets::of(Family::StrongBase, Listed::All),
        Presets::at(lucir::equal_tasks, Family::EqualTasks, Listed::All),
        Presets::of(Family::ImageNet, Listed::Only(&["discriminant"])),
    ],
    ..Method::new("frozen", "the base model's features, never trained again", |lengths| {
        frozen_features(lengths.base.clone(), lengths.increment.clone())
    })
};

/// A backbone that stays as the base classes made it (the floor of whatever trains it further): of a later task, one
/// epoch of the head alone, which a discriminant of kept statistics makes superfluous. With it, what streaming
/// discriminant analysis (Hayes and Kanan 2020) and FeCAM with a common covariance (Goswami et al. 2023) are, but for
/// features of length
/// 1. The base is LUCIR's.
pub fn frozen_features(base: Training, increment: Training) -> Recipe {
    let mut recipe = lucir(base, Training { epochs: 1, ..increment }, 0);
    recipe.increment.trained = Trained::Head;
    recipe.increment.terms = vec![CrossEntropy::plain(Rows::New, Columns::New).into()];
    recipe
}
