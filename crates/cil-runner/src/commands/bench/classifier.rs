//! Training, evaluation and inversion steps on the race's networks.
//!
//! A step does what `step_server.py` does in the same order, by the calls that a run makes too (executor, losses,
//! optimiser). A step returns nothing; only tests read the weights that it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};
use cil_engine::captures::{Captures, Repeatable};
use cil_engine::optim::{Group, Moved, Optimizer, OptimizerConfig};
use cil_engine::{
    Executor, ForwardSpec, Gradients, Graph, NormUpdate, ParameterKind, Parameters, Pass, Tape, Upstream,
    uploads,
};
use cil_random::{Draw, Stream};
use cil_train::loss::cross_entropy::cross_entropy;
use dfgr::loss::{ChannelReduction, Stored, label_cross_entropy};
use dfgr::moments::Moments;

use super::networks::{self, IMAGES, LATENT, LOGITS};
use super::{Model, Setting, Work};
use crate::estimate::flops;

/// PyTorch's share of a batch in the running statistics.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// A network, its values and what moves them.
struct Learned {
    executor: Arc<dyn Executor>,
    values: Parameters,
    optimizer: Optimizer,
    group: Group,
    learning_rate: f64,
}

impl Learned {
    fn new(
        graph: Graph,
        rule: OptimizerConfig,
        rate: f64,
        decay: f64,
        setting: &Setting<'_>,
    ) -> Result<Self> {
        let values = Parameters::init(&graph, setting.seed, &setting.engine.device)?;
        let specs = graph.parameter_specs().into_iter();
        let names = specs.filter(|it| it.kind == ParameterKind::Weight).map(|it| it.name).collect();
        Ok(Self {
            executor: (setting.engine.executors)(graph)?,
            values,
            optimizer: Optimizer::new(rule),
            group: Group { names, lr_scale: 1.0, weight_decay: decay },
            learning_rate: rate,
        })
    }

    fn forward(&self, input: &Tensor, spec: ForwardSpec) -> Result<Pass> {
        Ok(self.executor.forward(&self.values, input, spec)?)
    }

    fn backward(&self, tape: Tape, upstream: &Upstream, into: &mut Gradients) -> Result<Option<Tensor>> {
        Ok(self.executor.backward(&self.values, tape, upstream, into)?)
    }

    fn learn(&mut self, gradients: &Gradients, statistics: &NormUpdate) -> Result<Moved> {
        let groups = std::slice::from_ref(&self.group);
        let moved = self.optimizer.step(&mut self.values, gradients, groups, self.learning_rate)?;
        self.values.update_statistics(statistics, STATISTICS_MOMENTUM)?;
        Ok(moved)
    }

    fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        self.values.tensors_mut().chain(self.optimizer.tensors_mut()).collect()
    }

    fn flops(&self, spec: ForwardSpec) -> f64 {
        flops::of_pass(self.executor.graph(), spec.keep)
    }
}

/// A classifier on one batch of noise, and a generator that is trained from it.
pub struct Classifier {
    net: Learned,
    generator: Option<Learned>,
    /// Of the network as it begins: what is inverted is not trained.
    stored: Stored,
    images: Tensor,
    labels: Tensor,
    noise: Stream,
    batch: usize,
    device: Device,
    /// Of training, and of inversion.
    captures: [Captures<Moved>; 2],
}

/// A training step.
struct Training<'a>(&'a mut Classifier);

impl Repeatable for Training<'_> {
    type Done = Moved;
    type Error = anyhow::Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        self.0.net.tensors_mut()
    }

    fn step(&mut self, _: &[Tensor]) -> Result<Moved> {
        self.0.trained()
    }

    fn prepare(&mut self, done: &Moved) -> Result<()> {
        Ok(self.0.net.optimizer.prepare(done, self.0.net.learning_rate)?)
    }

    fn repeat(&mut self, done: &Moved) {
        self.0.net.optimizer.repeated(done);
    }
}

/// An inversion step.
struct Inverting<'a>(&'a mut Classifier);

impl Repeatable for Inverting<'_> {
    type Done = Moved;
    type Error = anyhow::Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        self.0.generator.iter_mut().flat_map(Learned::tensors_mut).collect()
    }

    fn step(&mut self, inputs: &[Tensor]) -> Result<Moved> {
        self.0.inverted(inputs.first().context("an inversion step takes noise")?)
    }

    fn prepare(&mut self, done: &Moved) -> Result<()> {
        let generator = self.0.generator.as_mut().context(GENERATOR)?;
        Ok(generator.optimizer.prepare(done, generator.learning_rate)?)
    }

    fn repeat(&mut self, done: &Moved) {
        self.0.generator.iter_mut().for_each(|it| it.optimizer.repeated(done));
    }
}

