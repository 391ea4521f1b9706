//! Steps that the GPU repeats by itself, against the same steps submitted kernel by kernel: to the bit.

use candle_core::{Device, Error, Result, Tensor, bail};

use super::emulator;
use super::{CudaExecutor, Precision, stored, turn};
use crate::captures::{Captures, Repeatable};
use crate::optim::{Group, Moved, Optimizer, OptimizerConfig};
use crate::testing::networks::{fused, residual_net};
use crate::testing::{Dice, bits, parameters};
use crate::{Executor, ForwardSpec, Gradients, Graph, Parameters, Upstream, uploads};

const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
const ADAM: OptimizerConfig = OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };

/// A network that learns to follow a frozen one's gradient, and what it learns by. Its inputs are images and the
/// gradient of its tap.
struct Learning<'a> {
    executor: &'a CudaExecutor,
    parameters: Parameters,
    optimizer: Optimizer,
    groups: [Group; 1],
    rate: f64,
    /// Reads a value in every step, or brings one, as no captured step may.
    reads: bool,
    brings: bool,
}

impl<'a> Learning<'a> {
    fn new(executor: &'a CudaExecutor, start: &Parameters, config: OptimizerConfig) -> Self {
        let kinds = executor.graph().parameter_specs().into_iter();
        let names = kinds.filter(|it| it.kind == crate::ParameterKind::Weight).map(|it| it.name).collect();
        Self {
            executor,
            parameters: start.clone(),
            optimizer: Optimizer::new(config),
            groups: [Group { names, lr_scale: 0.5, weight_decay: 5e-4 }],
            rate: 0.0,
            reads: false,
            brings: false,
        }
    }
}

impl Repeatable for Learning<'_> {
    type Done = Moved;
    type Error = Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        self.parameters.tensors_mut().chain(self.optimizer.tensors_mut()).collect()
    }

    fn step(&mut self, inputs: &[Tensor]) -> Result<Moved> {
        let [images, gradient] = inputs else { bail!("two inputs") };
        let pass = self.executor.forward(&self.parameters, images, ForwardSpec::TRAIN)?;
        let (Some(tape), Some(statistics)) = (pass.tape, pass.statistics) else { bail!("no tape") };
        if self.reads {
            gradient.flatten_all()?.to_vec1::<f32>()?;
        }
        if self.brings {
            uploads::fresh(vec![1f32], 1, gradient.device())?;
        }
        let mut upstream = Upstream::default();
        upstream.taps.insert(self.executor.graph().taps()[0].0.clone(), gradient.clone());
        let mut gradients = Gradients::default();
        self.executor.backward(&self.parameters, tape, &upstream, &mut gradients)?;
        let moved = self.optimizer.step(&mut self.parameters, &gradients, &self.groups, self.rate)?;
        self.parameters.update_statistics(&statistics, 0.1)?;
        Ok(moved)
    }

    fn prepare(&mut self, done: &Moved) -> Result<()> {
        self.optimizer.prepare(done, self.rate)
    }

    fn repeat(&mut self, done: &Moved) {
        self.optimizer.repeated(done);
    }
}

/// The only tap's shape for so many rows.
fn tap(graph: &Graph, rows: usize) -> Vec<usize> {
    let (_, id) = &graph.taps()[0];
    graph.nodes()[id.index()].shape.dims(rows)
}

fn same(ours: &Parameters, theirs: &Parameters, what: &str) -> Result<()> {
    for (name, expected) in theirs.iter().filter(|(name, _)| !name.starts_with("steps.")) {
        assert_eq!(bits(ours.get(name)?)?, bits(expected)?, "{what}: {name}");
    }
    for (name, expected) in theirs.iter().filter(|(name, _)| name.starts_with("steps.")) {
        assert_eq!(ours.get(name)?.to_vec1::<u32>()?, expected.to_vec1::<u32>()?, "{what}: {name}");
    }
    Ok(())
}

