//! Inference: which batch norms are folded, and that values do not change.

use candle_core::{Result, bail};

use super::emulator;
use super::{ALL, Checks, CudaExecutor, Gpu, Precision, check, near, on_gpu, stored, turn};
use crate::testing::networks::{fused, generator, residual_net, resnet32};
use crate::testing::{Dice, bits, expected, parameters, upstream};
use crate::{Executor, ForwardSpec, Graph, Upstream};

/// Additions and activations after convolutions are fused by cuDNN, or run in a pass of our own.
#[test]
fn folded_networks_equal_the_reference_whatever_cudnn_joins() -> Result<()> {
    let Some(_turn) = turn("folded networks") else { return Ok(()) };
    let mut checks = Checks::default();
    for joins in [true, false] {
        if !emulator::join(joins) && !joins {
            eprintln!(
                "SKIPPED passes in place of joined calls: only the emulator can be told to refuse them"
            );
            continue;
        }
        // The GPU's cuDNN handle remembers for each shape whether cuDNN fuses.
        let gpu = Gpu::open(0)?;
        let mut dice = Dice::new(41);
        let all: [Graph; 3] = [fused(&residual_net(9, 8)?)?, residual_net(8, 8)?, resnet32(8)?];
        for graph in all {
            let what = format!("joined: {joins},");
            check(&mut checks, &gpu, &graph, (3, ForwardSpec::EVAL), &ALL, &mut dice, &what)?;
            // It joins what follows a ReLU at least, or else says so.
            assert_eq!(gpu.refusals().joined > 0, !joins, "{:?}", gpu.refusals());
        }
        let precisions = [Precision::Exact, Precision::Tf32];
        let spec = (5, ForwardSpec::EVAL);
        check(&mut checks, &gpu, &generator()?, spec, &precisions, &mut dice, "generator")?;
    }
    emulator::join(true);
    checks.end()
}

/// Folded weights belong to one version of the parameters.
#[test]
fn other_parameters_are_folded_anew() -> Result<()> {
    let Some(turn) = turn("folding anew") else { return Ok(()) };
    let mut dice = Dice::new(42);
    let graph = fused(&residual_net(8, 8)?)?;
    let executor = CudaExecutor::new(graph.clone(), &turn.gpu, Precision::Exact);
    let input = dice.tensor(&graph.input_shape().dims(2), -1.0, 1.0)?;
    let nothing = Upstream::default();
    for name in ["", "stem_norm.running_mean", "0.bn1.weight", "stem.weight"] {
        let mut own = parameters(&graph, &mut Dice::new(43))?;
        if !name.is_empty() {
            let moved = (own.get(name)? * 1.5)?;
            own.set(name, moved);
        }
        let expected = expected(&graph, &own, &input, ForwardSpec::EVAL, &nothing)?;
        let found = on_gpu(&executor, &own, &input, ForwardSpec::EVAL, &nothing)?;
        near(Precision::Exact, &found, &expected, name)?;
    }
    Ok(())
}

#[test]
fn a_layer_of_a_frozen_network_is_one_call() -> Result<()> {
    let Some(turn) = turn("launches of a frozen network") else { return Ok(()) };
    for (joins, kernels) in [(true, 40), (false, 40)] {
        emulator::join(joins);
        let gpu = Gpu::open(0)?;
        for precision in ALL {
            let mut dice = Dice::new(44);
            let executor = CudaExecutor::new(resnet32(16)?, &gpu, precision);
            let parameters = stored(&parameters(executor.graph(), &mut dice)?, &gpu.device())?;
            let graph = executor.graph().clone();
            let up = upstream(&graph, 2, ForwardSpec::EVAL, &mut dice)?;
            assert!(up.moments.is_empty());
            let input = dice.tensor(&graph.input_shape().dims(2), -1.0, 1.0)?.to_device(&gpu.device())?;
            let look = || executor.forward(&parameters, &input, ForwardSpec::EVAL);
            let first = bits(look()?.tap("pooled")?)?;
            if !emulator::reset() {
                eprintln!(
                    "SKIPPED the count of launches: the driver is a real one, only the emulator counts"
                );
                return Ok(());
            }
            let again = look()?;
            let Some(counts) = emulator::counts() else { bail!("no counts") };
            println!("ResNet-32, frozen, {precision:?}, joined: {joins}: {counts:?}");
            assert!(counts.kernels <= kernels && counts.library_calls <= 31, "{counts:?}");
            assert_eq!((counts.waits, counts.copies, counts.allocations), (0, 0, 1), "{counts:?}");
            assert_eq!(bits(again.tap("pooled")?)?, first);
        }
    }
    emulator::join(true);
    drop(turn);
    Ok(())
}
