//! The CPU executor against the reference in `f64`: values and gradients, on every instruction path of this CPU, and
//! bit for bit for any number of threads.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_random::{Draw, Stream};

use super::{CpuExecutor, InstructionPath};
use crate::reference::ReferenceExecutor;
use crate::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, Keep, MomentGradient, NodeId, Norm, Op,
    Parameters, Pass, Shape, Upstream,
};

const PATHS: [InstructionPath; 3] =
    [InstructionPath::Avx512, InstructionPath::Avx2, InstructionPath::Portable];
const TRAIN_ALL: ForwardSpec =
    ForwardSpec { norm: Norm::Batch, moments: true, keep: Keep::Tape { weights: true, input: true } };

struct Dice(Stream);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Draw::new(seed, "test").stream("dice"))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn tensor(&mut self, dims: &[usize], low: f64, high: f64) -> Result<Tensor> {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.0.between(low, high) as f32).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    }
}

fn paths() -> Vec<InstructionPath> {
    let (there, missing): (Vec<_>, Vec<_>) =
        PATHS.into_iter().partition(|path| super::simd::available(*path));
    if !missing.is_empty() {
        println!("NOT TESTED on this CPU, for want of instructions: {missing:?}");
    }
    there
}

fn parameters(graph: &Graph, dice: &mut Dice) -> Result<Parameters> {
    let mut parameters = Parameters::default();
    for spec in graph.parameter_specs() {
        let fan: usize = spec.dims.iter().skip(1).product();
        let bound = if spec.dims.len() > 1 { (3.0 / fan as f64).sqrt() } else { 0.6 };
        let (low, high) = if spec.name.ends_with("running_var") { (0.4, 1.6) } else { (-bound, bound) };
        parameters.set(&spec.name, dice.tensor(&spec.dims, low, high)?);
    }
    Ok(parameters)
}

/// Everything a forward and a backward pass return, by name.
type Outcome = BTreeMap<String, Tensor>;

fn outcome(
    executor: &dyn Executor,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
    upstream: &Upstream,
) -> Result<Outcome> {
    let Pass { taps, moments, statistics, tape } = executor.forward(parameters, input, spec)?;
    let mut all: Outcome = taps.into_iter().map(|(name, tap)| (format!("tap {name}"), tap)).collect();
    for moment in moments {
        all.insert(format!("mean {}", moment.name), moment.mean);
        all.insert(format!("variance {}", moment.name), moment.variance);
    }
    for norm in statistics.into_iter().flat_map(|update| update.norms) {
        all.insert(format!("statistic {}", norm.name), norm.unbiased_variance);
    }
    if let Some(tape) = tape {
        let mut gradients = Gradients::default();
        let input = executor.backward(parameters, tape, upstream, &mut gradients)?;
        all.extend(input.map(|input| ("input gradient".to_owned(), input)));
        all.extend(gradients.iter().map(|(name, gradient)| (format!("gradient {name}"), gradient.clone())));
    }
    Ok(all)
}

fn norm_of(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar()
}

fn compare(ours: &Outcome, reference: &Outcome, what: &str) -> Result<()> {
    // What is zero by cancellation is as inexact as what cancels.
    let mut largest: f64 = 0.0;
    for (name, tensor) in reference.iter().filter(|(name, _)| name.contains("gradient")) {
        largest = largest.max(norm_of(tensor).map_err(|error| error.context(name.clone()))?);
    }
    for (name, expected) in reference {
        let size = norm_of(expected)?;
        let scale = (expected.elem_count() as f64).sqrt();
        let Some(found) = ours.get(name) else {
            if size == 0.0 {
                continue;
            }
            bail!("{what}: {name} is missing");
        };
        if found.dims() != expected.dims() {
            bail!("{what}: {name} has shape {:?}, not {:?}", found.dims(), expected.dims());
        }
        let distance = norm_of(&(found.to_dtype(DType::F64)? - expected.to_dtype(DType::F64)?)?)?;
        if distance.is_nan() || distance > 3e-4 * size + 3e-5 * scale + 1e-5 * largest {
            bail!(
                "{what}: {name} is {distance:e} from a reference of size {size:e}, {} values",
                expected.elem_count()
            );
        }
    }
    for (name, found) in ours {
        if !reference.contains_key(name) && norm_of(found)? != 0.0 {
            bail!("{what}: {name} is not in the reference");
        }
    }
    Ok(())
}

