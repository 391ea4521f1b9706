//! ABD, always be dreaming (Smith et al. 2021).

use cil_backbone::{Architecture, Variant};
use cil_data::augment::{Augmentation, Preparation};
use cil_engine::optim::Decay;

use super::lengths::{Lengths, full_batches, same_in_every_task, sgd};
use super::method::{Family, Listed, Method, Presets};
use super::published::{Published, normalisation};
use super::{fine_tune, podnet};
use crate::recipe::{Columns, Recipe, ReplaySpec, Rows, SyntheticNorm, Training};
use crate::term::{ClassScale, CrossEntropy, HeadCrossEntropy, OldHead, Scaled};

/// `abd`.
pub static METHOD: Method = Method {
    source: "Smith et al., ICCV 2021",
    presets: &[
        Presets::at(published, Family::HalfFirst, Listed::All),
        Presets::at(published, Family::EqualTasks, Listed::All),
        Presets::of(Family::ImageNet, Listed::All),
    ],
    ..Method::new(
        "abd",
        "ABD (always be dreaming): inversion, features distilled through the old head",
        |lengths| always_be_dreaming(lengths.base.clone(), lengths.increment.clone(), lengths.dreams()),
    )
};

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

/// As in ABD's code: both jitters, of whole images.
fn images() -> Preparation {
    let augmentation = Augmentation { contrast: 0.8, ..podnet::images().augmentation };
    Preparation { augmentation, normalisation: normalisation("cifar100", "abd") }
}

fn lengths() -> Lengths {
    let decay = Decay::MultiStep { milestones: vec![100, 150, 200], gamma: 0.1 };
    let training = Training { weight_decay: 2e-4, ..full_batches(sgd(250, 0.1, decay)) };
    let mut lengths = same_in_every_task(training);
    lengths.inversion.iterations = 10_000;
    lengths
}

/// ABD's settings for CIFAR-100, of its own method and of those that its table compares.
pub fn published() -> Published {
    Published {
        cited: "ABD (Smith et al., ICCV 2021) and its code, GT-RIPL/AlwaysBeDreaming-DFCIL at 1aa209b: 250 epochs, rate \
     0.1 divided by 10 at 100, 150 and 200, decay 2e-4, its ResNet-32, brightness and contrast",
        lengths: lengths(),
        architecture: Architecture::small(Variant::He, 32),
        images: images(),
        order: "abd_0",
    }
}
