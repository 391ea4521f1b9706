//! The inversion loop: a generator is trained from a frozen teacher and noise.
//!
//! An inversion is a state that advances by some iterations at a time, so that it can be watched, stopped and resumed;
//! iteration `i` draws its noise from (seed, task, `i`) alone. Gradients of the losses are candle's, on the teacher's
//! features and moments; those of teacher and generator are their executors'.

mod iteration;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var, bail};
use cil_backbone::{Frozen, POOLED, Probe};
use cil_engine::captures::Captures;
use cil_engine::meter::Meter;
use cil_engine::optim::{Group, Optimizer, OptimizerConfig};
use cil_engine::{
    Executor, ExecutorFactory, ForwardSpec, Gradients, NormUpdate, ParameterKind, ParameterSpec, Parameters,
    Upstream, uploads,
};
use cil_random::Draw;

use crate::config::InversionConfig;
use crate::generator::{IMAGES, generator};
use crate::loss::{self, Stored};
use crate::moments::Moments;
use crate::replay::Replay;
use crate::targets::Targets;
use iteration::{Asked, Done, Iteration};

/// PyTorch's share of a batch in the running statistics.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// The result of some iterations.
#[derive(Clone, Debug)]
pub struct Report {
    /// Iterations done so far, these included.
    pub done: usize,
    /// Learning rate of the first of these.
    pub learning_rate: f64,
    /// Images generated in these.
    pub images: usize,
    /// Mean of each part of the loss over these, unweighted. One that is not finite says that the generator has
    /// diverged, and is of no use.
    pub losses: BTreeMap<String, f64>,
}

/// The state of an inversion between two iterations, without its config and its teacher.
#[derive(Clone, Debug)]
pub struct InversionState {
    /// Iterations done.
    pub done: usize,
    /// The generator's values.
    pub generator: Parameters,
    /// The optimiser's.
    pub optimizer: Parameters,
}

/// A generator in the making.
pub struct Inversion {
    config: InversionConfig,
    teacher: Frozen,
    /// The teacher, with the maps that targets are read from.
    probed: Frozen,
    targets: Option<Targets>,
    stored: Stored,
    executor: Arc<dyn Executor>,
    parameters: Parameters,
    group: Group,
    optimizer: Optimizer,
    device: Device,
    seed: u64,
    task: usize,
    done: usize,
    meter: Meter,
    captures: Captures<Done>,
}

impl Inversion {
    /// Begins from scratch: the initial generator is a function of (seed, task).
    ///
    /// # Errors
    /// If the config does not pass its check or does not suit the teacher's images.
    pub fn new(
        config: InversionConfig,
        teacher: Frozen,
        executors: &ExecutorFactory,
        seed: u64,
        task: usize,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        let graph = generator(&config.generator, teacher.classes(), teacher.image_shape())?;
        let draw = Draw { task, ..Draw::new(seed, "generator") };
        let seed_of_weights = draw.stream("seed").number();
        let parameters = Parameters::init(&graph, seed_of_weights, device)?.to_dtype(teacher.dtype())?;
        let learned = |spec: &ParameterSpec| spec.kind == ParameterKind::Weight;
        let names = graph.parameter_specs().into_iter().filter(learned).map(|spec| spec.name).collect();
        let executor = executors(graph)?;
        let running = teacher.running_statistics()?;
        let running: Vec<_> = running.iter().map(|it| (&it.mean, &it.variance)).collect();
        Ok(Self {
            stored: Stored::new(&running, config.weights.statistics.reduction)?,
            captures: Captures::new(&*executor, device),
            meter: Meter::default(),
            executor,
            group: Group { names, lr_scale: 1.0, weight_decay: 0.0 },
            optimizer: Optimizer::new(OptimizerConfig::Adam {
                beta1: config.beta1,
                beta2: 0.999,
                epsilon: 1e-8,
            }),
            device: device.clone(),
            done: 0,
            config,
            probed: teacher.clone(),
            targets: None,
            teacher,
            parameters,
            seed,
            task,
        })
    }

    /// Draws images towards the features that `targets` expect, as `weights.features` of the config asks for.
    ///
    /// # Errors
    /// If they are of other classes than the teacher's, use more noise than there is, or are of stages that the teacher
    /// has not.
    pub fn aim_at(&mut self, targets: Targets) -> Result<()> {
        let (classes, used) = targets.sizes()?;
        let (known, latent) = (self.teacher.classes(), self.config.generator.latent);
        if classes != known || used > latent {
            bail!("targets of {classes} classes by {used} numbers of noise; there are {known} and {latent}");
        }
        self.probed = self.teacher.with_maps(&targets.taps())?;
        let like = Tensor::zeros(0, self.teacher.dtype(), &self.device)?;
        self.targets = Some(targets.beside(&like)?);
        Ok(())
    }

