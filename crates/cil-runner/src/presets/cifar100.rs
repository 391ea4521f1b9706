//! CIFAR-100: the published protocols, and small ones of its first classes.

use cil_data::augment::{Policy, Preparation};
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;
use cil_train::methods::{Family, Lengths, Published, correction, lucir, podnet, sgd};
use cil_train::recipe::Training;
use dfgr::InversionConfig;

use super::method::MethodName;
use super::protocol::{Made, Protocol};
use super::settings::{self, methods, methods_in};
use crate::config::{DatasetSpec, OrderSpec, RunConfig};

const STRONG: &str = "ours: LUCIR's network and class order; images and length of the base as in the code of ACIL and DS-AL \
     (ZHUANGHP/Analytic-continual-learning at 0afd6bf): crop, flip, TrivialAugmentWide, batch 256, rate 0.5 by a cosine \
     over 300 epochs";

const TEN: &str = "ours: LUCIR's settings on the first 10 classes of its order with ResNet-14 and fewer epochs, for two \
     processor cores; chosen on held-out training images and on other class orders";

const TWENTY: &str = "ours: cifar100-10c's settings on the first 20 classes of LUCIR's order with ResNet-20, for two \
     processor cores; nothing was chosen on these images";

/// The settings that presets share.
pub(super) struct Settings {
    /// Where their settings come from.
    pub(super) cited: &'static str,
    pub(super) lengths: Lengths,
    pub(super) increments: Vec<usize>,
    pub(super) depth: usize,
    pub(super) order: &'static str,
    /// How images are changed and normalised.
    pub(super) images: Preparation,
}

impl Settings {
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
            architecture: (method.base.network)(self.depth).into(),
            augmentation,
            normalisation,
            procedural: None,
            recipe: settings::recipe(method, &self.lengths),
        };
        let source = self.cited;
        Made { source, config }
    }
}

/// The configuration of a method at the settings that its file has for a family of protocols, if it has any.
fn at_published(method: &MethodName, family: Family, increments: &[usize]) -> Option<Made> {
    let Published { cited, lengths, architecture, images, order } =
        (method.base.presets_in(family)?.settings?)();
    let settings = Settings { cited, lengths, increments: increments.to_vec(), depth: 32, order, images };
    let mut made = settings.made(method);
    made.config.architecture = architecture.into();
    Some(made)
}

/// Base of 50 classes and 5 to 50 later tasks, at published settings.
pub(super) fn published() -> Vec<Protocol> {
    [5, 10, 25, 50].map(after_50).into()
}

fn after_50(steps: usize) -> Protocol {
    let family = if steps == 50 { Family::OneByOne } else { Family::HalfFirst };
    let increments = half_and(steps);
    let about =
        format!("published protocol: 50 classes, then {steps} tasks of {}, ResNet-32; for a GPU", 50 / steps);
    let make = move |method: &MethodName| at_published(method, Family::HalfFirst, &increments);
    Protocol::new(format!("cifar100-b50-t{steps}"), about, methods_in(family), make).short()
}

fn half_and(steps: usize) -> Vec<usize> {
    [vec![50], vec![50 / steps; steps]].concat()
}

/// The same with a strong base: images changed by TrivialAugmentWide, and twice as many epochs.
pub(super) fn strong() -> Vec<Protocol> {
    [5, 10, 25].map(strong_after_50).into()
}

fn strong_after_50(steps: usize) -> Protocol {
    let Published { mut lengths, mut images, order, .. } = lucir::half_first();
    images.augmentation.policy = Some(Policy::TrivialAugmentWide);
    lengths.base = Training { batch: 256, ..sgd(300, 0.5, Decay::Cosine { minimum: 0.0 }) };
    let settings = Settings { cited: STRONG, lengths, increments: half_and(steps), depth: 32, order, images };
    let about = format!(
        "50 classes, then {steps} tasks of {}, ResNet-32, from a strong base: TrivialAugmentWide, 300 epochs; for a GPU",
        50 / steps
    );
    let make =
        move |method: &MethodName| method.base.presets_in(Family::StrongBase).map(|_| settings.made(method));
    let name = format!("cifar100-strong-b50-t{steps}");
    Protocol::new(name, about, methods_in(Family::StrongBase), make).short()
}

/// All 100 classes in 5, 10 or 20 equal tasks: methods of ours that keep no image and their bounds at LUCIR's or
/// PODNet's lengths, and those that were published with this protocol at their own. So two of these presets differ in
/// more than the method; `cifar100-b50-*` and `cifar100-10c-*` compare methods at one setting.
pub(super) fn equal() -> Vec<Protocol> {
    [5, 10, 20].map(equal_tasks).into()
}

fn equal_tasks(tasks: usize) -> Protocol {
    let increments = vec![100 / tasks; tasks];
    let make = move |method: &MethodName| at_published(method, Family::EqualTasks, &increments);
    let about = format!("{tasks} equal tasks of {} classes, ResNet-32; for a GPU", 100 / tasks);
    Protocol::new(format!("cifar100-t{tasks}"), about, methods_in(Family::EqualTasks), make)
}

/// The first ten classes of the order, six of them base classes, in minutes.
pub(super) fn ten() -> Protocol {
    let settings = small(TEN, vec![6, 2, 2], 14);
    let about = "ten classes of CIFAR-100, 6 + 2 + 2, ResNet-14; minutes";
    Protocol::new("cifar100-10c", about, methods(), move |method| Some(at_its_rate(&settings, method)))
}

/// PODNet with exemplars at its own rate in later tasks: at the other methods' it ends 3 points lower
/// (docs/methods.md).
fn at_its_rate(settings: &Settings, method: &MethodName) -> Made {
    let mut made = settings.made(method);
    if method.base == &podnet::METHOD && method.exemplars.is_some_and(|count| count > 0) {
        made.config.recipe.increment.training.learning_rate = 0.1;
    }
    made
}

/// The first twenty classes of the order, ten of them base classes, in a quarter of an hour at most.
pub(super) fn twenty() -> Protocol {
    let settings = small(TWENTY, vec![10, 2, 2, 2, 2, 2], 20);
    let about = "twenty classes of CIFAR-100, 10 and then 2 at a time, ResNet-20; an hour";
    Protocol::new("cifar100-20c", about, methods(), move |method| Some(at_its_rate(&settings, method)))
}

/// The small presets' settings.
pub(super) fn small(cited: &'static str, increments: Vec<usize>, depth: usize) -> Settings {
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
    Settings { cited, lengths, increments, depth, order: "lucir_1993", images: lucir::images() }
}
