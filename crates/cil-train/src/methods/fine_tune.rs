//! Cross-entropy on the new classes alone.

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;

use super::method::{Family, Listed, Method, Presets};
use super::{abd, lucir};
use crate::recipe::{Columns, PhaseSpec, Recipe, Rows, Trained, Training};
use crate::term::CrossEntropy;

/// `fine-tune`.
pub static METHOD: Method = Method {
    presets: &[
        Presets::of(Family::ColdStart, Listed::All),
        Presets::at(lucir::half_first, Family::HalfFirst, Listed::Nothing),
        Presets::at(abd::published, Family::EqualTasks, Listed::All),
    ],
    ..Method::new("fine-tune", "cross-entropy on the new classes alone", |lengths| {
        fine_tune(lengths.base.clone(), lengths.increment.clone())
    })
};

/// Cross-entropy on new images alone: what forgetting looks like.
pub fn fine_tune(base: Training, increment: Training) -> Recipe {
    let terms = vec![CrossEntropy::plain(Rows::Real, Columns::Seen).into()];
    Recipe {
        head: HeadKind::Linear,
        exemplars: Budget::PerClass(0),
        random_exemplars: false,
        oversample: false,
        joint: false,
        restart: false,
        freeze_old_head: false,
        imprint: false,
        base: PhaseSpec { trained: Trained::All, terms: terms.clone(), training: base },
        increment: PhaseSpec { trained: Trained::All, terms, training: increment },
        replay: None,
        adversarial: None,
        new_teacher: None,
        new_replay: None,
        balance: None,
        align: None,
        bias_correction: None,
        logistic: None,
        discriminant: None,
    }
}
