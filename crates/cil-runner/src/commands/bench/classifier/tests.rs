//! The effect of a timed step on the weights: a step that does nothing must not be timed.

use std::path::PathBuf;

use cil_train::loss::cross_entropy::cross_entropy;

use super::*;
use crate::cli::args::{DeviceName, Global, Kernels};
use crate::commands::bench::learning::Learning;
use crate::engine::Engine;

fn engine() -> Engine {
    let global = Global {
        data_dir: PathBuf::new(),
        out: PathBuf::new(),
        device: DeviceName::Cpu,
        seed: None,
        threads: None,
        kernels: Kernels::Auto,
        no_cuda_graphs: false,
        json: false,
        lifeline: false,
    };
    Engine::new(&global).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn training_learns_the_batch_and_evaluation_changes_nothing() {
    let engine = engine();
    let setting = Setting { engine: &engine, seed: 1, batch: 8, side: 64 };
    let mut it = Classifier::new(Model::Resnet32, false, &setting).unwrap();
    let loss = |it: &Classifier| {
        let pass = it.net.forward(&it.images, ForwardSpec::TRAIN).unwrap();
        let loss = cross_entropy(pass.tap(LOGITS).unwrap(), &it.labels).unwrap();
        loss.to_scalar::<f32>().unwrap()
    };
    let before = loss(&it);
    it.train().unwrap();
    let version = it.net.values.version();
    it.eval().unwrap();
    assert_eq!(it.net.values.version(), version);
    for _ in 0..9 {
        it.train().unwrap();
    }
    assert!(loss(&it) < 0.5 * before, "from {before} to {}", loss(&it));
}

#[test]
fn inversion_moves_the_generator_alone_by_the_closed_form() {
    let engine = engine();
    let setting = Setting { engine: &engine, seed: 1, batch: 8, side: 64 };
    let mut it = Classifier::new(Model::Resnet32, true, &setting).unwrap();
    let seen = it.net.forward(&it.images, ForwardSpec::PROBE).unwrap();
    let grad = inversion_grad(&seen, &it.stored, &it.labels).unwrap();
    assert_eq!(grad.moments.len(), 33);
    for of in &seen.moments {
        // Running mean 0 and variance 1: the derivatives of (mean^2 + variance) / 2 - ln(variance) / 2.
        let found = &grad.moments[&of.name];
        let near = |found: f32, wanted: f32| (found - wanted).abs() <= 1e-4 * (1.0 + wanted.abs());
        for (found, mean) in values(&found.mean).into_iter().zip(values(&of.mean)) {
            assert!(near(found, mean), "{}: {found}, not {mean}", of.name);
        }
        for (found, variance) in values(&found.variance).into_iter().zip(values(&of.variance)) {
            let wanted = 0.5 * (1.0 - 1.0 / variance);
            assert!(near(found, wanted), "{}: {found}, not {wanted}", of.name);
        }
    }
    let (net, generator) =
        (it.net.values.version(), it.generator.as_ref().map(|it| it.values.clone()).unwrap());
    it.invert().unwrap();
    assert_eq!(it.net.values.version(), net);
    let moved = it.generator.as_ref().unwrap();
    for name in &moved.group.names {
        let moved = values(moved.values.get(name).unwrap());
        assert_ne!(values(generator.get(name).unwrap()), moved, "{name}");
    }
}

#[test]
fn a_learning_step_counts_its_passes() {
    let engine = engine();
    let mut it = Learning::new(&Setting { engine: &engine, seed: 1, batch: 4, side: 64 }).unwrap();
    // Student forward and backward on 8 rows, teachers on 12, generator on 4; the head is not counted.
    let network = flops::of_pass(&networks::resnet32().unwrap(), ForwardSpec::EVAL.keep) - 2.0 * 6400.0;
    let least = (3.0 * 8.0 * 0.98 + 12.0) * network;
    assert!(it.flops() > least, "{} operations, {least} at least", it.flops());
    for _ in 0..5 {
        it.step().unwrap();
    }
}
