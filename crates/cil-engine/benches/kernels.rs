//! Each kernel alone, through the public executor: a graph of one layer (or of a few that run fused), forward and one
//! training pass.
//!
//! `cargo bench -p cil-engine` measures all, `cargo bench -p cil-engine -- conv3x3` those of that name. "elem" in the
//! throughput is a floating-point operation of direct computation, or a value where there is no product. What a call of
//! an executor costs beside its kernel (the input's and the output's copy into its layout) is in the time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor};
use cil_engine::cpu::CpuExecutor;
use cil_engine::optim::{Group, Optimizer, OptimizerConfig};
use cil_engine::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, Keep, Norm, Op, Parameters, Shape, Upstream,
};
use cil_random::Draw;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Training with the gradient of the input, as in the middle of a network.
const LEARN: ForwardSpec =
    ForwardSpec { norm: Norm::Batch, moments: false, keep: Keep::Tape { weights: true, input: true } };

/// A graph to measure.
struct Case {
    name: String,
    rows: usize,
    graph: Graph,
    /// Operations (or values) of a forward pass for one sample.
    work: f64,
    /// How many times that a training pass does.
    passes: f64,
    /// Rows, depth and columns of the product that im2col would make of it, where the kernels are direct.
    product: Option<[usize; 3]>,
}

fn map(channels: usize, side: usize) -> Shape {
    Shape::Map { channels, height: side, width: side }
}

/// The layers one after the other, each reading the one before.
fn chain(input: Shape, layers: Vec<Op>) -> Result<Graph> {
    let mut it = GraphBuilder::new(input);
    let mut x = it.input();
    for (at, op) in layers.into_iter().enumerate() {
        x = it.add(&format!("layer{at}"), op, &[x])?;
    }
    it.tap("out", x);
    it.build()
}

fn convolution(out_channels: usize, kernel: usize, stride: usize) -> Op {
    Op::Conv2d { out_channels, kernel, stride, padding: kernel / 2, bias: false }
}

/// `[channels, side, out channels, kernel, stride]` on 128 rows, or 64 for the wide layers of ResNet-18.
fn convolutions() -> Result<Vec<Case>> {
    let shapes = [
        [16, 32, 16, 3, 1],
        [32, 16, 32, 3, 1],
        [64, 8, 64, 3, 1],
        [128, 16, 128, 3, 1],
        [256, 4, 256, 3, 1],
        [512, 2, 512, 3, 1],
        [16, 32, 32, 3, 2],
        [32, 16, 64, 3, 2],
        [64, 16, 128, 3, 2],
        [128, 8, 256, 3, 2],
        [256, 4, 512, 3, 2],
        [16, 32, 32, 1, 2],
        [64, 16, 128, 1, 2],
        [256, 4, 512, 1, 2],
        [64, 16, 64, 1, 1],
        [3, 32, 16, 3, 1],
        [3, 64, 64, 7, 2],
    ];
    let case = |[channels, side, out, kernel, stride]: [usize; 5]| {
        let graph = chain(map(channels, side), vec![convolution(out, kernel, stride)])?;
        let places = (side / stride) * (side / stride);
        let work = 2.0 * (out * places * channels * kernel * kernel) as f64;
        let rows = if side == 64 || channels >= 64 && stride == 2 || channels > 128 { 64 } else { 128 };
        let direct = stride > 1 || kernel != 3 || channels < 16;
        let product = direct.then_some([out, channels * kernel * kernel, rows * places]);
        let name = format!("conv{kernel}x{kernel}/{stride} {channels}@{side}x{side} to {out}");
        Ok(Case { name, rows, graph, work, passes: 3.0, product })
    };
    shapes.into_iter().map(case).collect()
}