    /// Begins as another generator of the same form: the one of the task before. What a conditional one has grown by
    /// for new classes begins as it is.
    ///
    /// # Errors
    /// If the values are not those of such a generator.
    pub fn warm_start_from(&mut self, generator: &Parameters) -> Result<()> {
        let mut values = generator.clone();
        for (name, fresh) in self.parameters.iter() {
            let before = generator.get(name)?;
            let grown = fresh.dims().iter().zip(before.dims()).position(|(now, then)| now > then);
            if let Some(axis) = grown {
                let length = before.dim(axis)?;
                let new = fresh.narrow(axis, length, fresh.dim(axis)? - length)?;
                values.set(name, Tensor::cat(&[before, &new], axis)?);
            }
        }
        self.parameters.replace(&values)
    }

    /// The state to resume from.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn state(&self) -> Result<InversionState> {
        let (generator, optimizer) = (self.parameters.clone(), self.optimizer.state()?);
        Ok(InversionState { done: self.done, generator, optimizer })
    }

    /// Goes on from a state that an inversion of the same config and teacher gave, to the same bits.
    ///
    /// # Errors
    /// If the state is of another form, or has more iterations than the config.
    pub fn restore(&mut self, state: &InversionState) -> Result<()> {
        if state.done > self.config.iterations {
            bail!("{} of {} iterations are done", state.done, self.config.iterations);
        }
        self.parameters.replace(&state.generator)?;
        self.optimizer.load_state(&state.optimizer, &[&self.parameters])?;
        self.done = state.done;
        Ok(())
    }

    /// Whether all iterations are done.
    pub fn is_done(&self) -> bool {
        self.done >= self.config.iterations
    }

    /// Iterations done so far.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Does up to `iterations` more.
    ///
    /// # Errors
    /// If an executor fails.
    pub fn advance(&mut self, iterations: usize) -> Result<Report> {
        let end = self.config.iterations.min(self.done + iterations);
        let (first, learning_rate) = (self.done, self.rate());
        self.meter.restart()?;
        let mut captures = std::mem::take(&mut self.captures);
        while self.done < end {
            let inputs = self.inputs()?;
            captures.step(&mut Iteration(self), &inputs, &[])?;
            self.done += 1;
        }
        captures.leave(|| self.values_mut())?;
        self.captures = captures;
        let losses = self.meter.means()?;
        Ok(Report { done: self.done, learning_rate, images: (end - first) * self.config.batch, losses })
    }

    /// The generator as it is now, for replay.
    pub fn replay(&self) -> Replay {
        Replay::new(
            self.config.generator.clone(),
            self.teacher.clone(),
            Arc::clone(&self.executor),
            self.parameters.clone(),
            self.device.clone(),
        )
    }

    /// All that an iteration moves.
    fn values_mut(&mut self) -> Vec<&mut Tensor> {
        let Self { parameters, optimizer, meter, .. } = self;
        parameters.tensors_mut().chain(optimizer.tensors_mut()).chain(meter.tensors_mut()).collect()
    }

    fn rate(&self) -> f64 {
        self.config.schedule.rate(self.config.learning_rate, self.done, self.config.iterations)
    }

    /// The loss on an iteration's inputs and its gradient to the generator.
    fn grad(&self, inputs: &[Tensor]) -> Result<Grad> {
        let asked = Asked::new(inputs, self.config.generator.conditional, self.config.is_changed())?;
        let _kept = uploads::keep(&self.device);
        let code = asked.code.to_dtype(self.teacher.dtype())?;
        let mut drawn = self.executor.forward(&self.parameters, &code, ForwardSpec::TRAIN)?;
        let images = Var::from_tensor(drawn.tap(IMAGES)?)?;
        let shown = match asked.sources {
            Some(sources) => view::changed(&images, sources, self.config.crop_padding)?,
            None => images.as_detached_tensor(),
        };
        let probe = self.probed.probe(&shown.detach())?;
        let seen = Seen::new(&probe)?;
        let noise = code.narrow(1, 0, self.config.generator.latent)?;
        let (total, parts) = self.loss(&images, &seen, &noise, &asked)?;
        let grads = total.backward()?;

        let mut gradient =
            self.probed.probe_backward(probe, seen.grads(&grads), seen.moments.grads(&grads)?)?;
        if asked.sources.is_some() {
            let back = (&shown * gradient)?.sum_all()?.backward()?;
            gradient = match back.get(&images) {
                Some(gradient) => gradient.clone(),
                None => bail!("a changed image has no gradient"),
            };
        }
        if let Some(direct) = grads.get(&images) {
            gradient = (gradient + direct)?;
        }
        let (Some(tape), Some(update)) = (drawn.tape.take(), drawn.statistics.take()) else {
            bail!("the executor kept no tape of a training pass");
        };
        let upstream =
            Upstream { taps: BTreeMap::from([(IMAGES.to_owned(), gradient)]), moments: BTreeMap::new() };
        let mut gradients = Gradients::default();
        self.executor.backward(&self.parameters, tape, &upstream, &mut gradients)?;
        Ok(Grad { total, parts, gradients, update })
    }

    fn loss(
        &self,
        images: &Tensor,
        seen: &Seen,
        noise: &Tensor,
        asked: &Asked<'_>,
    ) -> Result<(Tensor, BTreeMap<String, Tensor>)> {
        let weights = &self.config.weights;
        let logits = self.teacher.head(&seen.features)?.logits;
        let mut sum = Sum::default();
        sum.add("statistics", weights.statistics.weight, || {
            weights
                .statistics
                .divergence_from(&self.stored, &seen.moments.mean, &seen.moments.variance)
                .map(Some)
        })?;
        sum.add("label", weights.label, || {
            let labels = match asked.labels {
                Some(labels) => labels.clone(),
                None => logits.detach().argmax(1)?,
            };
            loss::label_cross_entropy(&(&logits / weights.label_temperature)?, &labels).map(Some)
        })?;
        sum.add("instance-entropy", weights.instance_entropy, || loss::instance_entropy(&logits).map(Some))?;
        sum.add("batch-entropy", weights.batch_entropy, || loss::batch_entropy(&logits).map(Some))?;
        sum.add("diversity", weights.diversity, || {
            let of = |(first, second)| loss::diversity_of(images, noise, first, second);
            asked.pairs.map(of).transpose()
        })?;
        sum.add("smoothness", weights.smoothness, || loss::smoothness(images).map(Some))?;
        sum.add("balance", weights.balance, || loss::balance(&logits))?;
        sum.add("blur", weights.blur, || loss::blur(images).map(Some))?;
        sum.add("features", weights.features, || {
            let Some(targets) = &self.targets else {
                bail!("weights.features is {}; kept statistics of the classes are missing", weights.features)
            };
            match asked.labels {
                Some(labels) => targets.distance(&seen.features, &seen.maps(), noise, labels).map(Some),
                None => targets.outside(&seen.features, &seen.maps(), &logits.detach().argmax(1)?).map(Some),
            }
        })?;
        match sum.total {
            Some(total) => Ok((total, sum.parts)),
            None => bail!("no part of the inversion loss applies"),
        }
    }
}

