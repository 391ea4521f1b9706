//! PODNet (Douillard et al. 2020).

use cil_backbone::{Architecture, HeadKind};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;
use dfgr::InversionConfig;

use super::lengths::{Lengths, correction, sgd};
use super::method::{Exemplars, Family, Heads, Listed, Method, OwnMaps, Presets, Schemes};
use super::published::{EQUAL_TASKS, Published, normalisation};
use super::schemes::without_maps_of_its_own;
use super::{fine_tune, lucir};
use crate::loss::nca::NcaForm;
use crate::recipe::{PhaseSpec, Recipe, Rows, TermSpec, Trained, Training};
use crate::term::{Nca, PodFlat, PodSpatial};

/// `podnet`.
pub static METHOD: Method = Method {
    source: "Douillard et al., ECCV 2020",
    exemplars: Exemplars::InName,
    schemes: Some(Schemes {
        own_maps: Some(OwnMaps { name: "POD-spatial", without: without_maps_of_its_own }),
        ..Schemes::DEFAULT
    }),
    heads: Heads::OfStatistics,
    network: Architecture::podnet,
    combinations: &[
        "e20",
        "e0",
        "e20-dfgr",
        "e0-dfgr",
        "e20-dtid",
        "e0-dtid",
        "e20-dfgr-dtid",
        "e0-dfgr-dtid",
        "e20-dfgr-dtid-replace",
        "e0-dfgr-dtid-replace",
    ],
    presets: &[
        Presets::at(half_first, Family::HalfFirst, Listed::All),
        Presets::of(Family::OneByOne, Listed::All),
        Presets::at(equal_tasks, Family::EqualTasks, Listed::WithoutExemplars),
    ],
    ..Method::new("podnet", "PODNet: several proxies a class, maps of all stages distilled", |lengths| {
        let Lengths { base, increment, fine_tuning, .. } = lengths.clone();
        podnet(base, increment, fine_tuning, lengths.exemplars_per_class())
    })
};

/// Proxies of each class in PODNet's head.
const PODNET_PROXIES: usize = 10;
/// Largest element of a gradient in PODNet's code.
const PODNET_GRADIENT_LIMIT: f64 = 5.0;

/// PODNet (Douillard et al. 2020) with that many exemplars a class: ten proxies a class, which begin for new classes at
/// the centres of k-means, old ones left alone; its loss as the released code has it, POD-spatial of weight 3 and
/// POD-flat of weight 1, both times sqrt(seen / new); and after each later task `fine_tuning` of all proxies on the
/// exemplars of all classes. Numbers of the released code for CIFAR-100 (c09fc54,
/// `options/podnet/podnet_cnn_cifar100.yaml`). Without exemplars there is nothing to fine-tune on.
pub fn podnet(
    base: Training,
    increment: Training,
    fine_tuning: Training,
    exemplars_per_class: usize,
) -> Recipe {
    let limited = |training| Training { gradient_limit: Some(PODNET_GRADIENT_LIMIT), ..training };
    let nca: TermSpec =
        Nca { weight: 1.0, form: NcaForm::Released, rows: Rows::Real, balanced: false }.into();
    let mut recipe = fine_tune(limited(base), limited(increment));
    recipe.head = HeadKind::MultiProxy { proxies: PODNET_PROXIES };
    recipe.exemplars = Budget::PerClass(exemplars_per_class);
    recipe.freeze_old_head = true;
    recipe.imprint = true;
    recipe.base.terms = vec![nca.clone()];
    recipe.increment.terms = vec![
        nca.clone(),
        PodFlat { weight: 1.0, adaptive: true, rows: Rows::All }.into(),
        PodSpatial { weight: 3.0, adaptive: true, rows: Rows::All }.into(),
    ];
    recipe.balance = (exemplars_per_class > 0).then(|| PhaseSpec {
        trained: Trained::ClassWeights,
        terms: vec![nca],
        training: limited(fine_tuning),
    });
    recipe
}

/// PODNet's lengths on CIFAR-100, rate 0.1 by a cosine.
pub fn lengths() -> Lengths {
    let cosine = Decay::Cosine { minimum: 0.0 };
    Lengths {
        base: sgd(160, 0.1, cosine.clone()),
        increment: sgd(160, 0.1, cosine.clone()),
        new_teacher: sgd(80, 0.1, cosine),
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        correction: correction(200, 0.1, Decay::Constant),
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion: InversionConfig::unconditional(5000),
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::PerClass(20),
    }
}

/// Images as in PODNet's code for CIFAR-100.
pub fn images() -> Preparation {
    let augmentation = Augmentation { brightness: 63.0 / 255.0, ..lucir::images().augmentation };
    Preparation { augmentation, normalisation: normalisation("cifar100", "podnet") }
}

/// Half of CIFAR-100's classes first.
pub fn half_first() -> Published {
    Published {
        cited: "PODNet (Douillard et al., ECCV 2020) and its code, arthurdouillard/incremental_learning.pytorch at \
     c09fc54, options/podnet/podnet_cnn_cifar100.yaml, first of its three class orders: its ResNet-32, 160 epochs, rate \
     0.1 by a cosine, 20 epochs of fine-tuning at 0.05; inversion and two teachers ours after Choi et al. 2021 (arXiv \
     2106.09835)",
        lengths: lengths(),
        architecture: Architecture::podnet(32),
        images: images(),
        order: "podnet_1",
    }
}

/// CIFAR-100's classes in equal tasks.
pub fn equal_tasks() -> Published {
    Published { cited: EQUAL_TASKS, order: "abd_0", ..half_first() }
}
