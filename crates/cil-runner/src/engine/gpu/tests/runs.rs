//! A whole run on a GPU beside the same run on the processor.
//!
//! Both draw the same numbers and differ by the order of sums in `f32`. That grows: the optimiser repeats it, and a
//! ReLU whose input is nearly nothing passes its gradient in the one run and not in the other. The tolerances are some
//! times what was measured on the emulator, against every executor of the processor: losses of the base classes apart
//! by 2e-6 of their size, later ones by 1.1e-3, parts below a tenth by 4e-5; base models by 3e-5 of the length of the
//! movement in task 1, last ones by 4e-3; logits by 0.002, generated images by 0.005.

use std::collections::BTreeMap;

use cil_backbone::{Frozen, Snapshot};
use cil_engine::Parameters;
use cil_random::Draw;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;
use clap::Parser;

use super::super::*;
use super::{bits, turn};
use crate::cli::args::Cli;
use crate::engine::Engine;
use crate::presets;
use crate::setup;

/// LUCIR with both schemes and losses on maps, as short as it can be: two classes, then two more.
const RUN: &str = "demo-lucir-e0-dfgr-dtid";
const SHORT: [&str; 20] = [
    "classes=4",
    "increments=[2,2]",
    "architecture.width=8",
    "procedural.config.classes=4",
    "procedural.config.train-per-class=16",
    "procedural.config.test-per-class=8",
    "recipe.base.training.epochs=3",
    "recipe.base.training.batch=16",
    "recipe.base.training.learning-rate=0.01",
    "recipe.new-teacher.training.epochs=2",
    "recipe.new-teacher.training.batch=16",
    "recipe.new-teacher.training.learning-rate=0.01",
    "recipe.increment.training.epochs=2",
    "recipe.increment.training.batch=16",
    "recipe.increment.training.learning-rate=0.01",
    "recipe.replay.batch=8",
    "recipe.replay.inversion.iterations=4",
    "recipe.replay.inversion.batch=8",
    "recipe.replay.inversion.generator.channels=16",
    "recipe.replay.inversion.generator.latent=16",
];

/// Events and final values of a run, on the CPU.
pub(super) struct Left {
    /// Each part of the loss of each unit, by task, phase and unit.
    pub(super) losses: BTreeMap<(usize, PhaseKind, usize, String), f64>,
    /// The models after the base classes and at the end.
    base: Parameters,
    pub(super) last: Parameters,
    /// Of the images to evaluate on, from the last model.
    logits: Tensor,
    /// Of the generator.
    images: Tensor,
}

pub(super) fn engine(line: &[&str]) -> Engine {
    let line = ["cil-runner"].iter().chain(line);
    Engine::new(&Cli::try_parse_from(line).unwrap().global).unwrap()
}

fn here(tensor: &Tensor) -> Tensor {
    tensor.to_device(&Device::Cpu).unwrap()
}

fn values(model: Option<&Frozen>) -> Parameters {
    let Snapshot { parameters, .. } = model.unwrap().snapshot();
    Parameters::from_tensors(
        parameters.iter().map(|(name, tensor)| (name.to_owned(), here(tensor))).collect(),
    )
}

pub(super) fn left_by(engine: &Engine, changes: &[&str]) -> Left {
    let changes: Vec<String> = SHORT.iter().chain(changes).map(|it| (*it).to_owned()).collect();
    let config = presets::find(RUN).unwrap().config.with_changes(&changes, RUN).unwrap().check().unwrap();
    let dataset = engine.keep(setup::load(&config, "datasets".as_ref()).unwrap()).unwrap();
    let (train, test) = setup::split(&config, &dataset).unwrap();
    let mut learner = Learner::new(setup::plan(&config, engine)).unwrap();
    let (mut losses, mut base) = (BTreeMap::new(), None);
    while let Some(event) = learner.advance(&train).unwrap() {
        match event {
            Event::Progress { task, phase, done, losses: parts, .. } => {
                losses.extend(parts.into_iter().map(|(name, value)| ((task, phase, done, name), value)));
            }
            Event::TaskLearned { task: 0, .. } => base = Some(values(learner.model())),
            _ => {}
        }
    }
    let last = learner.model();
    let logits = test.batches(4, 16, learner.preparation(), &engine.device).map(|batch| {
        let (images, _) = batch.unwrap();
        here(&last.unwrap().forward(&images).unwrap().logits)
    });
    let generated = learner.replay().unwrap().sample(8, Draw::new(3, "test images")).unwrap();
    Left {
        losses,
        base: base.unwrap(),
        last: values(last),
        logits: Tensor::cat(&logits.collect::<Vec<_>>(), 0).unwrap(),
        images: here(&generated.images),
    }
}

