//! The CUDA executor against the reference in `f64`, on a GPU or on the emulator of one (docs/cuda-emulator.md);
//! without either the tests say that they were skipped.

mod captures;
#[expect(unsafe_code, reason = "asking whether the driver is the emulator")]
pub(super) mod emulator;
mod inference;
mod measures;
mod memory;
mod nccl;
mod real;
mod refusals;
mod rows;
mod shares;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{CudaExecutor, Gpu, Precision};
use crate::testing::networks::{conv, fused, generator, map, random_graph, residual_net};
use crate::testing::{
    Dice, Outcome, SPECS, TRAIN_ALL, bits, distance, expected, norm_of, outcome, parameters, upstream,
};
use crate::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, MomentGradient, NodeId, Parameters, Upstream,
};

/// A GPU for one test at a time: counts of launches are those of the process.
struct Turn {
    gpu: Gpu,
    _turn: MutexGuard<'static, ()>,
}

fn turn(test: &str) -> Option<Turn> {
    static GPU: OnceLock<std::result::Result<Gpu, String>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match GPU.get_or_init(|| Gpu::open(0).map_err(|error| error.to_string())) {
        Ok(gpu) => Some(Turn { gpu: gpu.clone(), _turn: turn }),
        Err(why) => {
            eprintln!("SKIPPED {test}: {why}");
            None
        }
    }
}

fn stored(store: &Parameters, device: &Device) -> Result<Parameters> {
    let moved = store.iter().map(|(name, tensor)| Ok((name.to_owned(), tensor.to_device(device)?)));
    Ok(Parameters::from_tensors(moved.collect::<Result<_>>()?))
}

fn entering(upstream: &Upstream, device: &Device) -> Result<Upstream> {
    let taps = upstream.taps.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_device(device)?)));
    let moments = upstream.moments.iter().map(|(name, it)| {
        let (mean, variance) = (it.mean.to_device(device)?, it.variance.to_device(device)?);
        Ok((name.clone(), MomentGradient { mean, variance }))
    });
    Ok(Upstream { taps: taps.collect::<Result<_>>()?, moments: moments.collect::<Result<_>>()? })
}

/// The outputs of a pass on the GPU, copied to the CPU.
fn on_gpu(
    executor: &CudaExecutor,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
    upstream: &Upstream,
) -> Result<Outcome> {
    let device = executor.gpu.device();
    let (parameters, upstream) = (stored(parameters, &device)?, entering(upstream, &device)?);
    let all = outcome(executor, &parameters, &input.to_device(&device)?, spec, &upstream)?;
    all.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?))).collect()
}

/// Whether results are the reference's, within the precision; the largest distance as a part of its bound.
fn near(precision: Precision, found: &Outcome, expected: &Outcome, what: &str) -> Result<f64> {
    match precision {
        Precision::Exact => distance(found, expected, 1.0, what),
        Precision::Tf32 => near_together(found, expected, [0.005, 0.12], what),
        Precision::Bf16 => near_together(found, expected, [0.03, 0.15], what),
    }
}

/// With ten bits in each factor, or seven in all that is stored, single sums that nearly cancel are far off and ReLUs
/// flip, so all gradients are compared together, and so is all else; `bounds` are those of all else and of gradients.
fn near_together(found: &Outcome, expected: &Outcome, bounds: [f64; 2], what: &str) -> Result<f64> {
    let mut worst = 0f64;
    for (gradients, bound) in [false, true].into_iter().zip(bounds) {
        let (mut distance, mut size) = (0.0, 0.0);
        for (name, expected) in expected.iter().filter(|(name, _)| name.contains("gradient") == gradients) {
            let Some(found) = found.get(name) else { continue };
            let expected = expected.to_dtype(DType::F64)?;
            distance += norm_of(&(found.to_dtype(DType::F64)? - &expected)?)?.powi(2);
            size += norm_of(&expected)?.powi(2);
        }
        let ratio = if size > 0.0 { (distance / size).sqrt() } else { 0.0 };
        if ratio.is_nan() || ratio > bound {
            bail!("{what}: off by {ratio} of all, gradients: {gradients}");
        }
        worst = worst.max(ratio / bound);
    }
    Ok(worst)
}

