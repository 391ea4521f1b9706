//! The one training loop.
//!
//! One decision: whatever is trained by gradient on images (base, student, new teacher, balanced head) is a [`Job`], and
//! all jobs run [`Job::epoch`]. A step joins the rows of its passes, lets terms see them together, and hands each pass
//! its share of the gradient. Running statistics move after the optimiser's step, by the passes that used batch norm's
//! own batch.

mod meter;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use cil_backbone::{Frozen, Network, POOLED, View};
use cil_data::augment::Preparation;
use cil_data::batches::shuffled_batches;
use cil_data::store::{SampleId, TrainSet};
use cil_engine::optim::{Group, Optimizer, OptimizerConfig};
use cil_engine::{ForwardSpec, Gradients, Keep, Norm, NormUpdate, Pass, Upstream};
use cil_random::Draw;
use dfgr::Replay;
use dfgr::replay::Synthetic;

use crate::event::{Event, PhaseKind};
use crate::recipe::{PhaseSpec, ReplaySpec, SyntheticNorm, Trained};
use crate::step::Step;
use crate::term::Objective;
use meter::Meter;

/// PyTorch's share of a batch in the running statistics.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// A training pass whose batch norm keeps the running statistics.
const TRAIN_RUNNING: ForwardSpec =
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: true, input: false } };

/// What a job may look at beside its network.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) train: &'a TrainSet,
    pub(crate) preparation: &'a Preparation,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) task: usize,
    /// The model of the task before.
    pub(crate) old: Option<&'a Frozen>,
    /// The teacher of the new classes.
    pub(crate) new: Option<&'a Frozen>,
    /// Generated images of old classes.
    pub(crate) replay: Option<(&'a Replay, &'a ReplaySpec)>,
}

/// What an epoch goes over.
pub(crate) enum Source {
    /// Each of these once, with generated images beside them if there is a replay.
    Samples(Vec<SampleId>),
    /// That many steps of generated images alone.
    Generated { steps: usize },
}

/// One phase of training, between epochs.
pub(crate) struct Job {
    pub(crate) kind: PhaseKind,
    pub(crate) network: Network,
    pub(crate) done: usize,
    spec: PhaseSpec,
    objective: Objective,
    optimizer: Optimizer,
    group: Group,
    source: Source,
    /// Classes of the network, as positions in the class order; the new ones are at the end.
    columns: Range<usize>,
    n_old: usize,
}

/// Where a step's random numbers come from.
struct Draws<'a> {
    /// Changes to real images.
    images: Draw<'a>,
    /// Noise of generated ones.
    noise: Draw<'a>,
}

/// The objective on a batch and its gradient.
struct Slope {
    total: Tensor,
    parts: BTreeMap<String, Tensor>,
    gradients: Gradients,
    updates: Vec<NormUpdate>,
    rows: usize,
}

/// Real images of one step, new classes first.
struct Real {
    /// `None` in a step of generated images alone.
    images: Option<Tensor>,
    labels: Vec<u32>,
    n_new: usize,
}

impl Job {
    /// A job on `source`. The network tells apart the classes `columns`, of which the first `n_old` are old.
    pub(crate) fn new(
        kind: PhaseKind,
        network: Network,
        spec: PhaseSpec,
        source: Source,
        columns: Range<usize>,
        n_old: usize,
        freeze_old_head: bool,
    ) -> Self {
        let head = network.head();
        let mut names: Vec<String> = match spec.trained {
            Trained::All => network.backbone_weights(),
            Trained::Head => Vec::new(),
        };
        let n_blocks = head.blocks.len();
        let frozen: BTreeSet<String> = match spec.trained {
            Trained::All if freeze_old_head => {
                (0..n_blocks - 1).flat_map(|block| head.block_names(block)).collect()
            }
            _ => BTreeSet::new(),
        };
        names.extend(head.names().into_iter().filter(|name| !frozen.contains(name)));
        let training = &spec.training;
        let config = OptimizerConfig::Sgd { momentum: training.momentum, nesterov: training.nesterov };
        Self {
            kind,
            objective: Objective::new(&spec.terms),
            optimizer: Optimizer::new(config),
            group: Group { names, lr_scale: 1.0, weight_decay: training.weight_decay },
            network,
            done: 0,
            spec,
            source,
            columns,
            n_old,
        }
    }

    /// Epochs in all.
    pub(crate) fn total(&self) -> usize {
        self.spec.training.epochs
    }

