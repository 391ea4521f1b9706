//! The error when the GPU's memory is used up: the number of rows that would fit.

use candle_core::{Result, Tensor, bail};

use super::emulator;
use super::{CudaExecutor, Precision, stored, turn};
use crate::testing::networks::resnet32;
use crate::testing::{Dice, parameters};
use crate::{Executor, ForwardSpec, Gradients, Parameters, Upstream};

/// A training pass over so many rows.
fn train(executor: &CudaExecutor, parameters: &Parameters, rows: usize) -> Result<()> {
    let (graph, device) = (executor.graph(), executor.gpu.device());
    let input = Tensor::zeros(graph.input_shape().dims(rows), candle_core::DType::F32, &device)?;
    let pass = executor.forward(parameters, &input, ForwardSpec::TRAIN)?;
    let Some(tape) = pass.tape else { bail!("no tape") };
    let mut upstream = Upstream::default();
    upstream.taps.insert("pooled".into(), pass.taps["pooled"].ones_like()?);
    executor.backward(parameters, tape, &upstream, &mut Gradients::default())?;
    Ok(())
}

#[test]
fn a_batch_that_does_not_fit_is_refused_with_one_that_does() -> Result<()> {
    let Some(turn) = turn("memory that is used up") else { return Ok(()) };
    if !emulator::leave(None) {
        eprintln!(
            "SKIPPED memory that is used up: the driver is a real one, only the emulator takes memory away"
        );
        return Ok(());
    }
    for precision in [Precision::Tf32, Precision::Bf16] {
        let mut dice = Dice::new(51);
        let executor = CudaExecutor::new(resnet32(16)?, &turn.gpu, precision);
        let parameters = stored(&parameters(executor.graph(), &mut dice)?, &turn.gpu.device())?;
        train(&executor, &parameters, 1)?;
        turn.gpu.release();
        emulator::leave(Some(16 << 20));
        let refused = train(&executor, &parameters, 64).err().map(|error| error.to_string());
        let message = refused.unwrap_or_default();
        let parts = ["MiB left", "64 rows of this network take about", "rows fit"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        let fit =
            message.rsplit_once(": ").and_then(|(_, it)| it.strip_suffix(" rows fit")?.parse::<usize>().ok());
        let Some(fit) = fit else { bail!("{message}") };
        turn.gpu.release();
        train(&executor, &parameters, fit)?;
        turn.gpu.release();
        assert!(train(&executor, &parameters, 2 * fit).is_err(), "{fit} rows fit, and as many again");
        turn.gpu.release();
        emulator::leave(None);
    }
    Ok(())
}
