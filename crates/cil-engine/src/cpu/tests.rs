//! The CPU executor against the reference in `f64`: values and gradients, on every instruction path of this CPU, and
//! bit for bit for any number of threads.

mod kept;
mod memory;
mod precision;

use candle_core::{Result, bail};

use super::{CpuExecutor, InstructionPath};
use crate::testing::networks::{conv, fused, generator, map, random_graph, residual_net};
use crate::testing::{
    Dice, Outcome, SPECS, TRAIN_ALL, bits, compare, expected, outcome, parameters, upstream,
};
use crate::{Executor, ForwardSpec, Gradients, Graph, GraphBuilder, NodeId, Op, Upstream};

const PATHS: [InstructionPath; 3] =
    [InstructionPath::Avx512, InstructionPath::Avx2, InstructionPath::Portable];
fn paths() -> Vec<InstructionPath> {
    let (there, missing): (Vec<_>, Vec<_>) =
        PATHS.into_iter().partition(|path| super::simd::available(*path));
    if !missing.is_empty() {
        println!("NOT TESTED on this CPU, for want of instructions: {missing:?}");
    }
    there
}

fn check(graph: &Graph, rows: usize, spec: ForwardSpec, dice: &mut Dice, what: &str) -> Result<()> {
    let parameters = parameters(graph, dice)?;
    let input = dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?;
    let up = upstream(graph, rows, spec, dice)?;
    let expected = expected(graph, &parameters, &input, spec, &up)?;
    for path in paths() {
        let executor = CpuExecutor::with_path(graph.clone(), path)?;
        let found = outcome(&executor, &parameters, &input, spec, &up)?;
        compare(&found, &expected, 1.0, &format!("{what} {path:?} rows {rows} {spec:?}"))?;
        let again = outcome(&executor, &parameters, &input, spec, &up)?;
        for (name, value) in &found {
            assert_eq!(bits(value)?, bits(&again[name])?, "{what}: {name} differs the second time, {path:?}");
        }
    }
    Ok(())
}

/// Bits of all that was returned.
fn exact(outcome: &Outcome) -> Result<Vec<(String, Vec<u32>)>> {
    outcome.iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
}

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
