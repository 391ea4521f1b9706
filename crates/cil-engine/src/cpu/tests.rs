//! The CPU executor against the reference in `f64`: values and gradients, on every instruction path of this CPU, and
//! bit for bit for any number of threads.

mod kept;
mod memory;
mod networks;
mod precision;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_random::{Draw, Stream};

use networks::{conv, fused, generator, map, random_graph, residual_net};

use super::{CpuExecutor, InstructionPath};
use crate::reference::ReferenceExecutor;
use crate::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, Keep, MomentGradient, NodeId, Norm, Op,
    Parameters, Pass, Upstream,
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

/// Bits of all that was returned.
fn exact(outcome: &Outcome) -> Result<Vec<(String, Vec<u32>)>> {
    outcome.iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
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

#[test]
fn wide_convolutions_equal_the_reference() -> Result<()> {
    let mut dice = Dice::new(6);
    for (height, width, outputs, stride) in [(4, 4, 144, 1), (2, 2, 128, 1), (7, 5, 130, 1), (4, 6, 128, 2)] {
        let mut builder = GraphBuilder::new(map(3, height, width));
        let x = builder.add("first", conv(130, 1, 1, 0, true), &[NodeId(0)])?;
        let x = builder.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])?;
        let x = builder.add("relu", Op::Relu, &[x])?;
        let y = builder.add("second", conv(outputs, 3, stride, 1, dice.below(2) > 0), &[x])?;
        let y = builder.add("norm2", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[y])?;
        builder.tap("out", y);
        let graph = builder.build()?;
        for spec in [TRAIN_ALL, ForwardSpec::PROBE, ForwardSpec::EVAL] {
            check(
                &graph,
                dice.pick(&[1, 5, 35]),
                spec,
                &mut dice,
                &format!("{height}x{width} to {outputs}"),
            )?;
        }
    }
    Ok(())
}