/// The comparisons of a test: every comparison is reported, and one that fails does not hide those after it.
#[derive(Debug, Default)]
struct Checks {
    failed: Vec<String>,
    worst: f64,
    count: usize,
}

impl Checks {
    fn see(&mut self, what: &str, found: Result<f64>) {
        self.count += 1;
        match found {
            Ok(ratio) => {
                self.worst = self.worst.max(ratio);
                println!("{ratio:.3} {what}");
            }
            Err(error) => {
                println!("FAILED {error}");
                self.failed.push(error.to_string());
            }
        }
    }

    fn end(self) -> Result<()> {
        let Self { failed, worst, count } = self;
        println!(
            "{count} comparisons, {} failed, the worst of the others at {worst:.3} of its bound",
            failed.len()
        );
        if !failed.is_empty() {
            let some: Vec<&str> = failed.iter().take(20).map(String::as_str).collect();
            bail!("{} of {count} comparisons failed: {}", failed.len(), some.join("; "));
        }
        Ok(())
    }
}

/// Passes in each precision against the reference in `f64`, and against themselves to the bit.
fn check(
    checks: &mut Checks,
    gpu: &Gpu,
    graph: &Graph,
    (rows, spec): (usize, ForwardSpec),
    precisions: &[Precision],
    dice: &mut Dice,
    what: &str,
) -> Result<()> {
    let parameters = parameters(graph, dice)?;
    let input = dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?;
    let up = upstream(graph, rows, spec, dice)?;
    let expected = expected(graph, &parameters, &input, spec, &up)?;
    for precision in precisions {
        let executor = CudaExecutor::new(graph.clone(), gpu, *precision);
        let what = format!("{what} {precision:?} rows {rows} {spec:?}");
        let pass = || on_gpu(&executor, &parameters, &input, spec, &up);
        checks.see(&what, pass().and_then(|found| near(*precision, &found, &expected, &what)));
        checks.see(&format!("{what}, again"), same_again(pass, &what));
    }
    Ok(())
}

/// Whether two passes give the same bits.
fn same_again(pass: impl Fn() -> Result<Outcome>, what: &str) -> Result<f64> {
    let (first, again) = (pass()?, pass()?);
    for (name, value) in &first {
        if bits(value)? != bits(&again[name])? {
            bail!("{what}: {name} differs the second time");
        }
    }
    Ok(0.0)
}

const SINGLE: [Precision; 2] = [Precision::Exact, Precision::Tf32];
const ALL: [Precision; 3] = [Precision::Exact, Precision::Tf32, Precision::Bf16];

#[test]
fn convolutions_equal_the_reference() -> Result<()> {
    let Some(turn) = turn("convolutions") else { return Ok(()) };
    let (mut dice, mut checks) = (Dice::new(21), Checks::default());
    for (channels, height, width) in [(3, 9, 8), (1, 7, 7), (16, 6, 13), (33, 4, 9)] {
        for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3), (2, 2, 0)] {
            let mut builder = GraphBuilder::new(map(channels, height, width));
            let op = conv(dice.pick(&[1, 3, 16, 35]), kernel, stride, padding, dice.below(2) > 0);
            // Windows may not fit.
            let Ok(first) = builder.add("first", op, &[NodeId(0)]) else { continue };
            let second = builder.add("second", conv(dice.pick(&[2, 33]), 1, 1, 0, true), &[first])?;
            builder.tap("first", first);
            builder.tap("second", second);
            let graph = builder.build()?;
            let spec = dice.pick(&[TRAIN_ALL, ForwardSpec::TRAIN, ForwardSpec::PROBE]);
            let rows = dice.pick(&[1, 2, 5]);
            let what = format!("{channels}x{height}x{width}, window {kernel}/{stride}/{padding}");
            check(&mut checks, &turn.gpu, &graph, (rows, spec), &ALL, &mut dice, &what)?;
        }
    }
    checks.end()
}

