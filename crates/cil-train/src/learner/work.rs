//! The work of a phase.
//!
//! A job is made of the plan, the phase and a network; so a saved one is rebuilt in the same way, with its network.

use anyhow::{Result, bail};
use cil_backbone::Network;
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;
use dfgr::Inversion;

use super::Learner;
use crate::adversarial::Pool;
use crate::discriminant::ClassStatistics;
use crate::event::PhaseKind;
use crate::logistic;
use crate::memory;
use crate::phase::{Classes, FrozenNetworks, Job, Source};
use crate::recipe::ReplaySpec;
use crate::start;

/// The work of the current phase.
pub(super) enum Work {
    Invert(Box<Inversion>),
    Train(Box<Job>),
}

impl Work {
    /// A phase's, at its beginning.
    pub(super) fn begin(learner: &Learner, phase: PhaseKind, train: &TrainSet) -> Result<Self> {
        if let PhaseKind::Inversion | PhaseKind::NewInversion = phase {
            return Ok(Self::Invert(Box::new(inversion(learner, phase)?)));
        }
        let network = network(learner, phase, train)?;
        Ok(Self::Train(Box::new(job(learner, phase, network, train)?)))
    }

    /// Units of the phase that are done.
    pub(super) fn units_done(&self) -> u64 {
        let units = match self {
            Self::Invert(inversion) => inversion.done().div_ceil(ReplaySpec::UNIT),
            Self::Train(job) => job.done,
        };
        units as u64
    }
}

/// The inversion of the old teacher or of the new one, at its beginning.
pub(super) fn inversion(learner: &Learner, phase: PhaseKind) -> Result<Inversion> {
    let plan = &learner.plan;
    if phase == PhaseKind::NewInversion {
        let (Some(spec), Some(teacher)) = (&plan.recipe.new_replay, &learner.new_teacher) else {
            bail!("there is no new teacher to invert");
        };
        let (config, teacher, task) = (spec.inversion.clone(), teacher.clone(), learner.task);
        // A seed of its own: neither its weights nor its noise are those of the first inversion.
        let seed = Draw { task, ..Draw::new(plan.seed, "new inversion") }.stream("seed").number();
        return Ok(Inversion::new(config, teacher, &plan.executors, seed, task, &plan.device)?);
    }
    let (Some(spec), Some(teacher)) = (&plan.recipe.replay, &learner.old) else {
        bail!("there is no teacher to invert");
    };
    let appended = match &plan.recipe.logistic {
        Some(_) => learner.statistics.as_ref().map_or(0, ClassStatistics::classes),
        None => 0,
    };
    let (config, teacher) = (spec.inversion.clone(), logistic::original(teacher, appended)?);
    let latent = config.generator.latent;
    let is_aimed = config.weights.features > 0.0;
    let mut inversion =
        Inversion::new(config, teacher, &plan.executors, plan.seed, learner.task, &plan.device)?;
    if let (true, Some(statistics)) = (is_aimed, &learner.statistics) {
        let stages = plan.recipe.discriminant.as_ref().map_or_else(Vec::new, |it| it.stages.clone());
        inversion.aim_at(statistics.targets(stages, latent)?)?;
    }
    if let (true, Some(before)) = (spec.warm_start, &learner.replay) {
        inversion.warm_start_from(before.parameters())?;
    }
    Ok(inversion)
}

/// The network that a phase trains, at its beginning.
fn network(learner: &Learner, phase: PhaseKind, train: &TrainSet) -> Result<Network> {
    let (plan, task, old) = (&learner.plan, learner.task, learner.old.as_ref());
    match phase {
        PhaseKind::Inversion | PhaseKind::NewInversion => bail!("an inversion trains a generator"),
        PhaseKind::NewTeacher => {
            let Some(spec) = &plan.recipe.new_teacher else { bail!("the recipe has no new teacher") };
            start::new_teacher(plan, spec, task, old, train.image_dims())
        }
        PhaseKind::Student => start::student(plan, task, old, train, learner.new_replay.as_ref()),
        PhaseKind::Balance | PhaseKind::BiasCorrection => {
            let Some(model) = &learner.model else { bail!("there is no model to balance or correct") };
            let snapshot = model.snapshot().clone();
            Ok(Network::from_snapshot(snapshot, &plan.executors, plan.seed, &plan.device)?)
        }
    }
}