/// Upstream gradients for some taps and, if moments were asked for, some moments.
fn upstream(graph: &Graph, rows: usize, spec: ForwardSpec, dice: &mut Dice) -> Result<Upstream> {
    let mut upstream = Upstream::default();
    for (at, (name, id)) in graph.taps().iter().enumerate() {
        if at == 0 || dice.below(3) > 0 {
            let dims = graph.node(*id).shape.dims(rows);
            upstream.taps.insert(name.clone(), dice.tensor(&dims, -1.0, 1.0)?);
        }
    }
    for node in graph.nodes().iter().filter(|node| spec.moments && matches!(node.op, Op::BatchNorm { .. })) {
        if dice.below(3) > 0 {
            let (mean, variance) = (
                dice.tensor(&[node.shape.channels()], -2.0, 2.0)?,
                dice.tensor(&[node.shape.channels()], -2.0, 2.0)?,
            );
            upstream.moments.insert(node.name.clone(), MomentGradient { mean, variance });
        }
    }
    Ok(upstream)
}

fn check(graph: &Graph, rows: usize, spec: ForwardSpec, dice: &mut Dice, what: &str) -> Result<()> {
    let parameters = parameters(graph, dice)?;
    let input = dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?;
    let up = upstream(graph, rows, spec, dice)?;
    let reference = ReferenceExecutor::new(graph.clone());
    let mut wide = up.clone();
    for tensor in wide.taps.values_mut() {
        *tensor = tensor.to_dtype(DType::F64)?;
    }
    for moment in wide.moments.values_mut() {
        moment.mean = moment.mean.to_dtype(DType::F64)?;
        moment.variance = moment.variance.to_dtype(DType::F64)?;
    }
    let double = parameters.to_dtype(DType::F64)?;
    let expected = outcome(&reference, &double, &input.to_dtype(DType::F64)?, spec, &wide)?;
    for path in paths() {
        let executor = CpuExecutor::with_path(graph.clone(), path)?;
        let found = outcome(&executor, &parameters, &input, spec, &up)?;
        compare(&found, &expected, &format!("{what} {path:?} rows {rows} {spec:?}"))?;
        let again = outcome(&executor, &parameters, &input, spec, &up)?;
        for (name, value) in &found {
            assert_eq!(bits(value)?, bits(&again[name])?, "{what}: {name} differs the second time, {path:?}");
        }
    }
    Ok(())
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

fn conv(out_channels: usize, kernel: usize, stride: usize, padding: usize, bias: bool) -> Op {
    Op::Conv2d { out_channels, kernel, stride, padding, bias }
}

fn map(channels: usize, height: usize, width: usize) -> Shape {
    Shape::Map { channels, height, width }
}

const SPECS: [ForwardSpec; 6] = [
    ForwardSpec::EVAL,
    ForwardSpec::TRAIN,
    ForwardSpec::PROBE,
    TRAIN_ALL,
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: true, input: true } },
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: false, input: true } },
];

#[test]
fn convolutions_equal_the_reference() -> Result<()> {
    let mut dice = Dice::new(1);
    let shapes = [(3, 9, 8), (1, 7, 7), (16, 6, 13), (20, 5, 5), (33, 4, 9), (4, 16, 16), (5, 3, 40)];
    let windows =
        [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3), (5, 3, 2), (2, 2, 0), (3, 1, 0), (4, 3, 3)];
    for (channels, height, width) in shapes {
        for (kernel, stride, padding) in windows {
            if height.min(width) + 2 * padding < kernel {
                continue;
            }
            let mut builder = GraphBuilder::new(map(channels, height, width));
            let outputs = dice.pick(&[1, 3, 16, 20, 35, 48]);
            let first = builder.add(
                "first",
                conv(outputs, kernel, stride, padding, dice.below(2) > 0),
                &[NodeId(0)],
            )?;
            let second = builder.add("second", conv(dice.pick(&[2, 16, 33]), 1, 1, 0, true), &[first])?;
            builder.tap("first", first);
            builder.tap("second", second);
            let graph = builder.build()?;
            let what =
                format!("{channels}x{height}x{width} to {outputs}, window {kernel}/{stride}/{padding}");
            let spec = dice.pick(&[TRAIN_ALL, ForwardSpec::TRAIN, ForwardSpec::PROBE]);
            let rows = dice.pick(&[1, 2, 5]);
            check(&graph, rows, spec, &mut dice, &what)?;
        }
    }
    Ok(())
}

