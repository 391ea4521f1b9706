//! Learning without forgetting (Li & Hoiem 2016), in two forms.

use super::method::{Family, Heads, Listed, Method, Presets, Schemes};
use super::schemes::{with_dfgr_distilled, without_logits_of_its_own};
use super::{fine_tune, lucir};
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{CrossEntropy, LogitKd};

/// `lwf`. Generated images are distilled and not labelled; two teachers' logits replace the method's own distillation.
pub static METHOD: Method = Method {
    source: LI,
    schemes: Some(Schemes {
        replay: with_dfgr_distilled,
        before_two_teachers: without_logits_of_its_own,
        ..Schemes::DEFAULT
    }),
    heads: Heads::OfStatistics,
    combinations: &[
        "",
        "dfgr",
        "dtid",
        "dfgr-dtid",
        "discriminant",
        "dfgr-discriminant",
        "dtid-discriminant",
        "dfgr-dtid-discriminant",
        "stages",
        "dfgr-stages",
        "dtid-stages",
        "dfgr-dtid-stages",
        "views",
        "dtidkl-views",
        "sdc",
        "ldc",
        "adc",
        "apr-discriminant",
        "apr-stages",
        "apr-dtidkl-stages",
    ],
    presets: &[
        Presets::of(Family::ColdStart, Listed::All),
        Presets::at(lucir::half_first, Family::HalfFirst, Listed::All),
        Presets::of(Family::StrongBase, Listed::Nothing),
        Presets::at(lucir::equal_tasks, Family::EqualTasks, Listed::All),
        Presets::of(Family::ImageNet, Listed::Only(&[""])),
    ],
    ..Method::new(
        "lwf",
        "learning without forgetting: cross-entropy among the new classes, old logits distilled",
        |lengths| lwf(lengths.base.clone(), lengths.increment.clone()),
    )
};

/// `lwf-seen`.
pub static SEEN: Method = Method {
    source: LI,
    presets: &[
        Presets::at(lucir::half_first, Family::HalfFirst, Listed::Nothing),
        Presets::at(lucir::equal_tasks, Family::EqualTasks, Listed::All),
    ],
    ..Method::new(
        "lwf-seen",
        "learning without forgetting with cross-entropy over all classes seen",
        |lengths| lwf_seen(lengths.base.clone(), lengths.increment.clone()),
    )
};

const LI: &str = "Li and Hoiem, ECCV 2016";

/// Learning without forgetting (Li & Hoiem 2016): cross-entropy among the new classes, the old model's softened logits
/// on the old ones; temperature 2 and weight 1 (their p. 5; the same in FACIL's `approach/lwf.py` at 66e3e8e, where
/// there are no exemplars). Old and new columns never compete, so that old classes are kept and new ones are named too
/// seldom; [`lwf_seen`] fails the other way round.
pub fn lwf(base: Training, increment: Training) -> Recipe {
    let mut recipe = fine_tune(base, increment);
    recipe.increment.terms = vec![
        CrossEntropy::plain(Rows::New, Columns::New).into(),
        LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::Real }.into(),
    ];
    recipe
}

/// [`lwf`] with cross-entropy over all classes seen, as it is often run when tasks are not told apart: the new labels
/// push every old logit down, whatever is distilled.
pub fn lwf_seen(base: Training, increment: Training) -> Recipe {
    let mut recipe = lwf(base, increment);
    recipe.increment.terms[0] = CrossEntropy::plain(Rows::New, Columns::Seen).into();
    recipe
}
