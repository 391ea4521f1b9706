//! Published methods that keep exemplars of old classes, as recipes.
//!
//! The settings that define a method are here, with their source; the budget is an argument, since sources compare
//! methods at several.

use cil_backbone::HeadKind;
use cil_backbone::align::Length;
use cil_data::exemplars::Budget;

use super::fine_tune;
use crate::recipe::correction::{AlignSpec, BiasCorrectionSpec};
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{BinaryCrossEntropy, ClassScale, CrossEntropy, LogitKd, Scaled};

/// Cross-entropy over all classes seen, on new images and exemplars: what exemplars do alone. As ABD's table means it:
/// exemplars drawn at random, and in a task as many draws of them, with replacement, as there are new images.
pub fn rehearsal(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    Recipe { random_exemplars: true, oversample: true, ..with_kept(base, increment, exemplars) }
}

/// [`fine_tune`] on new images and the most typical of the old ones, each once.
fn with_kept(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    Recipe { exemplars, ..fine_tune(base, increment) }
}

/// iCaRL (Rebuffi et al. 2017) as its paper and its code have it: every class is a binary question, old ones with the
/// old model's sigmoids for targets. It classifies by the nearest mean of exemplars, which every evaluation reports
/// beside the head. Loss of weight 0.01: the code takes the mean over 100 outputs, here the sum over the classes seen.
pub fn icarl(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let terms = vec![BinaryCrossEntropy { weight: 0.01, rows: Rows::Real }.into()];
    let mut recipe = with_kept(base, increment, exemplars);
    (recipe.base.terms, recipe.increment.terms) = (terms.clone(), terms);
    recipe
}

/// iCaRL as it is mostly run since: softmax cross-entropy, and the old model's logits distilled at temperature 2
/// without the square of it (weight 0.25 here). So in PyCIL; in LUCIR's comparison the weight 0.25 stands before the
/// square.
pub fn icarl_softmax(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let mut recipe = with_kept(base, increment, exemplars);
    recipe.increment.terms.push(LogitKd { weight: 0.25, temperature: 2.0, rows: Rows::Real }.into());
    recipe
}

/// Weight aligning (Zhao et al. 2020): cross-entropy and distillation weighted by the shares of new and of old classes,
/// temperature 2 without its square (weight 0.25 here), then the newest classes' weights brought to the mean length of
/// the old ones', and no biases. The length is L1 and new classes are never lengthened, as in the authors' code; its
/// clipping of head weights at 0 suits features that are not negative, so it is left to `positive`.
pub fn weight_aligning(base: Training, increment: Training, exemplars: Budget, positive: bool) -> Recipe {
    let mut recipe = shared_by_counts(base, increment, exemplars);
    recipe.head = HeadKind::WithoutBias;
    recipe.align = Some(AlignSpec { length: Length::L1, shrink_only: true, positive });
    recipe
}

/// BiC (Wu et al. 2019): trained as [`weight_aligning`] is, with biases and on nine tenths of what is kept; then the
/// newest classes' logits are multiplied by one number and moved by another, learned on the last tenth.
pub fn bias_correction(
    base: Training,
    increment: Training,
    exemplars: Budget,
    correction: Training,
) -> Recipe {
    let mut recipe = shared_by_counts(base, increment, exemplars);
    recipe.bias_correction = Some(BiasCorrectionSpec { held_out: 0.1, training: correction });
    recipe
}

/// Cross-entropy of the new classes' share and distillation of the old ones': what WA and BiC have in common.
fn shared_by_counts(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let distilled = LogitKd { weight: 0.25, temperature: 2.0, rows: Rows::Real };
    let mut recipe = with_kept(base, increment, exemplars);
    recipe.increment.terms = vec![
        Scaled::new(ClassScale::NewShare, CrossEntropy::plain(Rows::Real, Columns::Seen)).into(),
        Scaled::new(ClassScale::OldShare, distilled).into(),
    ];
    recipe
}
