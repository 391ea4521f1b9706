//! Published methods that keep no image, as recipes.
//!
//! Each has the parts that its source gives it and none of ours, so that what ours adds can be measured; how long a
//! phase is and how the teacher is inverted are arguments.

use dtid::regression::Centring;

use super::{fine_tune, lucir};
use crate::recipe::{
    Columns, NewTeacherSpec, PhaseSpec, Recipe, ReplaySpec, Rows, SyntheticNorm, Trained, Training,
};
use crate::term::{
    AngleRelation, ClassBalanced, ClassScale, CrossEntropy, DoubleRegression, GlobalKd, HeadCrossEntropy,
    LogitKd, LogitL1, OldHead, Scaled,
};

/// R-DFCIL (Gao et al. 2022): new images among the new classes alone (0.5), the old model's logits on generated images
/// by their absolute difference (0.15), angles between new images' features (0.5, projected to twice their width), each
/// times its factor of class counts; then the head is refined on both, every class counting the same. No biases;
/// numbers of the released code.
pub fn rdfcil(base: Training, increment: Training, refinement: Training, replay: ReplaySpec) -> Recipe {
    let hard = || Scaled::new(ClassScale::Keeping, LogitL1 { weight: 0.15, rows: Rows::Synthetic }).into();
    let local = CrossEntropy { weight: 0.5, ..CrossEntropy::plain(Rows::New, Columns::New) };
    let angles = AngleRelation { weight: 0.5, rows: Rows::New, projection: 2 };
    let mut recipe = fine_tune(base, increment);
    recipe.head = cil_backbone::HeadKind::WithoutBias;
    recipe.replay = Some(ReplaySpec { synthetic_norm: SyntheticNorm::Separate, ..replay });
    recipe.increment.terms = vec![
        Scaled::new(ClassScale::Learning, local).into(),
        hard(),
        Scaled::new(ClassScale::Keeping, angles).into(),
    ];
    recipe.balance = Some(PhaseSpec {
        trained: Trained::Head,
        terms: vec![ClassBalanced { weight: 0.5, rows: Rows::All }.into(), hard()],
        training: refinement,
    });
    recipe
}

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

/// ABD (Smith et al. 2021): new images among the new classes alone, times their share of the classes; all images on
/// features that the loss does not move, every class counting the same (0.5, since the code's weights of rows are half
/// of ours); features as the old head sees them (0.1). Numbers of the released code.
pub fn always_be_dreaming(base: Training, increment: Training, replay: ReplaySpec) -> Recipe {
    let local = CrossEntropy::plain(Rows::New, Columns::New);
    let mut recipe = fine_tune(base, increment);
    recipe.replay = Some(ReplaySpec { synthetic_norm: SyntheticNorm::Joint, ..replay });
    recipe.increment.terms = vec![
        Scaled::new(ClassScale::NewShare, local).into(),
        HeadCrossEntropy { weight: 0.5, rows: Rows::All, balanced: true }.into(),
        OldHead { weight: 0.1, rows: Rows::All }.into(),
    ];
    recipe
}

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
