//! Small runs on generated images: a narrow ResNet-8, few images, one epoch or two.

use std::sync::Arc;

use candle_core::Device;
use cil_backbone::Architecture;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::split::Increments;
use cil_data::store::{TestSet, TrainSet};
use cil_engine::cpu::CpuExecutor;
use cil_engine::optim::{Decay, Schedule};
use cil_engine::{Executor, ExecutorFactory};
use cil_train::event::Event;
use cil_train::learner::{Learner, Plan};
use cil_train::methods::{lucir, with_dfgr, with_dtid};
use cil_train::recipe::{NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, Training};
use dfgr::InversionConfig;
use dtid::dual::{DtidConfig, DualForm};

pub(crate) fn data(classes: usize) -> (TrainSet, TestSet) {
    let config = ProceduralConfig { classes, train_per_class: 12, test_per_class: 6 };
    let dataset = Dataset::procedural(&config, 1).unwrap();
    dataset.split(&ClassOrder::seeded(classes, 1), 0, Evaluate::Test).unwrap()
}

pub(crate) fn executors() -> ExecutorFactory {
    Arc::new(|graph| Ok(Arc::new(CpuExecutor::new(graph)?) as Arc<dyn Executor>))
}

pub(crate) fn training(epochs: usize) -> Training {
    Training {
        epochs,
        batch: 16,
        learning_rate: 0.05,
        schedule: Schedule { warm_up: 0, decay: Decay::Cosine { minimum: 0.0 } },
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
        gradient_limit: None,
        drop_last: false,
    }
}

pub(crate) fn plan(recipe: Recipe, increments: &[usize], seed: u64) -> Plan {
    Plan {
        recipe,
        backbone: Architecture { width: 4, ..Architecture::lucir(8) }.into(),
        increments: Increments::new(increments.to_vec(), increments.iter().sum()).unwrap(),
        preparation: Preparation {
            augmentation: Augmentation {
                crop_padding: 2,
                flip: true,
                brightness: 0.1,
                ..Augmentation::none()
            },
            normalisation: Normalisation::half(),
        },
        seed,
        executors: executors(),
        device: Device::Cpu,
    }
}

pub(crate) fn replay(norm: SyntheticNorm) -> ReplaySpec {
    let mut inversion = InversionConfig::unconditional(60);
    (inversion.batch, inversion.generator.channels, inversion.generator.latent) = (16, 8, 8);
    ReplaySpec { inversion, batch: 16, synthetic_norm: norm, exemplar_share: None, warm_start: false }
}

/// LUCIR without exemplars, with both schemes.
pub(crate) fn data_free(norm: SyntheticNorm) -> Recipe {
    let base = lucir(training(2), training(2), 0);
    let teacher = NewTeacherSpec { from_old: true, exemplars: false, training: training(1) };
    let config = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
    with_dtid(with_dfgr(base, replay(norm)), teacher, 1.0, config, None)
}

/// Everything that happens, and the learner at the end.
pub(crate) fn run(plan: Plan, train: &TrainSet) -> (Vec<Event>, Learner) {
    run_from(Learner::new(plan).unwrap(), train)
}

pub(crate) fn run_from(mut learner: Learner, train: &TrainSet) -> (Vec<Event>, Learner) {
    let mut events = Vec::new();
    while let Some(event) = learner.advance(train).unwrap() {
        events.push(event);
    }
    (events, learner)
}

/// All values of the model, by name.
pub(crate) fn values(learner: &Learner) -> Vec<(String, Vec<u32>)> {
    let bits = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let parameters = &learner.model().unwrap().snapshot().parameters;
    parameters.iter().map(|(name, tensor)| (name.to_owned(), bits(tensor))).collect()
}