/// A residual network with an identity and a projected shortcut, the shape of everything that is trained here.
fn residual_net(height: usize, width: usize) -> Result<Graph> {
    let mut builder = GraphBuilder::new(map(3, height, width));
    let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
    let stem = builder.add("stem", conv(16, 3, 1, 1, false), &[NodeId(0)])?;
    let stem = builder.add("stem_norm", norm.clone(), &[stem])?;
    let mut x = builder.add("stem_relu", Op::Relu, &[stem])?;
    for (at, (out, stride)) in [(16, 1), (24, 2), (24, 1)].into_iter().enumerate() {
        let y = builder.add(&format!("{at}.conv1"), conv(out, 3, stride, 1, false), &[x])?;
        let y = builder.add(&format!("{at}.bn1"), norm.clone(), &[y])?;
        let y = builder.add(&format!("{at}.relu1"), Op::Relu, &[y])?;
        let y = builder.add(&format!("{at}.conv2"), conv(out, 3, 1, 1, false), &[y])?;
        let y = builder.add(&format!("{at}.bn2"), norm.clone(), &[y])?;
        let short = if stride == 1 {
            x
        } else {
            let short = builder.add(&format!("{at}.short"), conv(out, 1, stride, 0, false), &[x])?;
            builder.add(&format!("{at}.short_bn"), norm.clone(), &[short])?
        };
        let sum = builder.add(&format!("{at}.add"), Op::Add, &[y, short])?;
        builder.tap(&format!("{at}.sum"), sum);
        x = builder.add(&format!("{at}.relu2"), Op::Relu, &[sum])?;
        builder.tap(&format!("{at}.out"), x);
    }
    let pooled = builder.add("pool", Op::GlobalAvgPool, &[x])?;
    let head = builder.add("head", Op::Linear { out_features: 7, bias: true }, &[pooled])?;
    builder.tap("pooled", pooled);
    builder.tap("logits", head);
    builder.build()
}

/// As [`residual_net`], with nothing handed out between the units, so that they fuse.
fn fused(graph: &Graph) -> Result<Graph> {
    let mut builder = GraphBuilder::new(graph.input_shape());
    for node in graph.nodes().iter().skip(1) {
        builder.add(&node.name, node.op.clone(), &node.inputs)?;
    }
    builder.tap("logits", NodeId(graph.nodes().len() - 1));
    builder.build()
}

#[test]
fn residual_networks_equal_the_reference() -> Result<()> {
    let mut dice = Dice::new(2);
    for (height, width) in [(12, 12), (9, 8)] {
        let tapped = residual_net(height, width)?;
        for graph in [fused(&tapped)?, tapped] {
            for spec in SPECS {
                for rows in [1, 3, 18] {
                    check(&graph, rows, spec, &mut dice, "residual network")?;
                }
            }
        }
    }
    Ok(())
}

fn generator() -> Result<Graph> {
    let mut builder = GraphBuilder::new(Shape::Vector { width: 10 });
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let x = builder.add("linear", Op::Linear { out_features: 20 * 4 * 3, bias: true }, &[NodeId(0)])?;
    let x = builder.reshape("map", x, map(20, 4, 3))?;
    let x = builder.add("bn0", norm(true), &[x])?;
    let x = builder.add("up1", Op::UpsampleNearest { factor: 2 }, &[x])?;
    let x = builder.add("conv1", conv(24, 3, 1, 1, true), &[x])?;
    let x = builder.add("bn1", norm(true), &[x])?;
    let x = builder.add("act1", Op::LeakyRelu { slope: 0.2 }, &[x])?;
    let x = builder.add("up2", Op::UpsampleNearest { factor: 3 }, &[x])?;
    let x = builder.add("conv2", conv(3, 3, 1, 1, true), &[x])?;
    let x = builder.add("tanh", Op::Tanh, &[x])?;
    let x = builder.add("bn2", norm(false), &[x])?;
    builder.tap("image", x);
    builder.build()
}

#[test]
fn generators_equal_the_reference() -> Result<()> {
    let mut dice = Dice::new(3);
    for spec in SPECS {
        for rows in [2, 5] {
            check(&generator()?, rows, spec, &mut dice, "generator")?;
        }
    }
    Ok(())
}

