//! Every node type, forward and backward, against PyTorch in `f64`: values, moments, running statistics, gradients of
//! weights and of the input, with gradients that enter at several taps and at the moments. `golden/every_node.py` made
//! the numbers.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use cil_engine::cpu::{CpuExecutor, InstructionPath};
use cil_engine::reference::ReferenceExecutor;
use cil_engine::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, Keep, MomentGradient, Norm, Op, Parameters, Shape,
    Upstream,
};

const ROWS: usize = 3;

/// The graph of `golden/every_node.py`.
fn graph() -> Result<Graph> {
    let mut it = GraphBuilder::new(Shape::Map { channels: 3, height: 9, width: 8 });
    let conv = |out_channels, kernel, stride, padding, bias| Op::Conv2d {
        out_channels,
        kernel,
        stride,
        padding,
        bias,
    };
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let x = it.input();
    let conv1 = it.add("conv1", conv(4, 3, 1, 1, true), &[x])?;
    let norm1 = it.add("norm1", norm(true), &[conv1])?;
    let a = it.add("relu1", Op::Relu, &[norm1])?;
    let conv2 = it.add("conv2", conv(6, 3, 2, 1, false), &[a])?;
    let b = it.add("norm2", norm(true), &[conv2])?;
    let shortcut = it.add("shortcut", Op::SubsamplePad { stride: 2, out_channels: 6 }, &[a])?;
    let sum = it.add("add", Op::Add, &[b, shortcut])?;
    let c = it.add("leaky", Op::LeakyRelu { slope: 0.2 }, &[sum])?;
    let d = it.add("max", Op::MaxPool { kernel: 3, stride: 2, padding: 1 }, &[c])?;
    let e = it.add("up", Op::UpsampleNearest { factor: 2 }, &[d])?;
    let tanh = it.add("tanh", Op::Tanh, &[e])?;
    let joined = it.add("joined", Op::Concat, &[e, tanh])?;
    let f = it.add("average", Op::AvgPool { kernel: 3, stride: 2 }, &[joined])?;
    let g = it.add("conv3", conv(5, 1, 1, 0, false), &[f])?;
    let mean = it.add("mean", Op::GlobalAvgPool, &[g])?;
    let h = it.add("linear", Op::Linear { out_features: 8, bias: true }, &[mean])?;
    let i = it.add("norm3", norm(false), &[h])?;
    let part = it.add("part", Op::Narrow { start: 1, length: 6 }, &[i])?;
    let both = it.add("both", Op::Concat, &[part, h])?;
    let out = it.reshape("out", both, Shape::Map { channels: 14, height: 1, width: 1 })?;
    for (name, id) in [("shortcut", shortcut), ("sum", c), ("pooled", d), ("out", out)] {
        it.tap(name, id);
    }
    it.build()
}

fn wave(dims: &[usize], phase: f64) -> Result<Tensor> {
    let count: usize = dims.iter().product();
    Tensor::from_iter((0..count).map(|i| (0.37 * i as f64 + phase).sin()), &Device::Cpu)?.reshape(dims)
}

fn parameters(graph: &Graph) -> Result<Parameters> {
    let mut parameters = Parameters::default();
    for (index, spec) in graph.parameter_specs().into_iter().enumerate() {
        let mut value = (wave(&spec.dims, index as f64)? * 0.4)?;
        let scale = spec.name.starts_with("norm") && spec.name.ends_with(".weight");
        if spec.name.ends_with("running_var") || scale {
            value = (value + 1.0)?;
        }
        parameters.set(&spec.name, value);
    }
    Ok(parameters)
}

#[track_caller]
fn check(what: &str, got: &Tensor, expected: &serde_json::Value, tolerance: f64) -> Result<()> {
    let got: Vec<f64> = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    let expected: Vec<f64> = serde_json::from_value(expected.clone()).expect("a list of numbers");
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs() / (1.0 + expected.abs());
        assert!(error < tolerance, "{what}[{at}] = {got}, PyTorch has {expected}");
    }
    Ok(())
}