    /// One pass over the samples.
    pub(crate) fn epoch(&mut self, around: &Surroundings<'_>) -> Result<Event> {
        let training = &self.spec.training;
        let learning_rate = training.schedule.rate(training.learning_rate, self.done, training.epochs);
        let draw = Draw {
            seed: around.seed,
            purpose: self.purpose(),
            task: around.task,
            position: self.done as u64,
        };
        let batches = match &self.source {
            Source::Samples(samples) => shuffled_batches(samples.clone(), training.batch, draw),
            Source::Generated { steps } => vec![Vec::new(); *steps],
        };
        let (mut images, mut meter) = (0, Meter::default());
        for (at, batch) in batches.iter().enumerate() {
            // Never two steps of a task with the same noise.
            let position = (self.done * batches.len() + at) as u64;
            let purpose = match self.kind {
                PhaseKind::Balance => "replay balance",
                _ => "replay",
            };
            let draws = Draws { images: draw, noise: Draw { purpose, position, ..draw } };
            images += self.step(batch, &draws, learning_rate, around, &mut meter)?;
        }
        self.done += 1;
        let losses = meter.means()?;
        if let Some((name, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
            bail!(
                "the loss {name} is {value} in task {}, epoch {} of the {:?} phase; a lower learning-rate may help",
                around.task,
                self.done,
                self.kind
            );
        }
        Ok(Event::Progress {
            task: around.task,
            phase: self.kind,
            done: self.done,
            total: self.total(),
            learning_rate,
            images,
            losses,
        })
    }

    fn purpose(&self) -> &'static str {
        match self.kind {
            PhaseKind::Inversion => "inversion",
            PhaseKind::NewTeacher => "new teacher",
            PhaseKind::Student => "student",
            PhaseKind::Balance => "balance",
        }
    }

    /// One step of the optimiser; the images that went through the network.
    fn step(
        &mut self,
        batch: &[SampleId],
        draws: &Draws<'_>,
        learning_rate: f64,
        around: &Surroundings<'_>,
        meter: &mut Meter,
    ) -> Result<usize> {
        let slope = self.slope(batch, draws, around)?;
        let parameters = self.network.parameters_mut();
        self.optimizer.step(
            parameters,
            &slope.gradients,
            std::slice::from_ref(&self.group),
            learning_rate,
        )?;
        for update in &slope.updates {
            parameters.update_statistics(update, STATISTICS_MOMENTUM)?;
        }
        meter.add("total", &slope.total)?;
        for (name, part) in &slope.parts {
            meter.add(name, part)?;
        }
        Ok(slope.rows)
    }

    /// The objective on a batch and its gradient; changes nothing.
    fn slope(&self, batch: &[SampleId], draws: &Draws<'_>, around: &Surroundings<'_>) -> Result<Slope> {
        let real = self.real(batch, draws.images, around)?;
        let synthetic = match around.replay {
            Some((replay, spec)) => Some((replay.sample(spec.batch, draws.noise)?, spec.synthetic_norm)),
            None => None,
        };
        let old = around.old.map(|teacher| old_view(teacher, &real, synthetic.as_ref().map(|it| &it.0)));
        let old = old.transpose()?;
        let new = match (around.new, &real.images) {
            (Some(teacher), Some(images)) if real.n_new > 0 => {
                Some(teacher.forward(&images.narrow(0, 0, real.n_new)?)?)
            }
            _ => None,
        };
        let passes = self.passes(&real, synthetic.as_ref())?;
        let mut labels = real.labels.clone();
        labels.extend(synthetic.iter().flat_map(|(images, _)| &images.labels));

        let taps = passes.iter().map(|pass| pass.tap(POOLED)).collect::<candle_core::Result<Vec<_>>>()?;
        let features = Var::from_tensor(&Tensor::cat(&taps, 0)?)?;
        let (variables, head) = self.head_variables()?;
        let said = head.forward(&features)?;
        let student = View {
            features: features.as_tensor().clone(),
            logits: said.logits,
            similarities: said.similarities,
            maps: BTreeMap::new(),
        };
        let n_real = real.labels.len();
        let step = Step {
            old_classes: self.n_old,
            classes: self.columns.len(),
            labels: &labels,
            new_rows: 0..real.n_new,
            exemplar_rows: real.n_new..n_real,
            synthetic_rows: n_real..labels.len(),
            student: &student,
            old: old.as_ref(),
            new: new.as_ref(),
        };
        let (total, parts) = self.objective.loss(&step)?;
        let slopes = total.backward()?;
        let mut gradients = Gradients::default();
        for (name, variable) in &variables {
            if let Some(slope) = slopes.get(variable) {
                gradients.add(name, slope.clone())?;
            }
        }
        let updates = self.backward(passes, slopes.get(&features), &mut gradients)?;
        Ok(Slope { total, parts, gradients, updates, rows: labels.len() })
    }

