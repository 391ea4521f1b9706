//! All families' networks against PyTorch: taps, batch moments, running statistics, gradients of weights and of
//! the input, with gradients that enter at every tap and at the moments. `golden/backbones.py` made the numbers.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result};
use cil_backbone::{Architecture, HeadKind, Network, POOLED, Variant};
use cil_engine::{
    ExecutorFactory, ForwardSpec, Gradients, Keep, MomentGradient, Norm, ParameterKind, Shape, Upstream,
};
use serde_json::Value;

use crate::support::{check_summary, cpu, golden_network, noise, reference, values};

pub(crate) const IMAGES: Shape = Shape::Map { channels: 3, height: 12, width: 10 };
pub(crate) const ROWS: usize = 4;

pub(crate) fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/backbones.json")).unwrap()
}

pub(crate) fn architecture(golden: &Value) -> Architecture {
    let number = |key: &str| golden[key].as_u64().unwrap() as usize;
    let variant = serde_json::from_value::<Variant>(golden["family"].clone()).unwrap();
    Architecture { variant, depth: number("depth"), width: number("width") }
}

fn compare(
    golden: &Value,
    mode: &str,
    executors: &ExecutorFactory,
    dtype: DType,
    tolerance: f64,
) -> Result<()> {
    let golden_form = architecture(golden);
    let golden = &golden[mode];
    let taps: BTreeMap<String, Value> = serde_json::from_value(golden["taps"].clone()).unwrap();
    let maps: Vec<String> = taps.keys().filter(|name| *name != POOLED).cloned().collect();
    let mut network = golden_network(golden_form, IMAGES, executors, dtype)?.with_maps(&maps)?;
    let norm = if mode == "batch" { Norm::Batch } else { Norm::Running };
    let spec = ForwardSpec { norm, moments: true, keep: Keep::Tape { weights: true, input: true } };
    let images = noise("images 3", &IMAGES.dims(ROWS))?.to_dtype(dtype)?;
    let pass = network.executor().forward(network.parameters(), &images, spec)?;

    let to = |name: &str, dims: &[usize]| noise(&format!("to {name}"), dims)?.to_dtype(dtype);
    let mut upstream = Upstream::default();
    assert_eq!(pass.taps.keys().collect::<Vec<_>>(), taps.keys().collect::<Vec<_>>());
    for (name, tap) in &pass.taps {
        check_summary(name, tap, &taps[name], tolerance);
        upstream.taps.insert(name.clone(), to(name, tap.dims())?);
    }
    let moments = golden["moments"].as_array().unwrap();
    assert_eq!(pass.moments.len(), moments.len());
    for (seen, golden) in pass.moments.iter().zip(moments) {
        assert_eq!(golden[0], seen.name);
        let (mean, variance) = (format!("{}.mean", seen.name), format!("{}.variance", seen.name));
        check_summary(&mean, &seen.mean, &golden[1], tolerance);
        check_summary(&variance, &seen.variance, &golden[2], tolerance);
        let dims = seen.mean.dims();
        let gradient = MomentGradient { mean: to(&mean, dims)?, variance: to(&variance, dims)? };
        upstream.moments.insert(seen.name.clone(), gradient);
    }

    let mut gradients = Gradients::default();
    let tape = pass.tape.expect("a tape was asked for");
    let input = network.executor().backward(network.parameters(), tape, &upstream, &mut gradients)?;
    check_summary("input", &input.expect("asked for"), &golden["input"], tolerance);
    let expected: BTreeMap<String, Value> = serde_json::from_value(golden["gradients"].clone()).unwrap();
    let names: Vec<_> = gradients.iter().map(|(name, _)| name).collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>());
    for (name, gradient) in gradients.iter() {
        check_summary(name, gradient, &expected[name], tolerance);
    }
    let mut weights = network.backbone_weights();
    weights.sort();
    assert_eq!(weights, names);

    assert_eq!(pass.statistics.is_some(), mode == "batch");
    if let Some(update) = &pass.statistics {
        network.parameters_mut().update_statistics(update, 0.1)?;
        let statistics: BTreeMap<String, Value> =
            serde_json::from_value(golden["statistics"].clone()).unwrap();
        assert_eq!(statistics.len(), 2 * moments.len());
        for (name, expected) in &statistics {
            check_summary(name, network.parameters().get(name)?, expected, tolerance);
        }
    }
    Ok(())
}