/// Runs the graph in one norm mode and compares all there is.
fn compare(executor: &dyn Executor, mode: &str, dtype: DType, tolerance: f64) -> Result<()> {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("golden/every_node.json")).expect("JSON");
    let golden = &golden[mode];
    let mut parameters = parameters(executor.graph())?.to_dtype(dtype)?;
    let norm = if mode == "batch" { Norm::Batch } else { Norm::Running };
    let spec = ForwardSpec { norm, moments: true, keep: Keep::Tape { weights: true, input: true } };
    let input = wave(&[ROWS, 3, 9, 8], 0.5)?.to_dtype(dtype)?;
    let pass = executor.forward(&parameters, &input, spec)?;
    let mut upstream = Upstream::default();
    for (index, (name, id)) in executor.graph().taps().iter().enumerate() {
        let tap = pass.tap(name)?;
        check(name, tap, &golden["taps"][name], tolerance)?;
        assert_eq!(tap.dims(), executor.graph().node(*id).shape.dims(ROWS));
        upstream.taps.insert(name.clone(), wave(tap.dims(), index as f64)?.to_dtype(dtype)?);
    }
    assert_eq!(
        pass.moments.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["norm1", "norm2", "norm3"]
    );
    for (index, seen) in pass.moments.iter().enumerate() {
        check("mean", &seen.mean, &golden["moments"][&seen.name][0], tolerance)?;
        check("variance", &seen.variance, &golden["moments"][&seen.name][1], tolerance)?;
        let wave = |offset: f64| wave(seen.mean.dims(), index as f64 + offset)?.to_dtype(dtype);
        let gradient = MomentGradient { mean: wave(0.1)?, variance: wave(0.2)? };
        upstream.moments.insert(seen.name.clone(), gradient);
    }
    let mut gradients = Gradients::default();
    let tape = pass.tape.expect("a tape was asked for");
    let input_gradient = executor.backward(&parameters, tape, &upstream, &mut gradients)?;
    check("input", &input_gradient.expect("asked for"), &golden["input"], tolerance)?;
    let expected: BTreeMap<String, serde_json::Value> =
        serde_json::from_value(golden["gradients"].clone()).expect("a map");
    assert_eq!(
        gradients.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, value) in &expected {
        check(name, gradients.get(name).expect("compared above"), value, tolerance)?;
    }
    assert_eq!(pass.statistics.is_some(), mode == "batch", "only train mode has statistics");
    if let Some(update) = &pass.statistics {
        parameters.update_statistics(update, 0.1)?;
    }
    for name in executor.graph().batch_norms() {
        for (index, suffix) in ["running_mean", "running_var"].into_iter().enumerate() {
            let name_and_suffix = format!("{name}.{suffix}");
            check(
                &name_and_suffix,
                parameters.get(&name_and_suffix)?,
                &golden["statistics"][name][index],
                tolerance,
            )?;
        }
    }
    Ok(())
}

#[test]
fn reference_equals_pytorch_with_batch_statistics() -> Result<()> {
    compare(&ReferenceExecutor::new(graph()?), "batch", DType::F64, 1e-9)
}

#[test]
fn reference_equals_pytorch_with_running_statistics() -> Result<()> {
    compare(&ReferenceExecutor::new(graph()?), "running", DType::F64, 1e-9)
}

#[test]
fn a_stale_tape_is_refused() -> Result<()> {
    let executor = ReferenceExecutor::new(graph()?);
    let mut parameters = parameters(executor.graph())?;
    let pass = executor.forward(&parameters, &wave(&[ROWS, 3, 9, 8], 0.5)?, ForwardSpec::TRAIN)?;
    let bias = parameters.get("linear.bias")?.clone();
    parameters.set("linear.bias", (bias + 1.0)?);
    let mut upstream = Upstream::default();
    upstream.taps.insert("out".into(), pass.tap("out")?.ones_like()?);
    let refused =
        executor.backward(&parameters, pass.tape.expect("kept"), &upstream, &mut Gradients::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("other parameter values")));
    Ok(())
}

#[test]
fn a_frozen_pass_keeps_no_weight_gradients() -> Result<()> {
    let executor = ReferenceExecutor::new(graph()?);
    let parameters = parameters(executor.graph())?;
    let pass = executor.forward(&parameters, &wave(&[ROWS, 3, 9, 8], 0.5)?, ForwardSpec::PROBE)?;
    let mut upstream = Upstream::default();
    upstream.taps.insert("out".into(), pass.tap("out")?.ones_like()?);
    let mut gradients = Gradients::default();
    let input = executor.backward(&parameters, pass.tape.expect("kept"), &upstream, &mut gradients)?;
    assert!(input.is_some());
    assert_eq!(gradients.iter().count(), 0);
    Ok(())
}

/// The paths that this machine can run; the portable one always.
fn cpu_executors() -> Result<Vec<CpuExecutor>> {
    let mut executors = vec![CpuExecutor::with_path(graph()?, InstructionPath::Portable)?];
    for path in [InstructionPath::Avx2, InstructionPath::Avx512] {
        // Refused where the processor does not have the instructions.
        executors.extend(CpuExecutor::with_path(graph()?, path).ok());
    }
    Ok(executors)
}

#[test]
fn cpu_equals_pytorch_on_every_path() -> Result<()> {
    for executor in cpu_executors()? {
        compare(&executor, "batch", DType::F32, 5e-4)?;
        compare(&executor, "running", DType::F32, 5e-5)?;
    }
    Ok(())
}
