//! Generated images: what the program shows when nothing is asked.

use cil_data::augment::Augmentation;
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_data::normalise::Normalisation;
use cil_data::procedural::ProceduralConfig;
use cil_engine::optim::Decay;
use dfgr::InversionConfig;

use super::method::MethodName;
use super::protocol::{Made, Protocol};
use super::settings::{self, Lengths, correction, sgd};
use crate::config::{DatasetSpec, OrderSpec, Procedural, RunConfig};

const SOURCE: &str = "ours: made to be learned in a minute or two on two processor cores; chosen on the very images that it is \
     measured on, so it shows what the program does and is no result";

/// The family that the demo is of.
pub const DEMO: &str = "demo";
/// Methods that the demo compares, in the order of its table.
pub const COMPARED: [&str; 6] = [
    "fine-tune",
    "lwf",
    "frozen-discriminant",
    "lucir-e0-dfgr-dtidkl",
    "lucir-e0-dfgr-dtidkl-discriminant",
    "joint",
];

/// Every method on generated images.
pub(super) fn protocol() -> Protocol {
    let cosine = Decay::Cosine { minimum: 0.0 };
    let mut inversion = InversionConfig::unconditional(200);
    (inversion.generator.channels, inversion.batch) = (64, 64);
    let lengths = Lengths {
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
    };
    let about = "images drawn by the program, 6 + 2 + 2 classes, ResNet-8; minutes";
    Protocol::new(DEMO, about, settings::methods(), move |method| Some(made(method, &lengths)))
}

fn made(method: &MethodName, lengths: &Lengths) -> Made {
    let config = RunConfig {
        preset: None,
        method: String::new(),
        dataset: DatasetSpec::named(DatasetSpec::PROCEDURAL),
        classes: 10,
        class_order: OrderSpec::Seeded { seed: 1 },
        increments: vec![6, 2, 2],
        validation_per_class: 0,
        evaluate_on: Evaluate::Test,
        seed: 1,
        architecture: settings::architecture(method, 8),
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