    fn real(&self, batch: &[SampleId], draw: Draw<'_>, around: &Surroundings<'_>) -> Result<Real> {
        let is_new = |sample: &SampleId| around.train.class_of(*sample) >= self.columns.start + self.n_old;
        let (mut samples, old): (Vec<SampleId>, Vec<SampleId>) =
            batch.iter().partition(|sample| is_new(sample));
        let n_new = samples.len();
        samples.extend(old);
        let column = |sample: &SampleId| (around.train.class_of(*sample) - self.columns.start) as u32;
        let images = match samples.is_empty() {
            true => None,
            false => {
                let images = around.train.images(&samples, around.preparation, Some(draw), around.device)?;
                Some(images.to_dtype(self.dtype())?)
            }
        };
        Ok(Real { images, labels: samples.iter().map(column).collect(), n_new })
    }

    /// Type of the network's values: `f32`, but for checks in `f64`.
    fn dtype(&self) -> DType {
        self.network.parameters().iter().next().map_or(DType::F32, |(_, value)| value.dtype())
    }

    /// The network's passes over real and generated images; their rows follow each other.
    fn passes(&self, real: &Real, synthetic: Option<&(Synthetic, SyntheticNorm)>) -> Result<Vec<Pass>> {
        let run =
            |images: &Tensor, spec| self.network.executor().forward(self.network.parameters(), images, spec);
        let together = match (&real.images, synthetic) {
            (Some(real), Some((images, _))) => Tensor::cat(&[real, &images.images], 0)?,
            (Some(images), None) => images.clone(),
            (None, Some((images, _))) => images.images.clone(),
            (None, None) => bail!("a step without an image"),
        };
        if self.spec.trained == Trained::Head {
            return Ok(vec![run(&together, ForwardSpec::EVAL)?]);
        }
        Ok(match (&real.images, synthetic) {
            (Some(real), Some((images, SyntheticNorm::Running))) => {
                vec![run(real, ForwardSpec::TRAIN)?, run(&images.images, TRAIN_RUNNING)?]
            }
            (_, Some((_, SyntheticNorm::Frozen))) => vec![run(&together, TRAIN_RUNNING)?],
            _ => vec![run(&together, ForwardSpec::TRAIN)?],
        })
    }

    /// The head's trained tensors as variables by name, and the head made of them.
    fn head_variables(&self) -> Result<(BTreeMap<String, Var>, cil_backbone::HeadWeights)> {
        let mut variables = BTreeMap::new();
        let head = self.network.head().weights_from(|name| {
            let value = self.network.parameters().get(name)?;
            if !self.group.names.iter().any(|it| it == name) {
                return Ok(value.clone());
            }
            let variable = Var::from_tensor(value)?;
            let tensor = variable.as_tensor().clone();
            variables.insert(name.to_owned(), variable);
            Ok(tensor)
        })?;
        Ok((variables, head))
    }

    /// Hands every pass its rows of the features' gradient; the statistics that batch norm should move towards.
    fn backward(
        &self,
        passes: Vec<Pass>,
        slope: Option<&Tensor>,
        into: &mut Gradients,
    ) -> Result<Vec<NormUpdate>> {
        let (mut row, mut updates) = (0, Vec::new());
        for mut pass in passes {
            let rows = pass.tap(POOLED)?.dim(0)?;
            if let (Some(tape), Some(slope)) = (pass.tape.take(), slope) {
                let taps = BTreeMap::from([(POOLED.to_owned(), slope.narrow(0, row, rows)?.contiguous()?)]);
                let upstream = Upstream { taps, moments: BTreeMap::new() };
                self.network.executor().backward(self.network.parameters(), tape, &upstream, into)?;
            }
            row += rows;
            updates.extend(pass.statistics);
        }
        Ok(updates)
    }
}

/// What the old teacher says of all rows; the generator's own view is used again, it is of the same teacher.
fn old_view(teacher: &Frozen, real: &Real, synthetic: Option<&Synthetic>) -> candle_core::Result<View> {
    let view = real.images.as_ref().map(|images| teacher.forward(images)).transpose()?;
    let (view, synthetic) = match (view, synthetic) {
        (Some(view), Some(synthetic)) => (view, synthetic),
        (Some(view), None) => return Ok(view),
        (None, Some(synthetic)) => return Ok(synthetic.view.clone()),
        (None, None) => candle_core::bail!("a step without an image"),
    };
    let join = |left: &Tensor, right: &Tensor| Tensor::cat(&[left, right], 0);
    let similarities = match (&view.similarities, &synthetic.view.similarities) {
        (Some(left), Some(right)) => Some(join(left, right)?),
        _ => None,
    };
    let mut maps = BTreeMap::new();
    for (name, map) in &view.maps {
        let Some(other) = synthetic.view.maps.get(name) else {
            candle_core::bail!("the generator's teacher hands out no map {name}")
        };
        maps.insert(name.clone(), join(map, other)?);
    }
    Ok(View {
        maps,
        features: join(&view.features, &synthetic.view.features)?,
        logits: join(&view.logits, &synthetic.view.logits)?,
        similarities,
    })
}

#[cfg(test)]
mod tests;
