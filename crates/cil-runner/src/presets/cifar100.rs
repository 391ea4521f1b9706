//! CIFAR-100: the published protocols, and small ones of its first classes.

use cil_backbone::Variant;
use cil_data::augment::{Augmentation, Policy, Preparation};
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;
use cil_train::recipe::Training;
use dfgr::InversionConfig;

use super::equal;
use super::method::{Base, MethodName};
use super::protocol::{Made, Protocol};
use super::settings::{self, Lengths, built_on, correction, methods, sgd};
use crate::config::{DatasetSpec, OrderSpec, RunConfig};

const LUCIR: &str = "LUCIR (Hou et al., CVPR 2019) and its code, hshustc/CVPR19_Incremental_Learning at e5a90ae: \
     ResNet-32, 160 epochs, rate 0.1 divided by 10 at 80 and 120; inversion and two teachers ours after Choi et al. \
     2021 (arXiv 2106.09835)";

const PODNET: &str = "PODNet (Douillard et al., ECCV 2020) and its code, arthurdouillard/incremental_learning.pytorch at \
     c09fc54, options/podnet/podnet_cnn_cifar100.yaml, first of its three class orders: its ResNet-32, 160 epochs, rate \
     0.1 by a cosine, 20 epochs of fine-tuning at 0.05; inversion and two teachers ours after Choi et al. 2021 (arXiv \
     2106.09835)";

const STRONG: &str = "ours: LUCIR's network and class order; images and length of the base as in the code of ACIL and DS-AL \
     (ZHUANGHP/Analytic-continual-learning at 0afd6bf): crop, flip, TrivialAugmentWide, batch 256, rate 0.5 by a cosine \
     over 300 epochs";

const EQUAL: &str = "ours: LUCIR's or PODNet's published lengths on 100 classes in equal tasks, ABD's protocol (Smith et al., \
     ICCV 2021) and the first of its class orders; inversion and two teachers after Choi et al. 2021 (arXiv \
     2106.09835)";

const TEN: &str = "ours: LUCIR's settings on the first 10 classes of its order with ResNet-14 and fewer epochs, for two \
     processor cores; chosen on held-out training images and on other class orders";

const TWENTY: &str = "ours: cifar100-10c's settings on the first 20 classes of LUCIR's order with ResNet-20, for two \
     processor cores; nothing was chosen on these images";

/// The settings that the presets of a family share.
pub(super) struct Family {
    /// Where their settings come from.
    pub(super) cited: &'static str,
    pub(super) lengths: Lengths,
    pub(super) increments: Vec<usize>,
    pub(super) depth: usize,
    pub(super) order: &'static str,
    /// How images are changed and normalised.
    pub(super) images: Preparation,
}

/// As in LUCIR's code.
pub(super) fn images_of_lucir() -> Preparation {
    let augmentation = Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() };
    Preparation { augmentation, normalisation: settings::normalisation("cifar100", "lucir") }
}

/// As in PODNet's code.
pub(super) fn images_of_podnet() -> Preparation {
    let augmentation = Augmentation { brightness: 63.0 / 255.0, ..images_of_lucir().augmentation };
    Preparation { augmentation, normalisation: settings::normalisation("cifar100", "podnet") }
}

impl Family {
    /// The configuration of a method.
    pub(super) fn made(&self, method: &MethodName) -> Made {
        let Preparation { augmentation, normalisation } = self.images.clone();
        let config = RunConfig {
            preset: None,
            method: String::new(),
            dataset: DatasetSpec::named("cifar100"),
            classes: self.increments.iter().sum(),
            class_order: OrderSpec::Published(self.order.into()),
            increments: self.increments.clone(),
            validation_per_class: 0,
            evaluate_on: Evaluate::Test,
            seed: 1,
            architecture: settings::architecture(method, self.depth),
            augmentation,
            normalisation,
            procedural: None,
            recipe: settings::recipe(method, &self.lengths),
        };
        let source = self.cited;
        Made { source, config }
    }
}

/// LUCIR's lengths, rate 0.1 by milestones.
fn lengths_of_lucir() -> Lengths {
    let milestones = || Decay::MultiStep { milestones: vec![80, 120], gamma: 0.1 };
    Lengths {
        base: sgd(160, 0.1, milestones()),
        increment: sgd(160, 0.1, milestones()),
        new_teacher: sgd(80, 0.1, Decay::MultiStep { milestones: vec![40, 60], gamma: 0.1 }),
        ..lengths_of_podnet()
    }
}

