//! Shared code of the tests: the noise that `golden/*.py` draw, comparisons, and small networks.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::file::{ModelCard, TrainedOn};
use cil_backbone::{Architecture, HeadKind, Network};
use cil_engine::cpu::CpuExecutor;
use cil_engine::reference::ReferenceExecutor;
use cil_engine::{ExecutorFactory, Graph, ParameterSpec, Parameters, Shape};

pub(crate) fn reference() -> ExecutorFactory {
    Arc::new(|graph: Graph| Ok(Arc::new(ReferenceExecutor::new(graph)) as _))
}

pub(crate) fn cpu() -> ExecutorFactory {
    Arc::new(|graph: Graph| Ok(Arc::new(CpuExecutor::new(graph)?) as _))
}

/// Uniform in `[-1, 1)`, exact: a hash of (name, index).
pub(crate) fn noise(name: &str, dims: &[usize]) -> Result<Tensor> {
    let key =
        name.bytes().fold(2_166_136_261u32, |key, byte| (key ^ u32::from(byte)).wrapping_mul(16_777_619));
    let value = |index: usize| {
        let mut x = (index as u32).wrapping_mul(0x9E37_79B1).wrapping_add(key);
        for (shift, factor) in [(16, 0x7FEB_352D), (15, 0x846C_A68B)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        f64::from(x ^ (x >> 16)) / f64::from(1u32 << 31) - 1.0
    };
    Tensor::from_iter((0..dims.iter().product()).map(value), &Device::Cpu)?.reshape(dims)
}

/// The value of a backbone's parameter in `golden/backbones.py`.
pub(crate) fn value(spec: &ParameterSpec) -> Result<Tensor> {
    let noise = noise(&spec.name, &spec.dims)?;
    if let [_, fan_in @ ..] = spec.dims.as_slice()
        && spec.dims.len() == 4
    {
        return noise * (6.0 / fan_in.iter().product::<usize>() as f64).sqrt();
    }
    if spec.name.ends_with("weight") || spec.name.ends_with("running_var") {
        return (noise * 0.5)? + 1.0;
    }
    noise * 0.25
}

/// A backbone with the values of `golden/backbones.py`, without a head.
pub(crate) fn golden_network(
    architecture: Architecture,
    images: Shape,
    executors: &ExecutorFactory,
    dtype: DType,
) -> Result<Network> {
    let network = Network::new(architecture, images, HeadKind::Cosine, executors, 0, &Device::Cpu)?;
    let mut snapshot = network.snapshot();
    snapshot.parameters = Parameters::default();
    for spec in network.executor().graph().parameter_specs() {
        snapshot.parameters.set(&spec.name, value(&spec)?.to_dtype(dtype)?);
    }
    Network::from_snapshot(snapshot, executors, 0, &Device::Cpu)
}

/// A network of 8 layers and two channels for 4x4 pixels, with head blocks of 3 and 2 classes.
pub(crate) fn tiny(kind: HeadKind) -> Network {
    let images = Shape::Map { channels: 3, height: 4, width: 4 };
    let architecture = Architecture { width: 2, ..Architecture::lucir(8) };
    let mut network = Network::new(architecture, images, kind, &cpu(), 5, &Device::Cpu).unwrap();
    network.grow(3).unwrap();
    network.grow(2).unwrap();
    network
}

/// The card of [`tiny`].
pub(crate) fn card() -> ModelCard {
    ModelCard {
        class_names: ["apple", "\"pear\"", "straße", "", "猫"].map(str::to_owned).to_vec(),
        mean: vec![0.5071, 0.4866, 0.4409],
        deviation: vec![0.2009, 0.1984, 0.2023],
        trained_on: Some(TrainedOn {
            dataset: "fruit".to_owned(),
            train_digest: "12ab".to_owned(),
            held_out_per_class: 3,
        }),
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Bits of all values, in order of names.
pub(crate) fn bits(parameters: &Parameters) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let one = |(name, tensor): (&str, &Tensor)| {
        (name.to_owned(), tensor.dims().to_vec(), of(tensor).into_iter().map(f32::to_bits).collect())
    };
    parameters.iter().map(one).collect()
}

/// Compares a tensor with what `golden/*.py` recorded of it: its dot product with noise, and its length.
#[track_caller]
pub(crate) fn check_summary(name: &str, got: &Tensor, expected: &serde_json::Value, tolerance: f64) {
    let [dot, length]: [f64; 2] = serde_json::from_value(expected.clone()).unwrap();
    let noise = values(&noise(&format!("told {name}"), got.dims()).unwrap());
    let got = values(got);
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    // Rounding in all elements moves the product by about that much of the length; a wrong element by more.
    let found: f64 = got.iter().zip(&noise).map(|(value, noise)| value * noise).sum();
    let error = (found - dot).abs() / length;
    assert!(
        error < tolerance,
        "{name}: product {found}, PyTorch has {dot}: {error:e} of the length {length}"
    );
    let found = norm(&got);
    assert!((found - length).abs() < tolerance * length, "{name}: length {found}, PyTorch has {length}");
}

#[track_caller]
pub(crate) fn check(name: &str, got: &Tensor, expected: &serde_json::Value, tolerance: f64) {
    let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
    let got = values(got);
    assert_eq!(got.len(), expected.len(), "{name}");
    for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs() / (1.0 + expected.abs());
        assert!(error < tolerance, "{name}[{at}] = {got}, expected {expected}");
    }
}