/// The adversarial images of a student's phase, from the new images and the statistics of old classes.
fn adversarial(learner: &Learner, phase: PhaseKind, train: &TrainSet) -> Result<Option<Pool>> {
    let (plan, task) = (&learner.plan, learner.task);
    let Some(spec) = plan.recipe.adversarial.filter(|_| phase == PhaseKind::Student && task > 0) else {
        return Ok(None);
    };
    let (Some(old), Some(statistics)) = (&learner.old, &learner.statistics) else {
        bail!("there is no old model with class means to make adversarial images with");
    };
    let samples = memory::trained_on(plan, task, train);
    Ok(Some(Pool::new(plan, task, (old, statistics), (train, &samples), spec)?))
}

/// That many draws of what is kept, each from all of it.
fn with_replacement(kept: &[SampleId], count: usize, (seed, task): (u64, usize)) -> Vec<SampleId> {
    let mut stream = Draw { task, ..Draw::new(seed, "oversampling") }.stream("exemplars");
    (0..count).map(|_| kept[stream.below(kept.len())]).collect()
}

/// A phase's job on its images.
pub(super) fn job(learner: &Learner, phase: PhaseKind, network: Network, train: &TrainSet) -> Result<Job> {
    let (plan, task) = (&learner.plan, learner.task);
    let (recipe, new, draw) = (&plan.recipe, plan.increments.classes(task), (plan.seed, task));
    let (spec, samples) = match phase {
        PhaseKind::Inversion | PhaseKind::NewInversion => bail!("an inversion is no job"),
        PhaseKind::NewTeacher => {
            let Some(spec) = &recipe.new_teacher else { bail!("the recipe has no new teacher") };
            let (mut samples, mut columns, mut n_old) = (train.samples(new.clone()), new.clone(), 0);
            if spec.exemplars {
                samples.extend(learner.exemplars.all());
                (columns, n_old) = (0..new.end, new.start);
            }
            let (freeze_old_head, positive_head) = (false, false);
            let classes = Classes { columns, n_old, freeze_old_head, positive_head };
            let (source, nobody) = (Source::Samples(samples), FrozenNetworks::default());
            return Job::new(phase, network, spec.phase(), source, classes, nobody, draw);
        }
        PhaseKind::Student => {
            let mut samples = memory::trained_on(plan, task, train);
            if recipe.joint {
                samples.extend(train.samples(0..new.start));
            } else {
                let kept = learner.exemplars.all();
                samples.extend(match recipe.oversample && !kept.is_empty() {
                    true => with_replacement(&kept, samples.len(), (plan.seed, task)),
                    false => kept,
                });
            }
            (learner.student_spec(task).clone(), samples)
        }
        PhaseKind::Balance => {
            let (Some(spec), Some(model)) = (&recipe.balance, &learner.model) else {
                bail!("there is no model to balance");
            };
            (spec.clone(), learner.balanced(model, train)?)
        }
        PhaseKind::BiasCorrection => {
            let Some(spec) = &recipe.bias_correction else { bail!("the recipe corrects no bias") };
            (spec.phase(), memory::held_out(plan, task, train)?)
        }
    };
    let classes = Classes {
        columns: 0..new.end,
        n_old: new.start,
        freeze_old_head: recipe.freeze_old_head && task > 0,
        positive_head: recipe.align.is_some_and(|align| align.positive),
    };
    let source = match &recipe.new_replay {
        Some(generated) if task > 0 => {
            Source::Generated { steps: generated.steps(new.len(), spec.training.batch) }
        }
        _ => Source::Samples(samples),
    };
    let teachers = FrozenNetworks {
        old: if recipe.joint { None } else { learner.old.clone() },
        feature_matrix: learner.feature_matrix.clone(),
        new: learner.new_teacher.clone(),
        replay: learner.replay.clone().zip(recipe.replay.clone()),
        adversarial: adversarial(learner, phase, train)?,
        new_replay: learner.new_replay.clone(),
    };
    Job::new(phase, network, spec, source, classes, teachers, draw)
}