fn random_graph(dice: &mut Dice) -> Result<Graph> {
    let (height, width) = (5 + dice.below(6), 5 + dice.below(6));
    let mut builder = GraphBuilder::new(map(dice.pick(&[1, 3, 5, 16, 18]), height, width));
    let mut nodes = vec![builder.input()];
    let count = 5 + dice.below(8);
    for at in 0..count {
        let name = format!("node{at}");
        let id = if dice.below(3) == 0 { dice.pick(&nodes) } else { nodes[nodes.len() - 1] };
        let kernel = 1 + dice.below(3);
        let stride = 1 + dice.below(2);
        let channels = builder.shape(id).channels();
        let Shape::Map { height, width, .. } = builder.shape(id) else { continue };
        let other = nodes
            .iter()
            .rev()
            .copied()
            .find(|other| *other != id && builder.shape(*other) == builder.shape(id));
        let op = match dice.below(13) {
            0..3 => conv(dice.pick(&[3, 16, 20]), kernel, stride, dice.below(kernel + 1), dice.below(2) > 0),
            3 | 4 => Op::BatchNorm { affine: dice.below(2) > 0, epsilon: 1e-5 },
            5 => Op::Relu,
            6 => Op::LeakyRelu { slope: dice.pick(&[0.2, 0.0, -0.3]) },
            7 => Op::Tanh,
            8 => Op::AvgPool { kernel, stride },
            9 => Op::MaxPool { kernel, stride, padding: dice.below(kernel / 2 + 1) },
            10 if height * width < 60 => Op::UpsampleNearest { factor: 2 },
            11 => Op::SubsamplePad { stride, out_channels: channels + dice.below(10) },
            _ => Op::Add,
        };
        let inputs = match (&op, other) {
            (Op::Add, Some(other)) => vec![id, other],
            (Op::Add, None) => vec![id, id],
            _ => vec![id],
        };
        // Windows may not fit, and then there is no node.
        let Ok(id) = builder.add(&name, op, &inputs) else { continue };
        nodes.push(id);
        if dice.below(4) == 0 {
            builder.tap(&name, id);
        }
        if dice.below(5) == 0 {
            nodes.push(builder.add(&format!("join{at}"), Op::Concat, &[id, id])?);
        }
    }
    let last = nodes[nodes.len() - 1];
    let flat = if dice.below(2) == 0 {
        builder.add("pool", Op::GlobalAvgPool, &[last])?
    } else {
        let width = builder.shape(last).elements();
        builder.reshape("flat", last, Shape::Vector { width })?
    };
    let linear = builder.add("linear", Op::Linear { out_features: 21, bias: true }, &[flat])?;
    let both = builder.add("both", Op::Concat, &[linear, flat])?;
    let narrow = builder.add("narrow", Op::Narrow { start: 3, length: 19 }, &[both])?;
    let norm = builder.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[narrow])?;
    let square = builder.add("narrower", Op::Narrow { start: 1, length: 18 }, &[norm])?;
    let square = builder.reshape("square", square, map(2, 3, 3))?;
    builder.tap("end", square);
    builder.build()
}

#[test]
fn random_graphs_equal_the_reference() -> Result<()> {
    for seed in 0..60 {
        let mut dice = Dice::new(100 + seed);
        let graph = random_graph(&mut dice)?;
        let rows = dice.pick(&[9, 12, 17]);
        let spec = dice.pick(&SPECS);
        let nodes: Vec<_> = graph.nodes().iter().map(|node| (&node.name, &node.op, node.shape)).collect();
        check(&graph, rows, spec, &mut dice, &format!("seed {seed} {nodes:?}"))?;
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    let mut dice = Dice::new(4);
    for (graph, rows) in [(residual_net(12, 12)?, 37), (generator()?, 9)] {
        let parameters = parameters(&graph, &mut dice)?;
        let input = dice.tensor(&graph.input_shape().dims(rows), -1.0, 1.0)?;
        let up = upstream(&graph, rows, TRAIN_ALL, &mut dice)?;
        for path in paths() {
            let executor = CpuExecutor::with_path(graph.clone(), path)?;
            let mut first: Option<Outcome> = None;
            for threads in [1, 2, 3] {
                let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else {
                    bail!("no pool of {threads} threads");
                };
                let found = pool.install(|| outcome(&executor, &parameters, &input, TRAIN_ALL, &up))?;
                let first = first.get_or_insert_with(|| found.clone());
                for (name, value) in &found {
                    assert_eq!(bits(value)?, bits(&first[name])?, "{name} with {threads} threads, {path:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_stale_tape_is_refused() -> Result<()> {
    let mut dice = Dice::new(5);
    let graph = residual_net(8, 8)?;
    let mut parameters = parameters(&graph, &mut dice)?;
    let executor = CpuExecutor::new(graph.clone())?;
    let input = dice.tensor(&graph.input_shape().dims(2), -1.0, 1.0)?;
    let pass = executor.forward(&parameters, &input, ForwardSpec::TRAIN)?;
    let head = parameters.get("head.bias")?.clone();
    parameters.set("head.bias", head);
    let Some(tape) = pass.tape else { bail!("no tape") };
    let refused = executor.backward(&parameters, tape, &Upstream::default(), &mut Gradients::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("before the optimiser's step")));
    Ok(())
}
