//! Generated images: what the program shows when nothing is asked.

use cil_data::augment::Augmentation;
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_data::normalise::Normalisation;
use cil_data::procedural::ProceduralConfig;
use cil_engine::optim::Decay;
use cil_train::methods::{Family, Lengths, correction, sgd};
use dfgr::InversionConfig;

use super::method::MethodName;
use super::protocol::{Made, Protocol};
use super::settings::{self, methods_in};
use crate::config::{DatasetSpec, OrderSpec, Procedural, RunConfig};

const SOURCE: &str = "ours: made to be learned in a minute or two on two processor cores; chosen on the very images that it is \
     measured on, so it shows what the program does and is no result";

/// The protocol with six base classes.
pub const DEMO: &str = "demo";
/// The protocol with two base classes: a cold start, from which later tasks have most to learn.
const COLD: &str = "demo-cold";

/// One table of the demo.
#[derive(Debug)]
pub struct Compared {
    /// The protocol.
    pub protocol: &'static str,
    /// The methods, in the order of the table.
    pub methods: &'static [&'static str],
    /// What the table compares.
    pub about: &'static str,
    /// What it shows.
    pub shows: &'static str,
}

/// The tables of the demo.
pub const COMPARED: [Compared; 2] = [
    Compared {
        protocol: DEMO,
        methods: &["fine-tune", "lwf", "lucir-e0-dfgr-dtidkl", "frozen-discriminant", "joint"],
        about: "Six base classes, then two and two",
        shows: "lucir-e0-dfgr-dtidkl keeps nothing but the old model: of the three rows that do, it is the best. If class\n\
            statistics were kept while the images existed, frozen-discriminant needs no further training and is better\n\
            here, because six base classes already show what distinguishes the other four.",
    },
    Compared {
        protocol: COLD,
        methods: &["frozen-discriminant", "lwf-discriminant", "lucir-e0-dtidkl-discriminant"],
        about: "Two base classes, then four and four; all rows keep class statistics",
        shows: "Two classes teach a network too little for the next eight. Training on with two teachers\n\
            (lucir-e0-dtidkl-discriminant) then beats the frozen base model, as it does on four equal tasks of CIFAR-100\n\
            (docs/results.md has three seeds and class orders, and what DF-GR adds there).",
    },
];

/// Every method on generated images, six base classes and then two and two.
pub(super) fn protocol() -> Protocol {
    let about = "images drawn by the program, 6 + 2 + 2 classes, ResNet-8; minutes";
    Protocol::new(DEMO, about, settings::methods(), |method| Some(made(method, &lengths(), &[6, 2, 2])))
}

/// Methods without exemplars on the same images, two base classes and then four and four.
pub(super) fn cold() -> Protocol {
    let about = "images drawn by the program, 2 + 4 + 4 classes (a cold start), ResNet-8; minutes";
    Protocol::new(COLD, about, methods_in(Family::ColdStart), |method| {
        Some(made(method, &lengths(), &[2, 4, 4]))
    })
}

fn lengths() -> Lengths {
    let cosine = Decay::Cosine { minimum: 0.0 };
    let mut inversion = InversionConfig::unconditional(200);
    (inversion.generator.channels, inversion.batch) = (64, 64);
    Lengths {
        base: sgd(10, 0.1, cosine.clone()),
        increment: sgd(8, 0.02, cosine.clone()),
        new_teacher: sgd(6, 0.1, cosine),
        fine_tuning: sgd(8, 0.05, Decay::Constant),
        correction: correction(50, 0.1, Decay::Constant),
        // R-DFCIL's own, 160 steps where a task has two classes.
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion,
        synthetic: 64,
        images_per_class: 250,
        exemplars: Budget::PerClass(20),
    }
}

fn made(method: &MethodName, lengths: &Lengths, increments: &[usize]) -> Made {
    let config = RunConfig {
        preset: None,
        method: String::new(),
        dataset: DatasetSpec::named(DatasetSpec::PROCEDURAL),
        classes: 10,
        class_order: OrderSpec::Seeded { seed: 1 },
        increments: increments.to_vec(),
        validation_per_class: 0,
        evaluate_on: Evaluate::Test,
        seed: 1,
        architecture: (method.base.network)(8).into(),
        augmentation: Augmentation { crop_padding: 2, ..Augmentation::none() },
        normalisation: Normalisation::half(),
        procedural: Some(Procedural {
            seed: 1,
            config: ProceduralConfig { classes: 20, train_per_class: 250, test_per_class: 50 },
        }),
        recipe: settings::recipe(method, lengths),
    };
    Made { source: SOURCE, config }
}
