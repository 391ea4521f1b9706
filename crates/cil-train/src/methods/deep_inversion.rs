//! What ABD's table calls DeepInversion.

use super::method::{Family, Listed, Method, Presets};
use super::{abd, fine_tune};
use crate::recipe::{Columns, Recipe, ReplaySpec, Rows, SyntheticNorm, Training};
use crate::term::{CrossEntropy, GlobalKd, LogitKd};

/// `deepinversion`.
pub static METHOD: Method = Method {
    source: "Smith et al., ICCV 2021, after Yin et al., CVPR 2020",
    presets: &[Presets::at(abd::published, Family::EqualTasks, Listed::All)],
    ..Method::new(
        "deepinversion",
        "what ABD's table calls DeepInversion: a generator's images, logits distilled",
        |lengths| generated_deep_inversion(lengths.base.clone(), lengths.increment.clone(), lengths.dreams()),
    )
};

/// What ABD's table calls DeepInversion, after Yin et al. 2020: a generator in place of images that are optimised one
/// by one; cross-entropy over all classes seen on new images, the old model's prediction distilled on its own columns
/// on new images and among all classes on generated ones, temperature 2 without its square (weight 0.25 here).
pub fn generated_deep_inversion(base: Training, increment: Training, replay: ReplaySpec) -> Recipe {
    let (weight, temperature) = (0.25, 2.0);
    let mut recipe = fine_tune(base, increment);
    recipe.replay = Some(ReplaySpec { synthetic_norm: SyntheticNorm::Joint, ..replay });
    recipe.increment.terms = vec![
        CrossEntropy::plain(Rows::New, Columns::Seen).into(),
        LogitKd { weight, temperature, rows: Rows::New }.into(),
        GlobalKd { weight, temperature, rows: Rows::Synthetic }.into(),
    ];
    recipe
}
