//! The one training loop.
//!
//! Everything that is trained by gradient on images (base, student, new teacher, balanced head) is a [`Job`], and all
//! jobs run [`Job::epoch`]. A step joins the rows of its passes, lets terms see them together, and hands each pass its
//! share of the gradient; that of losses on maps comes from the terms. Running statistics move after the optimiser's
//! step, by the passes that used batch norm's own batch.

mod aux_nets;
mod context;
mod correction;
mod counts;
mod inputs;
mod passes;
mod saved;
mod stepping;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::Result;
use candle_core::{Tensor, Var};
use cil_backbone::head::SCALE;
use cil_backbone::{Frozen, Network, Outputs, POOLED};
use cil_data::batches::shuffled_batches;
use cil_engine::captures::Captures;
use cil_engine::meter::Meter;
use cil_engine::optim::{Group, Optimizer, OptimizerConfig};
use cil_engine::{Gradients, NormUpdate, uploads};
use cil_random::Draw;

use crate::diverged::Diverged;
use crate::event::{Event, PhaseKind};
use crate::recipe::{PhaseSpec, Trained};
use crate::step::Step;
use crate::term::{Objective, Outcome};
use aux_nets::AuxNets;
pub(crate) use context::{FrozenNetworks, PhaseContext, Source};
use inputs::{Draws, Inputs, Layout};
use passes::{gather, joined, old_view};
pub(crate) use saved::{AUX_NETS, NETWORK, OPTIMIZER};
use stepping::{Done, Stepping};

/// PyTorch's share of a batch in the running statistics.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// One phase of training, between epochs.
pub(crate) struct Job {
    pub(crate) kind: PhaseKind,
    pub(crate) network: Network,
    pub(crate) done: usize,
    spec: PhaseSpec,
    objective: Objective,
    /// Taps whose maps are read, of the network and of teachers.
    maps: Vec<String>,
    aux_nets: AuxNets,
    optimizer: Optimizer,
    groups: Vec<Group>,
    source: Source,
    teachers: FrozenNetworks,
    meter: Meter,
    captures: Captures<Done>,
    /// Classes of the network, as positions in the class order; the new ones are at the end.
    columns: Range<usize>,
    n_old: usize,
    positive_head: bool,
    /// Whether the student also sees each new image turned.
    turns_images: bool,
    /// Whether an epoch has an image more than once.
    repeats: bool,
    /// Images of every class in an epoch, counted before the first; empty where no term asks for them.
    class_counts: Vec<usize>,
}

/// Classes of a job, as positions in the class order.
pub(crate) struct Classes {
    /// All classes of the network, the new ones at the end.
    pub(crate) columns: Range<usize>,
    /// How many of them are old.
    pub(crate) n_old: usize,
    /// Whether the old ones' head blocks stay while everything trains.
    pub(crate) freeze_old_head: bool,
    /// Whether the head's weights are kept from below 0.
    pub(crate) positive_head: bool,
}

/// The objective on a batch and its gradient.
struct Grad {
    total: Tensor,
    parts: BTreeMap<String, Tensor>,
    gradients: Gradients,
    updates: Vec<NormUpdate>,
}

/// The whole objective, among its parts.
const TOTAL: &str = "total";

impl Job {
    /// A job on `source`, beside `teachers`. Where terms bring networks of their own, these begin as functions of
    /// (seed, task, kind, name).
    pub(crate) fn new(
        kind: PhaseKind,
        mut network: Network,
        spec: PhaseSpec,
        source: Source,
        classes: Classes,
        teachers: FrozenNetworks,
        (seed, task): (u64, usize),
    ) -> Result<Self> {
        let groups = groups(&mut network, &spec, classes.freeze_old_head)?;
        let training = &spec.training;
        let config = OptimizerConfig::Sgd { momentum: training.momentum, nesterov: training.nesterov };
        let objective = Objective::new(&spec.terms, &network.backbone().graph(network.images())?)?;
        let maps = objective.maps();
        let draw = Draw { task, ..Draw::new(seed, kind.purpose()) };
        let (aux_nets, values) =
            (objective.aux_nets(network.device())?, objective.values(classes.columns.len() - classes.n_old));
        let aux_nets = AuxNets::new(aux_nets, &values, &network, draw, training.weight_decay)?;
        let network = if maps.is_empty() { network } else { network.with_maps(&maps)? };
        Ok(Self {
            kind,
            objective,
            optimizer: Optimizer::new(config),
            groups,
            teachers: teachers.with_maps(&maps)?,
            meter: Meter::default(),
            captures: Captures::new(&**network.executor(), network.device()),
            network,
            maps,
            aux_nets,
            done: 0,
            turns_images: spec.terms.iter().any(|it| it.settings().turns_images()),
            spec,
            repeats: source.repeats(),
            source,
            columns: classes.columns,
            n_old: classes.n_old,
            positive_head: classes.positive_head,
            class_counts: Vec::new(),
        })
    }