/// The length of what lies between two models, in the parameters that have one form in both: the head grows.
fn distance(from: &Parameters, to: &Parameters) -> f64 {
    let squares = from.iter().map(|(name, from)| match to.get(name) {
        Ok(to) if to.dims() == from.dims() => {
            f64::from((to - from).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap())
        }
        _ => 0.0,
    });
    squares.sum::<f64>().sqrt()
}

fn apart(found: &Tensor, expected: &Tensor) -> f32 {
    (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_run_is_the_processors() {
    let Some(_turn) = turn("a whole run") else { return };
    let found = left_by(&engine(&["--device", "cuda", "--kernels", "exact"]), &[]);
    assert_near(&found, &left_by(&engine(&["--device", "cpu"]), &[]));
}

/// One run is the other but for the order of sums.
pub(super) fn assert_near(found: &Left, expected: &Left) {
    assert!(found.losses.keys().eq(expected.losses.keys()));
    for (key, expected) in &expected.losses {
        let found = found.losses[key];
        let tolerance = if key.0 == 0 { 2e-5 * expected.abs() } else { 4e-3 * expected.abs().max(0.1) };
        assert!((found - expected).abs() <= tolerance, "{key:?}: {found}, not {expected}");
    }
    let moved = distance(&expected.base, &expected.last);
    assert!(moved > 0.5, "the run moved its model by {moved}");
    for (found, expected, tolerance) in
        [(&found.base, &expected.base, 1e-3), (&found.last, &expected.last, 2e-2)]
    {
        let apart = distance(found, expected);
        assert!(apart <= tolerance * moved, "the models are {apart} apart, the run moved its own by {moved}");
    }
    let (logits, images) = (apart(&found.logits, &expected.logits), apart(&found.images, &expected.images));
    assert!(logits <= 1e-2, "logits are {logits} apart");
    assert!(images <= 2e-2, "generated images are {images} apart");
}

/// Epochs after the second of a phase are replays; exemplars make the number of new images in a batch vary.
#[test]
fn a_run_of_captured_steps_has_the_bits_of_steps_one_by_one() {
    let Some(_turn) = turn("a whole run, captured and not") else { return };
    let longer = ["recipe.increment.training.epochs=4", "recipe.replay.inversion.iterations=60"];
    for (kernels, changes) in [
        ("exact", longer.to_vec()),
        ("tf32", vec!["recipe.exemplars.per-class=5", "recipe.increment.training.epochs=4"]),
        ("bf16", vec!["recipe.increment.training.batch=6"]),
    ] {
        let line = ["--device", "cuda", "--kernels", kernels];
        let captured = left_by(&engine(&line), &changes);
        let one_by_one = left_by(&engine(&[&line[..], &["--no-cuda-graphs"]].concat()), &changes);
        assert_eq!(captured.losses, one_by_one.losses, "{kernels}");
        for (found, expected) in [(&captured.base, &one_by_one.base), (&captured.last, &one_by_one.last)] {
            for (name, expected) in expected.iter() {
                assert_eq!(bits(found.get(name).unwrap()), bits(expected), "{kernels}: {name}");
            }
        }
        assert_eq!(bits(&captured.images), bits(&one_by_one.images), "{kernels}: generated images");
    }
}