/// PODNet's lengths, rate 0.1 by a cosine.
fn lengths_of_podnet() -> Lengths {
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

/// Base of 50 classes and 5 to 50 later tasks, at the published settings of either method.
pub(super) fn published() -> Vec<Protocol> {
    [5, 10, 25, 50].map(after_50).into()
}

fn after_50(steps: usize) -> Protocol {
    let podnet = base_of_50(steps, PODNET, lengths_of_podnet(), "podnet_1");
    let lucir = base_of_50(steps, LUCIR, lengths_of_lucir(), "lucir_1993");
    let mut listed = built_on(&[Base::Podnet]);
    if steps < 50 {
        listed.extend(built_on(&[
            Base::Lucir,
            Base::Lwf,
            Base::Frozen,
            Base::IcarlSoftmax,
            Base::Rdfcil,
            Base::Abd,
        ]));
        listed.extend("lucir-e20-dtidkl".parse::<MethodName>().ok());
    }
    let about =
        format!("published protocol: 50 classes, then {steps} tasks of {}, ResNet-32; for a GPU", 50 / steps);
    let make = move |method: &MethodName| {
        Some(match method.base {
            Base::Podnet => podnet.made(method),
            Base::Lucir | Base::Lwf | Base::LwfSeen | Base::Frozen | Base::FineTune | Base::Joint => {
                lucir.made(method)
            }
            Base::IcarlSoftmax => {
                let mut made = lucir.made(method);
                // LUCIR's code runs iCaRL with the network whose last block ends with a ReLU.
                made.config.architecture.variant = Variant::LucirRelu;
                made
            }
            _ => return equal::after_50(method, &lucir.increments),
        })
    };
    Protocol::new(format!("cifar100-b50-t{steps}"), about, listed, make).short()
}

fn base_of_50(steps: usize, cited: &'static str, lengths: Lengths, order: &'static str) -> Family {
    let mut increments = vec![50];
    increments.extend(vec![50 / steps; steps]);
    let images = if order == "podnet_1" { images_of_podnet() } else { images_of_lucir() };
    Family { cited, lengths, increments, depth: 32, order, images }
}

/// The same with a strong base: images changed by TrivialAugmentWide, and twice as many epochs.
pub(super) fn strong() -> Vec<Protocol> {
    [5, 10, 25].map(strong_after_50).into()
}

fn strong_after_50(steps: usize) -> Protocol {
    let mut family = base_of_50(steps, STRONG, lengths_of_lucir(), "lucir_1993");
    family.images.augmentation.policy = Some(Policy::TrivialAugmentWide);
    family.lengths.base = Training { batch: 256, ..sgd(300, 0.5, Decay::Cosine { minimum: 0.0 }) };
    let about = format!(
        "50 classes, then {steps} tasks of {}, ResNet-32, from a strong base: TrivialAugmentWide, 300 epochs; for a GPU",
        50 / steps
    );
    let make = move |method: &MethodName| {
        let has_settings = matches!(method.base, Base::Lucir | Base::Lwf | Base::Frozen | Base::Joint);
        has_settings.then(|| family.made(method))
    };
    Protocol::new(format!("cifar100-strong-b50-t{steps}"), about, built_on(&[Base::Frozen]), make).short()
}

/// All 100 classes in 5, 10 or 20 equal tasks: methods of ours that keep no image and their bounds at LUCIR's or
/// PODNet's lengths, and those that were published with this protocol at their own ([`super::equal`]).
pub(super) fn equal() -> Vec<Protocol> {
    [5, 10, 20].map(equal_tasks).into()
}

fn equal_tasks(tasks: usize) -> Protocol {
    let ours = |method: &MethodName| match method.base {
        Base::Lucir | Base::Podnet => method.exemplars == Some(0),
        Base::Lwf | Base::LwfSeen | Base::Joint | Base::Frozen => true,
        _ => false,
    };
    let mut listed: Vec<MethodName> = methods().into_iter().filter(ours).collect();
    listed.extend(built_on(&equal::BASES));
    let increments = vec![100 / tasks; tasks];
    let make = move |method: &MethodName| {
        let (lengths, images) = match method.base {
            Base::Podnet => (lengths_of_podnet(), images_of_podnet()),
            Base::Lucir | Base::Lwf | Base::LwfSeen | Base::Joint | Base::Frozen => {
                (lengths_of_lucir(), images_of_lucir())
            }
            _ => return equal::in_equal_tasks(method, &increments),
        };
        let (cited, increments) = (EQUAL, increments.clone());
        Some(Family { cited, lengths, increments, depth: 32, order: "abd_0", images }.made(method))
    };
    let about = format!("{tasks} equal tasks of {} classes, ResNet-32; for a GPU", 100 / tasks);
    Protocol::new(format!("cifar100-t{tasks}"), about, listed, make)
}

/// The first ten classes of the order, six of them base classes, in minutes.
pub(super) fn ten() -> Protocol {
    let family = small(TEN, vec![6, 2, 2], 14);
    let about = "ten classes of CIFAR-100, 6 + 2 + 2, ResNet-14; minutes";
    Protocol::new("cifar100-10c", about, methods(), move |method| Some(at_its_rate(&family, method)))
}

/// PODNet with exemplars at its own rate in later tasks: at the other methods' it ends 3 points lower
/// (docs/methods.md).
fn at_its_rate(family: &Family, method: &MethodName) -> Made {
    let mut made = family.made(method);
    if method.base == Base::Podnet && method.exemplars.is_some_and(|count| count > 0) {
        made.config.recipe.increment.training.learning_rate = 0.1;
    }
    made
}

/// The first twenty classes of the order, ten of them base classes, in a quarter of an hour at most.
pub(super) fn twenty() -> Protocol {
    let family = small(TWENTY, vec![10, 2, 2, 2, 2, 2], 20);
    let about = "twenty classes of CIFAR-100, 10 and then 2 at a time, ResNet-20; an hour";
    Protocol::new("cifar100-20c", about, methods(), move |method| Some(at_its_rate(&family, method)))
}

/// A family of the small presets' settings.
pub(super) fn small(cited: &'static str, increments: Vec<usize>, depth: usize) -> Family {
    let cosine = Decay::Cosine { minimum: 0.0 };
    let mut inversion = InversionConfig::unconditional(400);
    inversion.generator.channels = 64;
    let lengths = Lengths {
        base: sgd(30, 0.1, cosine.clone()),
        // Better for LwF and for LUCIR alone than the base's rate, no different for replay (docs/results.md).
        increment: sgd(20, 0.02, cosine.clone()),
        new_teacher: sgd(10, 0.1, cosine),
        // PODNet's own: 160 images or so make two steps an epoch.
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        correction: correction(100, 0.1, Decay::Constant),
        // R-DFCIL's own, which are 320 steps where a task has two classes; its head alone trains, so they are cheap.
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion,
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::PerClass(20),
    };
    Family { cited, lengths, increments, depth, order: "lucir_1993", images: images_of_lucir() }
}