/// Features, maps and moments of the teacher, as variables that collect gradients.
struct Seen {
    features: Var,
    /// By tap.
    maps: BTreeMap<String, Var>,
    moments: Moments,
}

impl Seen {
    fn new(probe: &Probe) -> Result<Self> {
        let variable = |(tap, map): (&String, &Tensor)| Ok((tap.clone(), Var::from_tensor(map)?));
        Ok(Self {
            features: Var::from_tensor(&probe.features)?,
            maps: probe.maps.iter().map(variable).collect::<Result<_>>()?,
            moments: Moments::new(&probe.moments)?,
        })
    }

    fn maps(&self) -> BTreeMap<String, Tensor> {
        self.maps.iter().map(|(tap, map)| (tap.clone(), map.as_tensor().clone())).collect()
    }

    /// Gradients to features and maps, by tap; none to what no loss reads.
    fn grads(&self, grads: &GradStore) -> BTreeMap<String, Tensor> {
        let all = self.maps.iter().map(|(tap, map)| (tap.as_str(), map)).chain([(POOLED, &self.features)]);
        all.filter_map(|(tap, of)| Some((tap.to_owned(), grads.get(of)?.clone()))).collect()
    }
}

/// The loss of one iteration and where it goes down.
struct Grad {
    #[cfg_attr(not(test), expect(dead_code, reason = "the loop needs its gradient only"))]
    total: Tensor,
    parts: BTreeMap<String, Tensor>,
    gradients: Gradients,
    update: NormUpdate,
}

/// A weighted sum and its parts.
#[derive(Default)]
struct Sum {
    total: Option<Tensor>,
    parts: BTreeMap<String, Tensor>,
}

impl Sum {
    fn add(&mut self, name: &str, weight: f64, part: impl FnOnce() -> Result<Option<Tensor>>) -> Result<()> {
        if weight == 0.0 {
            return Ok(());
        }
        let Some(part) = part()? else { return Ok(()) };
        let weighted = (&part * weight)?;
        self.total = Some(match self.total.take() {
            Some(total) => (total + weighted)?,
            None => weighted,
        });
        self.parts.insert(name.to_owned(), part.detach());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
