//! LUCIR (Hou et al. 2019).

use cil_backbone::{Architecture, HeadKind};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;

use super::fine_tune;
use super::lengths::{Lengths, sgd};
use super::method::{Exemplars, Family, Heads, Listed, Method, Presets, Schemes};
use super::published::{EQUAL_TASKS, Published, normalisation};
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{CrossEntropy, LessForget, MarginRanking};

/// `lucir`.
pub static METHOD: Method = Method {
    source: "Hou et al., CVPR 2019",
    exemplars: Exemplars::InName,
    schemes: Some(Schemes::DEFAULT),
    heads: Heads::OfStatistics,
    combinations: &[
        "e20",
        "e0",
        "e0-dfgr",
        "e0-dtidkl",
        "e0-dfgr-dtidkl",
        "e0-dfgr-dtid",
        "e0-dfgr-dtidkl-discriminant",
        "e0-dfgr-dtid-discriminant",
        "e0-stages",
        "e0-dfgr-dtid-stages",
        "e0-dfgr-dtid-unshared",
        "e20-dfgr-dtidkl",
        "e0-dtid",
        "e20-dfgr",
        "e20-dtid",
        "e20-dfgr-dtid",
    ],
    presets: &[
        Presets::of(Family::ColdStart, Listed::All),
        Presets::at(half_first, Family::HalfFirst, Listed::AllAnd(&["e20-dtidkl"])),
        Presets::of(Family::StrongBase, Listed::Nothing),
        Presets::at(equal_tasks, Family::EqualTasks, Listed::WithoutExemplars),
        Presets::of(
            Family::ImageNet,
            Listed::Only(&["e20", "e0", "e0-dfgr", "e0-dtid", "e0-dfgr-dtid", "e0-dfgr-dtid-discriminant"]),
        ),
    ],
    ..Method::new("lucir", "LUCIR: a cosine head, features distilled, margins ranked", |lengths| {
        lucir(lengths.base.clone(), lengths.increment.clone(), lengths.exemplars_per_class())
    })
};

/// LUCIR (Hou et al. 2019) with that many exemplars a class: cosine head, less-forget constraint of weight
/// 5 sqrt(old / new), margin ranking (0.5, two negatives), imprinted new weights, old class weights left alone; numbers
/// of the released code for CIFAR-100.
pub fn lucir(base: Training, increment: Training, exemplars_per_class: usize) -> Recipe {
    let terms = vec![
        CrossEntropy::plain(Rows::Real, Columns::Seen).into(),
        LessForget { weight: 5.0, adaptive: true, rows: Rows::All }.into(),
        MarginRanking { weight: 1.0, margin: 0.5, negatives: 2, rows: Rows::Old }.into(),
    ];
    let mut recipe = fine_tune(base, increment);
    recipe.head = HeadKind::Cosine;
    recipe.exemplars = Budget::PerClass(exemplars_per_class);
    recipe.freeze_old_head = true;
    recipe.imprint = true;
    recipe.increment.terms = terms;
    recipe
}

/// LUCIR's lengths on CIFAR-100, rate 0.1 by milestones.
pub fn lengths() -> Lengths {
    let milestones = || Decay::MultiStep { milestones: vec![80, 120], gamma: 0.1 };
    Lengths {
        base: sgd(160, 0.1, milestones()),
        increment: sgd(160, 0.1, milestones()),
        new_teacher: sgd(80, 0.1, Decay::MultiStep { milestones: vec![40, 60], gamma: 0.1 }),
        ..super::podnet::lengths()
    }
}

/// Images as in LUCIR's code for CIFAR-100.
pub fn images() -> Preparation {
    let augmentation = Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() };
    Preparation { augmentation, normalisation: normalisation("cifar100", "lucir") }
}

/// Half of CIFAR-100's classes first.
pub fn half_first() -> Published {
    Published {
        cited: "LUCIR (Hou et al., CVPR 2019) and its code, hshustc/CVPR19_Incremental_Learning at e5a90ae: \
     ResNet-32, 160 epochs, rate 0.1 divided by 10 at 80 and 120; inversion and two teachers ours after Choi et al. \
     2021 (arXiv 2106.09835)",
        lengths: lengths(),
        architecture: Architecture::lucir(32),
        images: images(),
        order: "lucir_1993",
    }
}

/// CIFAR-100's classes in equal tasks.
pub fn equal_tasks() -> Published {
    Published { cited: EQUAL_TASKS, order: "abd_0", ..half_first() }
}