    /// Epochs in all.
    pub(crate) fn total(&self) -> usize {
        self.spec.training.epochs
    }

    /// One pass over the samples.
    pub(crate) fn epoch(&mut self, context: &PhaseContext<'_>) -> Result<Event> {
        let training = &self.spec.training;
        let learning_rate = training.schedule.rate(training.learning_rate, self.done, training.epochs);
        let draw = Draw {
            seed: context.seed,
            purpose: self.kind.purpose(),
            task: context.task,
            position: self.done as u64,
        };
        let batches = match &self.source {
            Source::Samples(samples) => {
                let mut batches = shuffled_batches(samples.clone(), training.batch, draw);
                batches.truncate(training.steps(samples.len()));
                batches
            }
            Source::Generated { steps } => vec![Vec::new(); *steps],
        };
        if self.class_counts.is_empty() {
            self.class_counts = self.class_counts(context, Draw { position: 0, ..draw })?;
        }
        let mut images = 0;
        self.meter.restart()?;
        let mut captures = std::mem::take(&mut self.captures);
        for (at, batch) in batches.iter().enumerate() {
            let position = (self.done * batches.len() + at) as u64;
            // Copies of an image in an epoch are changed apart, as far as they are in steps of their own.
            let changes = if self.repeats { Draw { position, ..draw } } else { draw };
            let draws = Draws::new(self.kind, changes, position);
            let drawn = self.draw_inputs(batch, &draws, context)?;
            let kind = drawn.layout.kind();
            let mut step = Stepping { job: self, context, learning_rate, layout: drawn.layout };
            captures.step(&mut step, &drawn.tensors, &kind)?;
            images += drawn.layout.rows();
        }
        captures.leave(|| self.values_mut())?;
        self.captures = captures;
        self.done += 1;
        let losses = self.meter.means()?;
        if let Some((name, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
            let what = format!("the loss {name} is {value} in epoch {}", self.done);
            return Err(Diverged::in_phase(self.kind, context.task, what).into());
        }
        Ok(Event::Progress {
            task: context.task,
            phase: self.kind,
            done: self.done,
            total: self.total(),
            learning_rate,
            images,
            losses,
        })
    }

    /// All that a step moves.
    fn values_mut(&mut self) -> Vec<&mut Tensor> {
        let Self { network, aux_nets, optimizer, meter, .. } = self;
        let values = network.parameters_mut().tensors_mut().chain(aux_nets.parameters.tensors_mut());
        values.chain(optimizer.tensors_mut()).chain(meter.tensors_mut()).collect()
    }

    /// One step of the optimiser.
    fn step(
        &mut self,
        layout: &Layout,
        inputs: &[Tensor],
        learning_rate: f64,
        context: &PhaseContext<'_>,
    ) -> Result<Done> {
        let _kept = uploads::keep(context.device);
        let mut grad = self.grad(layout, inputs, context)?;
        if let Some(limit) = self.spec.training.gradient_limit {
            grad.gradients.limit(limit)?;
        }
        let parameters = self.network.parameters_mut();
        let own = self.optimizer.step(parameters, &grad.gradients, &self.groups, learning_rate)?;
        // One rule and one state for both stores; no name is in both.
        let of_aids = self.optimizer.step(
            &mut self.aux_nets.parameters,
            &grad.gradients,
            std::slice::from_ref(&self.aux_nets.group),
            learning_rate,
        )?;
        for update in &grad.updates {
            parameters.update_statistics(update, STATISTICS_MOMENTUM)?;
        }
        if self.positive_head {
            for name in self
                .groups
                .iter()
                .flat_map(|it| &it.names)
                .filter(|it| it.starts_with("head.") && it.ends_with(".weight"))
            {
                let positive = parameters.get(name)?.relu()?;
                parameters.set(name, positive);
            }
        }
        self.meter.add(TOTAL, &grad.total)?;
        for (name, part) in &grad.parts {
            self.meter.add(name, part)?;
        }
        Ok(Done { moved: [own, of_aids], parts: grad.parts.into_keys().collect() })
    }

    /// The objective on a step's inputs and its gradient; changes nothing.
    fn grad(&self, layout: &Layout, inputs: &[Tensor], context: &PhaseContext<'_>) -> Result<Grad> {
        let inputs = Inputs::new(layout, inputs)?;
        let (first, replayed) = self.images(layout, &inputs, context)?;
        let said = replayed.as_ref().map(|it| &it.view);
        let labels = inputs.labels(layout, first.said.as_ref(), said, self.n_old)?;
        let of_old = |teacher| old_view(teacher, &first, replayed.as_ref());
        let old = self.teachers.old.as_ref().map(of_old).transpose()?;
        let (new, new_of_all) = self.new_teacher_views(&first, replayed.as_ref())?;
        let old_head = self.teachers.old.as_ref().map(old_head).transpose()?;
        let turned = self.turned(&first)?;
        let passes = self.passes(&first, replayed.as_ref(), turned.as_ref())?;
        let rows = layout.rows();

        // Turned images are the last rows of the passes, and no rows of the step.
        let all_features = Var::from_tensor(&joined(&passes, POOLED)?)?;
        let n_turned = all_features.dim(0)? - rows;
        let (features, turned) = match n_turned {
            0 => (all_features.as_tensor().clone(), None),
            _ => (all_features.narrow(0, 0, rows)?, Some(all_features.narrow(0, rows, n_turned)?)),
        };
        let (variables, head) = self.head_variables()?;
        let said = head.forward(&features)?;
        let maps =
            self.maps.iter().map(|name| Ok((name.clone(), joined(&passes, name)?.narrow(0, 0, rows)?)));
        let student = Outputs {
            features,
            logits: said.logits,
            similarities: said.similarities,
            scale: said.scale,
            maps: maps.collect::<Result<_>>()?,
        };
        let mut step = Step {
            old_classes: self.n_old,
            classes: self.columns.len(),
            labels: &labels,
            new_rows: 0..layout.n_new,
            exemplar_rows: layout.n_new..layout.n_first,
            synthetic_rows: layout.n_first..rows,
            student: &student,
            old: old.as_ref(),
            new: new.as_ref(),
            new_of_all: new_of_all.as_ref(),
            turned: turned.as_ref(),
            head: &head,
            old_head: old_head.as_ref(),
            feature_matrix: self.teachers.feature_matrix.as_ref(),
            exemplar_share: self.teachers.replay.as_ref().and_then(|(_, spec)| spec.exemplar_share),
            class_counts: &self.class_counts,
            aux_nets: BTreeMap::new(),
        };
        let (aid_passes, said) = self.aux_nets.forward(&step)?;
        let free = self.aux_nets.variables()?;
        step.aux_nets = said;
        step.aux_nets.extend(free.iter().map(|(name, value)| (name.clone(), value.as_tensor().clone())));
        let Outcome { total, parts, grads: on_maps } = self.objective.loss(&step)?;
        let grads = total.backward()?;
        let mut gradients = Gradients::default();
        for (name, variable) in variables.iter().chain(&free) {
            if let Some(grad) = grads.get(variable) {
                gradients.add(name, grad.clone())?;
            }
        }
        let mut to_maps = on_maps.maps;
        to_maps.extend(self.aux_nets.backward(aid_passes, on_maps.aux_nets, &mut gradients)?);
        let mut taps = gather(to_maps, rows + n_turned)?;
        taps.extend(grads.get(&all_features).map(|grad| (POOLED.to_owned(), grad.clone())));
        let updates = self.backward(passes, &taps, &mut gradients)?;
        Ok(Grad { total, parts, gradients, updates })
    }

    /// The head's trained tensors as variables by name, and the head made of them.
    fn head_variables(&self) -> Result<(BTreeMap<String, Var>, cil_backbone::HeadWeights)> {
        let mut variables = BTreeMap::new();
        let head = self.network.head().weights_from(|name| {
            let value = self.network.parameters().get(name)?;
            if !self.groups.iter().any(|it| it.names.iter().any(|it| it == name)) {
                return Ok(value.clone());
            }
            let variable = Var::from_tensor(value)?;
            let tensor = variable.as_tensor().clone();
            variables.insert(name.to_owned(), variable);
            Ok(tensor)
        })?;
        let head = self.corrected(head, &mut variables)?;
        Ok((variables, head))
    }
}

/// The parameters that a phase trains; a bias correction adds two numbers of its own.
fn groups(network: &mut Network, spec: &PhaseSpec, freeze_old_head: bool) -> Result<Vec<Group>> {
    let weight_decay = spec.training.weight_decay;
    let mut names = network.backbone_weights();
    match spec.trained {
        Trained::Correction => return correction::groups(network, weight_decay),
        Trained::Head | Trained::ClassWeights => names.clear(),
        Trained::All => {}
    }
    let head = network.head();
    let old = 0..head.blocks.len() - 1;
    let frozen: BTreeSet<String> = match spec.trained {
        Trained::All if freeze_old_head => old.flat_map(|block| head.block_names(block)).collect(),
        Trained::ClassWeights => BTreeSet::from([SCALE.to_owned()]),
        _ => BTreeSet::new(),
    };
    names.extend(head.names().into_iter().filter(|name| !frozen.contains(name)));
    Ok(vec![Group { names, lr_scale: 1.0, weight_decay }])
}

/// The weights of a teacher's head, `[classes, width]`.
fn old_head(teacher: &Frozen) -> candle_core::Result<Tensor> {
    let snapshot = teacher.snapshot();
    Tensor::cat(&snapshot.head.weights(&snapshot.parameters)?.weights, 0)
}

#[cfg(test)]
mod tests;
