//! Whole training steps: how many launches they take, that they can be captured, and that the optimiser moves
//! parameters as it does on the processor.

use candle_core::{Device, Result, Tensor, bail};

use super::emulator;
use super::{CudaExecutor, Precision, stored, turn};
use crate::optim::{Group, Optimizer, OptimizerConfig};
use crate::testing::networks::resnet32;
use crate::testing::{Dice, bits, parameters};
use crate::{Executor, ForwardSpec, Gradients, NormStatistics, NormUpdate, Parameters, Upstream, uploads};

const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false };

/// A training step of a network with one tap, whose gradient is given.
struct Step<'a> {
    executor: &'a CudaExecutor,
    groups: [Group; 1],
    input: Tensor,
    gradient: Tensor,
}

impl Step<'_> {
    /// Moves the parameters; what the network gave before.
    fn take(&self, parameters: &mut Parameters, optimizer: &mut Optimizer, rate: f64) -> Result<Tensor> {
        let pass = self.executor.forward(parameters, &self.input, ForwardSpec::TRAIN)?;
        let output = pass.tap("pooled")?.clone();
        let Some(tape) = pass.tape else { bail!("no tape") };
        let mut upstream = Upstream::default();
        upstream.taps.insert("pooled".into(), self.gradient.clone());
        let mut gradients = Gradients::default();
        self.executor.backward(parameters, tape, &upstream, &mut gradients)?;
        optimizer.step(parameters, &gradients, &self.groups, rate)?;
        let Some(statistics) = pass.statistics else { bail!("no statistics") };
        parameters.update_statistics(&statistics, 0.1)?;
        Ok(output)
    }
}

fn step<'a>(executor: &'a CudaExecutor, rows: usize, dice: &mut Dice) -> Result<Step<'a>> {
    let (graph, device) = (executor.graph(), executor.gpu.device());
    let kinds = graph.parameter_specs().into_iter().filter(|it| it.kind == crate::ParameterKind::Weight);
    let names = kinds.map(|it| it.name).collect();
    let groups = [Group { names, lr_scale: 1.0, weight_decay: 5e-4 }];
    let input = dice.tensor(&graph.input_shape().dims(rows), -1.0, 1.0)?.to_device(&device)?;
    let gradient = dice.tensor(&[rows, 64], -0.1, 0.1)?.to_device(&device)?;
    Ok(Step { executor, groups, input, gradient })
}

#[test]
fn a_step_takes_few_launches_and_no_wait() -> Result<()> {
    let Some(turn) = turn("launches of a step") else { return Ok(()) };
    for precision in [Precision::Exact, Precision::Tf32, Precision::Bf16] {
        let mut dice = Dice::new(31);
        let executor = CudaExecutor::new(resnet32(16)?, &turn.gpu, precision);
        let mut parameters = stored(&parameters(executor.graph(), &mut dice)?, &turn.gpu.device())?;
        let step = step(&executor, 2, &mut dice)?;
        let mut optimizer = Optimizer::new(SGD);
        for _ in 0..2 {
            step.take(&mut parameters, &mut optimizer, 0.1)?;
        }
        if !emulator::reset() {
            eprintln!("SKIPPED the count of launches: the driver is a real one, only the emulator counts");
            return Ok(());
        }
        step.take(&mut parameters, &mut optimizer, 0.1)?;
        let Some(counts) = emulator::counts() else { bail!("no counts") };
        println!("ResNet-32, one training step, {precision:?}: {counts:?}");
        assert!(counts.kernels + counts.library_calls <= 320, "{precision:?}: {counts:?}");
        assert_eq!((counts.waits, counts.copies), (0, 0), "{precision:?}: {counts:?}");
        // The tap, the moments, the gradients, the new values, their momentum, the running statistics.
        assert!(counts.allocations <= 6, "{precision:?}: {counts:?}");
    }
    Ok(())
}