#[test]
fn repeated_steps_give_the_bits_of_steps_one_by_one() -> Result<()> {
    let Some(turn) = turn("captured steps") else { return Ok(()) };
    let device = turn.gpu.device();
    for (precision, config) in [(Precision::Exact, ADAM), (Precision::Tf32, SGD), (Precision::Bf16, SGD)] {
        let mut dice = Dice::new(41);
        let graph = fused(&residual_net(8, 8)?)?;
        let executors = [&turn.gpu, &turn.gpu].map(|gpu| CudaExecutor::new(graph.clone(), gpu, precision));
        let start = stored(&parameters(&graph, &mut dice)?, &device)?;
        let [mut repeated, mut one_by_one] = executors.each_ref().map(|it| Learning::new(it, &start, config));
        let mut captures = Captures::<Moved>::new(&executors[0], &device);
        let mut snapshots = Vec::new();
        // Rows of the steps of four epochs; those of three rows come a second time in the second epoch.
        for (epoch, rows) in [[2, 2, 2, 3], [2, 2, 2, 3], [2, 2, 3, 2], [3, 2, 2, 2]].into_iter().enumerate()
        {
            for (at, rows) in rows.into_iter().enumerate() {
                let images = dice.tensor(&graph.input_shape().dims(rows), -1.0, 1.0)?;
                let gradient = dice.tensor(&tap(&graph, rows), -0.1, 0.1)?;
                (repeated.rate, one_by_one.rate) = (0.1 / (1 + epoch) as f64, 0.1 / (1 + epoch) as f64);
                emulator::reset();
                captures.step(&mut repeated, &[images.clone(), gradient.clone()], &[])?;
                let counts = emulator::counts();
                assert!(counts.is_none_or(|counts| counts.violations == 0), "{counts:?}");
                if let (Some(counts), true) = (counts, epoch > 1) {
                    // A replay and the upload of inputs, and of rates where they are others.
                    let rates = usize::from(at == 0 || config == ADAM);
                    assert!(
                        counts.kernels + counts.library_calls + counts.allocations + counts.waits == 0,
                        "{counts:?}"
                    );
                    assert!(counts.copies <= 1 + rates + state_copies(at), "{epoch}, {at}: {counts:?}");
                }
                one_by_one.step(&[images.to_device(&device)?, gradient.to_device(&device)?])?;
            }
            captures.leave(|| repeated.state())?;
            same(&repeated.parameters, &one_by_one.parameters, "values")?;
            same(&repeated.optimizer.state()?, &one_by_one.optimizer.state()?, "the optimiser's state")?;
            snapshots.push((repeated.parameters.clone(), one_by_one.parameters.clone()));
        }
        // No later step wrote into what was left.
        for (ours, theirs) in &snapshots {
            same(ours, theirs, "a snapshot")?;
        }
        if let Some(outliving) = emulator::outliving() {
            assert_eq!(outliving, 0, "memory of a capture outlives it");
        }
    }
    Ok(())
}

/// Copies that bring a state to where a capture finds it: in an epoch's first step.
fn state_copies(at: usize) -> usize {
    if at == 0 { 8 } else { 0 }
}

#[test]
fn what_a_replay_would_not_do_is_refused_in_a_capture() -> Result<()> {
    let Some(turn) = turn("refusals in a capture") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(42);
    let graph = fused(&residual_net(8, 8)?)?;
    let executor = CudaExecutor::new(graph.clone(), &turn.gpu, Precision::Exact);
    let start = stored(&parameters(&graph, &mut dice)?, &device)?;
    let images = dice.tensor(&graph.input_shape().dims(2), -1.0, 1.0)?;
    let gradient = dice.tensor(&tap(&graph, 2), -0.1, 0.1)?;
    for (reads, brings, part) in [(true, false, "capture"), (false, true, "they must be inputs")] {
        let _kept = uploads::keep(&device);
        let mut learning = Learning { reads, brings, ..Learning::new(&executor, &start, SGD) };
        let mut captures = Captures::<Moved>::new(&executor, &device);
        captures.step(&mut learning, &[images.clone(), gradient.clone()], &[])?;
        let refused = captures.step(&mut learning, &[images.clone(), gradient.clone()], &[]);
        let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(part), "{message}");
    }
    // The GPU is as it was, and where nothing is to be captured any step will do.
    let executor = CudaExecutor::new(graph, &turn.gpu.clone().without_captures(), Precision::Exact);
    let mut learning = Learning { reads: true, brings: true, ..Learning::new(&executor, &start, SGD) };
    let mut captures = Captures::<Moved>::new(&executor, &device);
    for _ in 0..3 {
        captures.step(&mut learning, &[images.clone(), gradient.clone()], &[])?;
    }
    assert!(matches!(device, Device::Cuda(_)));
    Ok(())
}