#[test]
fn reference_equals_pytorch() -> Result<()> {
    for golden in golden()["networks"].as_array().unwrap() {
        compare(golden, "batch", &reference(), DType::F64, 1e-10)?;
        compare(golden, "running", &reference(), DType::F64, 1e-10)?;
    }
    Ok(())
}

#[test]
fn cpu_equals_pytorch() -> Result<()> {
    for golden in golden()["networks"].as_array().unwrap() {
        // The last maps of the ImageNet form are of one pixel here: batch statistics of four values spread rounding.
        let tolerance = if golden["family"] == "imagenet" { 5e-4 } else { 1e-4 };
        compare(golden, "batch", &cpu(), DType::F32, tolerance)?;
        compare(golden, "running", &cpu(), DType::F32, tolerance)?;
    }
    Ok(())
}

#[test]
fn full_size_networks_have_as_many_weights_as_pytorch_s() -> Result<()> {
    let sizes: BTreeMap<String, usize> = serde_json::from_value(golden()["sizes"].clone()).unwrap();
    assert_eq!(sizes.len(), 10);
    for (form, size) in sizes {
        let (family, depth) = form.rsplit_once('-').unwrap();
        let depth = depth.parse().unwrap();
        let architecture = match family {
            "lucir" => Architecture::lucir(depth),
            "podnet" => Architecture::podnet(depth),
            "imagenet" => Architecture { depth, ..Architecture::imagenet() },
            _ => Architecture { depth, ..Architecture::imagenet_small() },
        };
        let specs = architecture.graph(Shape::Map { channels: 3, height: 32, width: 32 })?.parameter_specs();
        let weights = specs.iter().filter(|spec| spec.kind == ParameterKind::Weight);
        assert_eq!(weights.map(|spec| spec.dims.iter().product::<usize>()).sum::<usize>(), size, "{form}");
    }
    Ok(())
}

#[test]
fn initial_values_are_the_published_ones() -> Result<()> {
    for (architecture, second) in [(Architecture::lucir(14), 1.0), (Architecture::podnet(14), 0.0)] {
        let images = Shape::Map { channels: 3, height: 32, width: 32 };
        let network = Network::new(architecture, images, HeadKind::Cosine, &cpu(), 3, &Device::Cpu)?;
        for spec in network.executor().graph().parameter_specs() {
            let values = values(network.parameters().get(&spec.name)?);
            let expected = match spec.name.rsplit_once('.').unwrap().1 {
                // He et al. 2015, as `kaiming_normal_` with `fan_out`: deviation sqrt(2 / (outputs * kernel * kernel)).
                "weight" if spec.dims.len() == 4 => {
                    let deviation = (2.0 / (spec.dims[0] * spec.dims[2] * spec.dims[3]) as f64).sqrt();
                    let found = (values.iter().map(|it| it * it).sum::<f64>() / values.len() as f64).sqrt();
                    // Four standard errors of a deviation.
                    let reach = 4.0 * deviation / (2.0 * values.len() as f64).sqrt();
                    assert!((found - deviation).abs() < reach, "{}: {found} {deviation}", spec.name);
                    continue;
                }
                "weight" if spec.name.ends_with("norm2.weight") => second,
                "weight" | "running_var" => 1.0,
                _ => 0.0,
            };
            assert!(values.iter().all(|value| *value == expected), "{}", spec.name);
        }
    }
    Ok(())
}
