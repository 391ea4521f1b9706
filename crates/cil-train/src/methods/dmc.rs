//! DMC (Zhang et al. 2020) with generated images.

use dtid::regression::Centring;

use super::fine_tune;
use super::method::Method;
use crate::recipe::{NewTeacherSpec, Recipe, ReplaySpec, Training};
use crate::term::DoubleRegression;

/// `dmc-generated`. The student begins with new weights, as the base model and the new teacher do.
pub static METHOD: Method = Method {
    source: "Zhang et al., WACV 2020",
    ..Method::new(
        "dmc-generated",
        "DMC with generated images and new ones in place of its auxiliary data",
        |lengths| {
            let (base, new_teacher) = (lengths.base.clone(), lengths.new_teacher.clone());
            model_consolidation(base.clone(), base, new_teacher, lengths.replay())
        },
    )
};

/// DMC (Zhang et al. 2020) without its auxiliary data: a new model of the new classes, and a student from new weights
/// that regresses both models' centred logits on the new images and on generated ones, without a label. The source has
/// a large unlabelled set of other images there.
pub fn model_consolidation(
    base: Training,
    student: Training,
    new_teacher: Training,
    replay: ReplaySpec,
) -> Recipe {
    let mut recipe = fine_tune(base, student);
    recipe.restart = true;
    recipe.replay = Some(replay);
    recipe.new_teacher = Some(NewTeacherSpec { from_old: false, exemplars: false, training: new_teacher });
    recipe.increment.terms = vec![DoubleRegression { weight: 1.0, centring: Centring::Row }.into()];
    recipe
}
