//! Weight aligning (Zhao et al. 2020).

use cil_backbone::align::Length;
use cil_backbone::{Architecture, HeadKind};
use cil_data::augment::Preparation;
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;

use super::lengths::{Lengths, same_in_every_task, sgd};
use super::lucir;
use super::method::{Exemplars, Family, Listed, Method, Presets};
use super::published::{Published, normalisation};
use super::rehearsal::with_kept;
use crate::recipe::correction::AlignSpec;
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{ClassScale, CrossEntropy, LogitKd, Scaled};

/// `wa`. The networks' features may be negative, unlike those of the authors', so weights are not clipped at 0.
pub static METHOD: Method = Method {
    source: "Zhao et al., CVPR 2020",
    exemplars: Exemplars::OfProtocol,
    presets: &[Presets::at(published, Family::EqualTasks, Listed::All)],
    ..Method::new("wa", "weight aligning", |lengths| {
        weight_aligning(lengths.base.clone(), lengths.increment.clone(), lengths.exemplars, false)
    })
};

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

/// Cross-entropy of the new classes' share and distillation of the old ones': what WA and BiC have in common.
pub fn shared_by_counts(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let distilled = LogitKd { weight: 0.25, temperature: 2.0, rows: Rows::Real };
    let mut recipe = with_kept(base, increment, exemplars);
    recipe.increment.terms = vec![
        Scaled::new(ClassScale::NewShare, CrossEntropy::plain(Rows::Real, Columns::Seen)).into(),
        Scaled::new(ClassScale::OldShare, distilled).into(),
    ];
    recipe
}

fn lengths() -> Lengths {
    let decay = Decay::MultiStep { milestones: vec![100, 150, 200], gamma: 0.1 };
    same_in_every_task(Training { batch: 32, weight_decay: 1e-4, ..sgd(250, 0.1, decay) })
}

/// WA's own settings for CIFAR-100 in equal tasks.
pub fn published() -> Published {
    Published {
        cited: "WA (Zhao et al., CVPR 2020) and its code, bwbwzhao/Weight-Aligning at 50f369d: 250 epochs in batches of 32, \
                rate 0.1 divided by 10 at 100, 150 and 200, decay 1e-4",
        lengths: lengths(),
        architecture: Architecture::lucir(32),
        images: Preparation { normalisation: normalisation("cifar100", "podnet"), ..lucir::images() },
        order: "lucir_1993",
    }
}
