//! Tiny-ImageNet, ImageNet-100 and ImageNet: half of the classes first, then equal tasks, with ResNet-18.
//!
//! ImageNet lies in `datasets/imagenet`, a local copy with `train` and `val` and a folder a class in each.

use cil_backbone::Architecture;
use cil_data::augment::Augmentation;
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_data::folder::Subset;
use cil_data::normalise::Normalisation;
use cil_data::resized_crop::ResizedCrop;
use cil_engine::optim::Decay;
use cil_train::methods::{Family, Lengths, correction, normalisation, sgd};
use cil_train::recipe::{Recipe, TermSpec, Training};
use cil_train::term::LessForget;
use dfgr::InversionConfig;
use dfgr::generator::GeneratorConfig;

use super::method::MethodName;
use super::protocol::{Made, Protocol};
use super::settings::{self, methods_in};
use crate::config::{DatasetSpec, FolderSpec, OrderSpec, RunConfig};

const TINY: &str = "ours: PASS++'s protocol (base of 100 classes, ResNet-18 with the stem for small images), R-DFCIL's decay \
     (2e-4) and milestones (80, 120), LUCIR's 160 epochs; NumPy's shuffle of seed 1993";

const LUCIR: &str = "LUCIR (Hou et al., CVPR 2019) and its code, hshustc/CVPR19_Incremental_Learning at e5a90ae: ResNet-18, 90 \
     epochs, rate 0.1 divided by 10 at 30 and 60, decay 1e-4, less-forget weight 10, its order and its 100 classes; \
     on 1000 classes without its class-balanced fine-tuning; inversion and two teachers ours after Choi et al. 2021 (arXiv \
     2106.09835)";

/// The definition of a protocol.
struct Spec {
    name: String,
    about: String,
    cited: &'static str,
    dataset: DatasetSpec,
    order: &'static str,
    increments: Vec<usize>,
    architecture: Architecture,
    augmentation: Augmentation,
    normalisation: Normalisation,
    lengths: Lengths,
    /// LUCIR's less-forget weight.
    less_forget: f64,
}

/// All of them.
pub(super) fn protocols() -> Vec<Protocol> {
    let tiny = [5, 10, 20].map(tiny);
    let hundred = [5, 10, 25].map(|steps| imagenet(100, steps));
    let thousand = [5, 10].map(|steps| imagenet(1000, steps));
    tiny.into_iter().chain(hundred).chain(thousand).map(Spec::protocol).collect()
}

fn base_and(base: usize, steps: usize) -> Vec<usize> {
    [vec![base], vec![base / steps; steps]].concat()
}

fn tiny(steps: usize) -> Spec {
    let decayed = |training: Training| Training { weight_decay: 2e-4, ..training };
    let milestones = || Decay::MultiStep { milestones: vec![80, 120], gamma: 0.1 };
    let inversion = InversionConfig::unconditional(5000);
    Spec {
        name: format!("tiny-b100-t{steps}"),
        about: format!("Tiny-ImageNet: 100 classes, then {steps} tasks, ResNet-18; for a GPU"),
        cited: TINY,
        dataset: DatasetSpec::named("tiny-imagenet"),
        order: "numpy_1993",
        increments: base_and(100, steps),
        architecture: Architecture::imagenet_small(),
        augmentation: Augmentation { crop_padding: 8, flip: true, ..Augmentation::none() },
        normalisation: normalisation("tiny-imagenet", "usual"),
        lengths: Lengths {
            base: decayed(sgd(160, 0.1, milestones())),
            increment: decayed(sgd(160, 0.1, milestones())),
            new_teacher: decayed(sgd(80, 0.1, Decay::MultiStep { milestones: vec![40, 60], gamma: 0.1 })),
            fine_tuning: sgd(20, 0.05, Decay::Constant),
            correction: correction(200, 0.1, Decay::Constant),
            refinement: decayed(sgd(40, 0.005, Decay::Constant)),
            inversion,
            synthetic: 128,
            images_per_class: 500,
            exemplars: Budget::PerClass(20),
        },
        less_forget: 5.0,
    }
}

fn imagenet(classes: usize, steps: usize) -> Spec {
    let decayed = |training: Training| Training { weight_decay: 1e-4, ..training };
    let milestones = || Decay::MultiStep { milestones: vec![30, 60], gamma: 0.1 };
    let mut inversion = InversionConfig::unconditional(10_000);
    (inversion.batch, inversion.generator) = (64, GeneratorConfig::imagenet());
    Spec {
        name: format!("imagenet{classes}-b{}-t{steps}", classes / 2),
        about: format!(
            "{classes} classes of ImageNet: {}, then {steps} tasks, ResNet-18; for a GPU",
            classes / 2
        ),
        cited: LUCIR,
        dataset: DatasetSpec::Folder(FolderSpec {
            folder: "datasets/imagenet".into(),
            side: 224,
            classes: Some(classes),
            subset: (classes == 100).then_some(Subset::Lucir100),
            skip_broken: None,
            packed: Some(true),
        }),
        order: if classes == 100 { "podnet" } else { "lucir_1993" },
        increments: base_and(classes / 2, steps),
        architecture: Architecture::imagenet(),
        augmentation: Augmentation {
            flip: true,
            resized_crop: Some(ResizedCrop::imagenet()),
            ..Augmentation::none()
        },
        normalisation: normalisation("imagenet", "usual"),
        lengths: Lengths {
            base: decayed(sgd(90, 0.1, milestones())),
            increment: decayed(sgd(90, 0.1, milestones())),
            new_teacher: decayed(sgd(45, 0.1, Decay::MultiStep { milestones: vec![15, 30], gamma: 0.1 })),
            fine_tuning: sgd(20, 0.01, Decay::Constant),
            correction: correction(200, 0.1, Decay::Constant),
            refinement: decayed(sgd(30, 0.005, Decay::Constant)),
            inversion,
            synthetic: 64,
            images_per_class: 1300,
            exemplars: Budget::PerClass(20),
        },
        less_forget: 10.0,
    }
}

impl Spec {
    fn protocol(self) -> Protocol {
        let (name, about) = (self.name.clone(), self.about.clone());
        let make =
            move |method: &MethodName| method.base.presets_in(Family::ImageNet).map(|_| self.made(method));
        Protocol::new(name, about, methods_in(Family::ImageNet), make).short()
    }

    fn made(&self, method: &MethodName) -> Made {
        let config = RunConfig {
            preset: None,
            method: String::new(),
            dataset: self.dataset.clone(),
            classes: self.increments.iter().sum(),
            class_order: OrderSpec::Published(self.order.into()),
            increments: self.increments.clone(),
            validation_per_class: 0,
            evaluate_on: Evaluate::Test,
            seed: 1,
            architecture: self.architecture.into(),
            augmentation: self.augmentation.clone(),
            normalisation: self.normalisation.clone(),
            procedural: None,
            recipe: self.recipe(method),
        };
        let source = self.cited;
        Made { source, config }
    }

    fn recipe(&self, method: &MethodName) -> Recipe {
        let mut recipe = settings::recipe(method, &self.lengths);
        for term in &mut recipe.increment.terms {
            if let TermSpec::LessForget(LessForget { weight, .. }) = term {
                *weight = self.less_forget;
            }
        }
        // ABD's and R-DFCIL's inversion at this size has this size's network too.
        if let Some(replay) = &mut recipe.replay {
            replay.inversion.generator.kind = self.lengths.inversion.generator.kind;
        }
        recipe
    }
}