#[test]
fn what_differs_is_brought_every_time_and_waits_for_nothing() -> Result<()> {
    let Some(turn) = turn("uploads") else { return Ok(()) };
    let device = turn.gpu.device();
    let _kept = uploads::keep(&device);
    emulator::reset();
    let one = uploads::fresh(vec![1u32, 2, 3], 3, &device)?;
    let other = uploads::fresh(vec![1.5f32; 6], (2, 3), &device)?;
    let again = uploads::fresh(vec![1u32, 2, 3], 3, &device)?;
    if let Some(counts) = emulator::counts() {
        assert_eq!((counts.copies, counts.waits), (3, 0), "{counts:?}");
    }
    assert_eq!((one.to_vec1::<u32>()?, again.to_vec1::<u32>()?), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(other.to_vec2::<f32>()?, vec![vec![1.5; 3]; 2]);
    let message = uploads::fresh(vec![1u32], 2, &device).unwrap_err().to_string();
    assert!(message.starts_with("1 values for a tensor of [2]; pass 2"), "{message}");
    Ok(())
}

#[test]
fn running_statistics_move_as_on_the_processor() -> Result<()> {
    let Some(turn) = turn("running statistics") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(34);
    let (mut here, mut updates) = (Parameters::default(), [NormUpdate::default(), NormUpdate::default()]);
    for at in 0..40 {
        let dims = [1 + dice.below(70)];
        for suffix in ["running_mean", "running_var"] {
            here.set(&format!("norm{at}.{suffix}"), dice.tensor(&dims, 0.1, 1.0)?);
        }
        let (mean, variance) = (dice.tensor(&dims, -1.0, 1.0)?, dice.tensor(&dims, 0.1, 1.0)?);
        for (update, device) in updates.iter_mut().zip([&Device::Cpu, &device]) {
            let (mean, unbiased_variance) = (mean.to_device(device)?, variance.to_device(device)?);
            update.norms.push(NormStatistics { name: format!("norm{at}"), mean, unbiased_variance });
        }
    }
    let mut there = stored(&here, &device)?;
    here.update_statistics(&updates[0], 0.1)?;
    there.update_statistics(&updates[1], 0.1)?;
    for (name, expected) in here.iter() {
        assert_eq!(bits(there.get(name)?)?, bits(expected)?, "{name}");
    }
    Ok(())
}

#[test]
fn the_optimiser_moves_parameters_as_on_the_processor() -> Result<()> {
    let Some(turn) = turn("the optimiser") else { return Ok(()) };
    let device = turn.gpu.device();
    let adam = OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };
    let nesterov = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
    for config in [SGD, nesterov, adam] {
        let mut dice = Dice::new(33);
        let names: Vec<String> = (0..40).map(|at| format!("p{at}")).collect();
        let mut here = Parameters::default();
        for name in &names {
            let dims = [1 + dice.below(40), 1 + dice.below(9)];
            here.set(name, dice.tensor(&dims, -1.0, 1.0)?);
        }
        let mut there = stored(&here, &device)?;
        let (mut ours, mut theirs) = (Optimizer::new(config), Optimizer::new(config));
        let (first, second) = names.split_at(17);
        let groups = [
            Group { names: first.to_vec(), lr_scale: 1.0, weight_decay: 0.01 },
            Group { names: second.to_vec(), lr_scale: 0.3, weight_decay: 0.0 },
        ];
        for number in 0..4 {
            let (mut on_processor, mut on_gpu) = (Gradients::default(), Gradients::default());
            for (at, name) in names.iter().enumerate().filter(|(at, _)| (at + number) % 5 > 0) {
                let gradient = dice.tensor(here.get(name)?.dims(), -1.0, 1.0)?;
                on_gpu.add(name, gradient.to_device(&device)?)?;
                on_processor.add(name, gradient)?;
                assert!(at < names.len());
            }
            ours.step(&mut there, &on_gpu, &groups, 0.1)?;
            theirs.step(&mut here, &on_processor, &groups, 0.1)?;
        }
        let same = |ours: &Parameters, theirs: &Parameters| -> Result<()> {
            for (name, expected) in theirs.iter().filter(|(name, _)| !name.starts_with("steps.")) {
                assert_eq!(bits(ours.get(name)?)?, bits(expected)?, "{config:?}, {name}");
            }
            Ok(())
        };
        same(&there, &here)?;
        same(&ours.state()?, &theirs.state()?)?;
    }
    Ok(())
}