fn others() -> Result<Vec<Case>> {
    let norm = || Op::BatchNorm { affine: true, epsilon: 1e-5 };
    let case = |name: &str, rows, input, layers, work, passes| -> Result<Case> {
        Ok(Case { name: name.to_owned(), rows, graph: chain(input, layers)?, work, passes, product: None })
    };
    let values = |shape: Shape| shape.elements() as f64;
    let product = |kernel: usize, shape: Shape, channels: usize| {
        2.0 * values(shape) * (channels * kernel * kernel) as f64
    };
    let layer = || [convolution(16, 3, 1), norm(), Op::Relu];
    Ok(vec![
        case(
            "upsample, conv3x3 128@8x8 to 128@16x16",
            128,
            map(128, 8),
            vec![Op::UpsampleNearest { factor: 2 }, convolution(128, 3, 1)],
            product(3, map(128, 16), 128),
            3.0,
        )?,
        case(
            "twice conv3x3, norm, relu 16@32x32",
            128,
            map(16, 32),
            layer().into_iter().chain(layer()).collect(),
            2.0 * product(3, map(16, 32), 16),
            3.0,
        )?,
        case("norm, relu 16@32x32", 128, map(16, 32), vec![norm(), Op::Relu], values(map(16, 32)), 1.0)?,
        case(
            "max-pool 3/2/1 64@32x32",
            64,
            map(64, 32),
            vec![Op::MaxPool { kernel: 3, stride: 2, padding: 1 }],
            values(map(64, 32)),
            1.0,
        )?,
        case(
            "linear 256 to 8192",
            128,
            Shape::Vector { width: 256 },
            vec![Op::Linear { out_features: 8192, bias: true }],
            2.0 * 256.0 * 8192.0,
            3.0,
        )?,
    ])
}

fn noise(dims: &[usize]) -> Result<Tensor> {
    let mut stream = Draw::new(1, "bench").stream("noise");
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

fn measure(criterion: &mut Criterion, case: Case) -> Result<()> {
    let parameters = Parameters::init(&case.graph, 1, &Device::Cpu)?;
    let input = noise(&case.graph.input_shape().dims(case.rows))?;
    let executor = CpuExecutor::new(case.graph)?;
    let learn = || -> Result<Option<Tensor>> {
        let mut pass = executor.forward(&parameters, &input, LEARN)?;
        let grad = pass.tap("out")?.clone();
        let upstream =
            Upstream { taps: BTreeMap::from([("out".to_owned(), grad)]), moments: BTreeMap::new() };
        match pass.tape.take() {
            Some(tape) => executor.backward(&parameters, tape, &upstream, &mut Gradients::default()),
            None => Ok(None),
        }
    };
    // The measured closures cannot return an error, so each is run once where it can.
    executor.forward(&parameters, &input, ForwardSpec::EVAL)?;
    learn()?;
    let mut group = criterion.benchmark_group(case.name);
    let work = case.work * case.rows as f64;
    group.throughput(Throughput::Elements(work as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| black_box(executor.forward(&parameters, &input, ForwardSpec::EVAL)));
    });
    if let Some([rows, depth, columns]) = case.product {
        let (left, right) = (noise(&[rows, depth])?, noise(&[depth, columns])?);
        left.matmul(&right)?;
        group.bench_function("forward by im2col, product alone", |bencher| {
            bencher.iter(|| black_box(left.matmul(&right)));
        });
    }
    group.throughput(Throughput::Elements((work * case.passes) as u64));
    group.bench_function("train", |bencher| bencher.iter(|| black_box(learn())));
    group.finish();
    Ok(())
}

/// One step on as many values as the race's generator has, in four tensors.
fn optimisers(criterion: &mut Criterion) -> Result<()> {
    let names = ["a", "b", "c", "d"].map(str::to_owned);
    let rules = [
        ("sgd", OptimizerConfig::Sgd { momentum: 0.9, nesterov: false }),
        ("adam", OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 }),
    ];
    let mut group = criterion.benchmark_group("optimiser 1 Mi values");
    group.throughput(Throughput::Elements(1 << 20));
    for (name, rule) in rules {
        let (mut parameters, mut gradients) = (Parameters::default(), Gradients::default());
        for name in &names {
            parameters.set(name, noise(&[512, 512])?);
            gradients.add(name, noise(&[512, 512])?)?;
        }
        let mut optimizer = Optimizer::new(rule);
        let groups = [Group { names: names.to_vec(), lr_scale: 1.0, weight_decay: 5e-4 }];
        optimizer.step(&mut parameters, &gradients, &groups, 1e-3)?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(optimizer.step(&mut parameters, &gradients, &groups, 1e-3)));
        });
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    let cases = convolutions().and_then(|mut cases| {
        cases.extend(others()?);
        Ok(cases)
    });
    let done = cases
        .and_then(|cases| cases.into_iter().try_for_each(|case| measure(criterion, case)))
        .and_then(|()| optimisers(criterion));
    if let Err(error) = done {
        panic!("a graph of the bench does not run: {error}");
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = all
}
criterion_main!(kernels);
