//! R-DFCIL (Gao et al. 2022).

use cil_backbone::{Architecture, HeadKind};
use cil_data::augment::{Augmentation, Fill, Preparation};
use cil_engine::optim::Decay;

use super::lengths::{Lengths, full_batches, same_in_every_task, sgd};
use super::method::{Family, Listed, Method, Presets};
use super::published::{Published, normalisation};
use super::{fine_tune, lucir};
use crate::recipe::{Columns, PhaseSpec, Recipe, ReplaySpec, Rows, SyntheticNorm, Trained, Training};
use crate::term::{AngleRelation, ClassBalanced, ClassScale, CrossEntropy, LogitL1, Scaled};

/// `rdfcil`.
pub static METHOD: Method = Method {
    source: "Gao et al., ECCV 2022",
    presets: &[
        Presets::at(published, Family::HalfFirst, Listed::All),
        Presets::at(published, Family::EqualTasks, Listed::All),
        Presets::of(Family::ImageNet, Listed::All),
    ],
    ..Method::new(
        "rdfcil",
        "R-DFCIL: inversion, hard and relational distillation, the head refined",
        |lengths| {
            let Lengths { base, increment, refinement, .. } = lengths.clone();
            rdfcil(base, increment, refinement, lengths.dreams())
        },
    )
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
    recipe.head = HeadKind::WithoutBias;
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

/// Cropped after normalisation, as in R-DFCIL's code.
pub fn images() -> Preparation {
    let augmentation = Augmentation { crop_fill: Fill::Mean, ..lucir::images().augmentation };
    Preparation { augmentation, normalisation: normalisation("cifar100", "podnet") }
}

/// 200 epochs, the last 40 of which refine the head.
fn lengths() -> Lengths {
    let decay = Decay::MultiStep { milestones: vec![80, 120], gamma: 0.1 };
    let mut lengths = same_in_every_task(full_batches(sgd(160, 0.1, decay)));
    lengths.refinement = full_batches(lengths.refinement);
    lengths
}

/// R-DFCIL's own settings for CIFAR-100.
pub fn published() -> Published {
    Published {
        cited: "R-DFCIL (Gao et al., ECCV 2022) and its code, gqk/R-DFCIL at f47e123: 200 epochs, the last 40 of them \
     on the head at rate 0.005, rate 0.1 divided by 10 at 80 and 120, 5 000 iterations of inversion",
        lengths: lengths(),
        architecture: Architecture::podnet(32),
        images: images(),
        order: "abd_0",
    }
}