impl Classifier {
    /// The model's network; the generator too where `inverts`.
    ///
    /// # Errors
    /// If an executor cannot be made.
    pub fn new(model: Model, inverts: bool, setting: &Setting<'_>) -> Result<Self> {
        let (graph, side, classes) = match model {
            Model::Resnet32 => (networks::resnet32()?, 32, 100),
            Model::Resnet18 => (networks::resnet18(setting.side)?, setting.side, 200),
        };
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false };
        let adam = OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };
        let generator = match inverts {
            true => Some(Learned::new(networks::generator()?, adam, 1e-3, 0.0, setting)?),
            false => None,
        };
        let (batch, device) = (setting.batch, setting.engine.device.clone());
        let draw = Draw::new(setting.seed, "bench");
        let mut labels = draw.stream("labels");
        let labels: Vec<u32> = (0..batch).map(|_| labels.below(classes) as u32).collect();
        let net = Learned::new(graph, sgd, 0.1, 5e-4, setting)?;
        Ok(Self {
            stored: stored(&net)?,
            captures: [(); 2].map(|()| Captures::new(&*net.executor, &device)),
            net,
            generator,
            images: normal(&[batch, 3, side, side], &mut draw.stream("images"), &device)?,
            labels: Tensor::new(labels, &device)?,
            noise: draw.stream("noise"),
            batch,
            device,
        })
    }

    /// Forward, cross-entropy, backward, SGD.
    ///
    /// # Errors
    /// If the executor fails.
    pub fn train(&mut self) -> Result<()> {
        let mut captures = std::mem::take(&mut self.captures[0]);
        captures.step(&mut Training(self), &[], &[])?;
        self.captures[0] = captures;
        Ok(())
    }

    fn trained(&mut self) -> Result<Moved> {
        let _kept = uploads::keep(&self.device);
        let mut pass = self.net.forward(&self.images, ForwardSpec::TRAIN)?;
        let logits = Var::from_tensor(pass.tap(LOGITS)?)?;
        let grads = cross_entropy(&logits, &self.labels)?.backward()?;
        let grad = grads.get(&logits).context("the logits have no gradient")?.clone();
        let (tape, update) = (pass.tape.take().context(TAPE)?, pass.statistics.take().context(TAPE)?);
        let mut gradients = Gradients::default();
        self.net.backward(tape, &upstream(LOGITS, grad), &mut gradients)?;
        self.net.learn(&gradients, &update)
    }

    /// Forward with running statistics.
    ///
    /// # Errors
    /// If the executor fails.
    pub fn eval(&mut self) -> Result<()> {
        self.net.forward(&self.images, ForwardSpec::EVAL)?;
        Ok(())
    }

    /// Noise through the generator and the frozen network, label cross-entropy and batch-norm statistics, backward into
    /// the generator, Adam.
    ///
    /// # Errors
    /// If there is no generator, or an executor fails.
    pub fn invert(&mut self) -> Result<()> {
        let noise = normal(&[self.batch, LATENT], &mut self.noise, &Device::Cpu)?;
        let mut captures = std::mem::take(&mut self.captures[1]);
        captures.step(&mut Inverting(self), &[noise], &[])?;
        self.captures[1] = captures;
        Ok(())
    }

    fn inverted(&mut self, noise: &Tensor) -> Result<Moved> {
        let generator = self.generator.as_mut().context(GENERATOR)?;
        let _kept = uploads::keep(&self.device);
        let mut drawn = generator.forward(noise, ForwardSpec::TRAIN)?;
        let mut seen = self.net.forward(drawn.tap(IMAGES)?, ForwardSpec::PROBE)?;
        let mut upstream_of_net = inversion_grad(&seen, &self.stored, &self.labels)?;
        let tape = seen.tape.take().context(TAPE)?;
        let mut gradients = Gradients::default();
        let image = self.net.backward(tape, &upstream_of_net, &mut gradients)?;
        upstream_of_net = upstream(IMAGES, image.context("the images have no gradient")?);
        let (tape, update) = (drawn.tape.take().context(TAPE)?, drawn.statistics.take().context(TAPE)?);
        generator.backward(tape, &upstream_of_net, &mut gradients)?;
        generator.learn(&gradients, &update)
    }

    /// Operations of one step of that work.
    pub fn flops(&self, work: Work) -> f64 {
        let of_image = match (work, &self.generator) {
            (Work::Train, _) => self.net.flops(ForwardSpec::TRAIN),
            (Work::Invert, Some(generator)) => {
                generator.flops(ForwardSpec::TRAIN) + self.net.flops(ForwardSpec::PROBE)
            }
            _ => self.net.flops(ForwardSpec::EVAL),
        };
        self.batch as f64 * of_image
    }
}

const GENERATOR: &str = "there is no generator";
const TAPE: &str = "the executor kept no tape of a training pass";

fn upstream(tap: &str, grad: Tensor) -> Upstream {
    Upstream { taps: BTreeMap::from([(tap.to_owned(), grad)]), moments: BTreeMap::new() }
}

/// Gradient of the inversion's loss to what the frozen network said and saw.
fn inversion_grad(seen: &Pass, stored: &Stored, labels: &Tensor) -> Result<Upstream> {
    let (logits, moments) = (Var::from_tensor(seen.tap(LOGITS)?)?, Moments::new(&seen.moments)?);
    let statistics = stored.from_generated(&moments.mean, &moments.variance)?;
    let grads = (label_cross_entropy(&logits, labels)? + statistics)?.backward()?;
    let grad = grads.get(&logits).context("the logits have no gradient")?.clone();
    Ok(Upstream { moments: moments.grads(&grads)?, ..upstream(LOGITS, grad) })
}

/// The stored statistics of a network's batch norms.
fn stored(net: &Learned) -> Result<Stored> {
    let running = |name: &&str| -> Result<(&Tensor, &Tensor)> {
        let of = |suffix: &str| net.values.get(&format!("{name}.{suffix}"));
        Ok((of("running_mean")?, of("running_var")?))
    };
    let layers = net.executor.graph().batch_norms().iter().map(running).collect::<Result<Vec<_>>>()?;
    Ok(Stored::new(&layers, ChannelReduction::Sum)?)
}

fn normal(dims: &[usize], stream: &mut Stream, device: &Device) -> Result<Tensor> {
    let values = stream.normals(dims.iter().product());
    Ok(Tensor::from_vec(values, dims, device)?)
}

#[cfg(test)]
mod tests;
