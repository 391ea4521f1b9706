//! One learning step of LUCIR with both schemes, by the code that a run uses.
//!
//! A [`Learner`] is driven to its student phase over a data set of exactly one batch, so that one unit of its work is
//! one step: the new images changed and normalised, the generator's images, both teachers, the student, all terms, the
//! optimiser. The base model is untrained and the phases before the student are as short as possible: the time of a
//! step does not depend on the values of the weights.

use anyhow::{Result, bail};
use cil_backbone::{Architecture, HeadKind, Network};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::split::Increments;
use cil_data::store::{Images, TrainSet};
use cil_engine::optim::Schedule;
use cil_engine::{ForwardSpec, Shape};
use cil_random::Draw;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::{Learner, Plan};
use cil_train::methods::{both_teachers_maps, lucir, with_dfgr, with_dtid};
use cil_train::recipe::{NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, Training};
use dfgr::InversionConfig;
use dfgr::generator::generator;
use dtid::dual::{DtidConfig, DualForm};

use super::{Engine, Setting};
use crate::estimate::flops;

/// Classes of the old model.
const OLD: usize = 50;
/// Classes that are learned, if the batch has an image for each.
const NEW: usize = 10;
/// Side of an image.
const SIDE: usize = 32;
/// Steps that the student phase could take; more than anyone measures.
const STEPS: usize = 1_000_000;

/// A learner in its student phase.
pub struct Learning {
    learner: Learner,
    train: TrainSet,
    flops: f64,
}

impl Learning {
    /// A learner of `setting.batch` new images and as many generated ones a step.
    ///
    /// # Errors
    /// If the batch is below 2, or an executor fails.
    pub fn new(setting: &Setting<'_>) -> Result<Self> {
        let (engine, seed, batch) = (setting.engine, setting.seed, setting.batch);
        let new = NEW.min(batch);
        let architecture = Architecture::lucir(32);
        let recipe = recipe(batch);
        let images = Shape::Map { channels: 3, height: SIDE, width: SIDE };
        let flops = flops_of_step(&recipe, architecture, images, batch)?;
        let mut base =
            Network::new(architecture, images, HeadKind::Cosine, &engine.executors, seed, &engine.device)?;
        base.grow(OLD)?;
        let normalisation = Normalisation::published("cifar100", "lucir").unwrap_or_else(Normalisation::half);
        let augmentation = Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() };
        let mut learner = Learner::new(Plan {
            recipe,
            backbone: architecture.into(),
            increments: Increments::new(vec![OLD, new], OLD + new)?,
            preparation: Preparation { augmentation, normalisation },
            seed,
            executors: engine.executors.clone(),
            device: engine.device.clone(),
        })?;
        learner.adopt_base(base.snapshot())?;
        let train = noise(engine, new, batch, seed)?;
        loop {
            match learner.advance(&train)? {
                Some(Event::Progress { phase: PhaseKind::Student, .. }) => break,
                Some(_) => {}
                None => bail!("the learner has no student phase"),
            }
        }
        Ok(Self { learner, train, flops })
    }

    /// One step.
    ///
    /// # Errors
    /// If a loss is not finite, or an executor fails.
    pub fn step(&mut self) -> Result<()> {
        match self.learner.advance(&self.train)? {
            Some(Event::Progress { phase: PhaseKind::Student, .. }) => Ok(()),
            _ => bail!("the student phase has ended"),
        }
    }

    /// Operations of one step in the networks; the head's and the losses' are not counted.
    pub fn flops(&self) -> f64 {
        self.flops
    }
}

/// LUCIR without exemplars, with DF-GR and DT-ID, as the presets have it; the new teacher from scratch.
fn recipe(batch: usize) -> Recipe {
    let training = |epochs| Training {
        epochs,
        batch,
        learning_rate: 0.1,
        schedule: Schedule::constant(),
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
        gradient_limit: None,
        drop_last: false,
    };
    let inversion = InversionConfig { batch: 2, ..InversionConfig::unconditional(1) };
    let synthetic_norm = SyntheticNorm::Joint;
    let replay = ReplaySpec { inversion, batch, synthetic_norm, exemplar_share: None, warm_start: false };
    let new_teacher = NewTeacherSpec { from_old: false, exemplars: false, training: training(1) };
    let both = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
    with_dtid(
        with_dfgr(lucir(training(1), training(STEPS), 0), replay),
        new_teacher,
        1.0,
        both,
        Some(both_teachers_maps(1.0)),
    )
}

/// Student on all images, old teacher on all, new teacher on the new ones, generator once.
fn flops_of_step(recipe: &Recipe, architecture: Architecture, images: Shape, batch: usize) -> Result<f64> {
    let network = architecture.graph(images)?;
    let (learns, looks) = (ForwardSpec::TRAIN.keep, ForwardSpec::EVAL.keep);
    let (student, teacher) = (flops::of_pass(&network, learns), flops::of_pass(&network, looks));
    let drawn = match &recipe.replay {
        Some(replay) => flops::of_pass(&generator(&replay.inversion.generator, OLD, images)?, looks),
        None => 0.0,
    };
    Ok(batch as f64 * (2.0 * student + 2.0 * teacher + teacher + drawn))
}

/// `batch` images of `new` classes, and one of each old class, which nobody reads: pixels are noise.
fn noise(engine: &Engine, new: usize, batch: usize, seed: u64) -> Result<TrainSet> {
    let labels: Vec<u16> = (0..OLD).chain((0..batch).map(|at| OLD + at % new)).map(|it| it as u16).collect();
    let mut stream = Draw::new(seed, "bench").stream("pixels");
    let pixels = (0..labels.len() * 3 * SIDE * SIDE).map(|_| stream.below(256) as u8).collect();
    let names = (0..OLD + new).map(|class| format!("noise {class}")).collect();
    let images = Images::new(SIDE, SIDE, pixels, labels)?;
    let dataset = engine.keep(Dataset::of_images("noise", names, images.clone(), images)?)?;
    let order = ClassOrder::from_labels((0..OLD + new).collect(), OLD + new)?;
    Ok(dataset.split(&order, 0, Evaluate::Test)?.0)
}