#[test]
fn residual_networks_equal_the_reference() -> Result<()> {
    let Some(turn) = turn("residual networks") else { return Ok(()) };
    let (mut dice, mut checks) = (Dice::new(22), Checks::default());
    for (height, width) in [(12, 12), (9, 8)] {
        let tapped = residual_net(height, width)?;
        for graph in [fused(&tapped)?, tapped] {
            for spec in SPECS {
                let what = "residual network";
                check(&mut checks, &turn.gpu, &graph, (3, spec), &SINGLE, &mut dice, what)?;
                check(&mut checks, &turn.gpu, &graph, (18, spec), &ALL, &mut dice, what)?;
            }
        }
    }
    checks.end()
}

#[test]
fn generators_equal_the_reference() -> Result<()> {
    let Some(turn) = turn("generators") else { return Ok(()) };
    let (mut dice, mut checks) = (Dice::new(23), Checks::default());
    for spec in SPECS {
        for rows in [2, 5] {
            check(&mut checks, &turn.gpu, &generator()?, (rows, spec), &SINGLE, &mut dice, "generator")?;
        }
    }
    checks.end()
}

#[test]
fn random_graphs_equal_the_reference() -> Result<()> {
    let Some(turn) = turn("random graphs") else { return Ok(()) };
    let mut checks = Checks::default();
    for seed in 0..60 {
        let mut dice = Dice::new(100 + seed);
        let graph = random_graph(&mut dice)?;
        let rows = dice.pick(&[9, 12, 17]);
        let spec = dice.pick(&SPECS);
        let nodes: Vec<_> = graph.nodes().iter().map(|node| (&node.name, &node.op, node.shape)).collect();
        let what = format!("seed {seed} {nodes:?}");
        check(&mut checks, &turn.gpu, &graph, (rows, spec), &SINGLE, &mut dice, &what)?;
    }
    checks.end()
}

#[test]
fn mistakes_are_named() -> Result<()> {
    let Some(turn) = turn("mistakes") else { return Ok(()) };
    let mut dice = Dice::new(24);
    let graph = residual_net(8, 8)?;
    let executor = CudaExecutor::new(graph.clone(), &turn.gpu, Precision::Exact);
    let device = turn.gpu.device();
    let here = parameters(&graph, &mut dice)?;
    let mut there = stored(&here, &device)?;
    let input = dice.tensor(&graph.input_shape().dims(2), -1.0, 1.0)?;
    let forward =
        |parameters: &Parameters, input: &Tensor| executor.forward(parameters, input, ForwardSpec::TRAIN);
    let refused = |result: Result<crate::Pass>, part: &str| {
        let message = result.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(forward(&here, &input), "stem.weight is not on the GPU");
    refused(forward(&there, &input), "the input is not on the GPU");
    refused(forward(&there, &input.narrow(1, 0, 2)?.to_device(&device)?), "the input has shape [2, 2, 8, 8]");
    let pass = forward(&there, &input.to_device(&device)?)?;
    let bias = there.get("head.bias")?.clone();
    there.set("head.bias", bias);
    let Some(tape) = pass.tape else { bail!("no tape") };
    let refused = executor.backward(&there, tape, &Upstream::default(), &mut Gradients::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("before the optimiser's step")));
    let pass = forward(&there, &input.to_device(&device)?)?;
    let Some(tape) = pass.tape else { bail!("no tape") };
    let taps = BTreeMap::from([("nothing".to_owned(), pass.taps["pooled"].clone())]);
    let upstream = Upstream { taps, ..Upstream::default() };
    let refused = executor.backward(&there, tape, &upstream, &mut Gradients::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("tap nothing, which does not exist")));
    let message = Gpu::open(99).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("there is no GPU 99"), "{message}");
    Ok(())
}
