//! What no recipe may say.
//!
//! One decision: a complaint names the key as it stands in a configuration, its value, and what would be right; whatever
//! passes here can be run.

use anyhow::{Context, Result, bail};
use cil_backbone::HeadKind;
use cil_engine::optim::Decay;

use super::{Columns, PhaseSpec, Recipe, Rows, TermSpec, Trained, Training};

impl Recipe {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// Naming the key within the recipe, its value and what would be right.
    pub fn check(&self) -> Result<()> {
        self.phase("base", &self.base)?;
        self.phase("increment", &self.increment)?;
        if self.base.trained == Trained::Head {
            bail!("base.trained is \"head\"; the base classes need a backbone, so \"all\"");
        }
        if let Some(balance) = &self.balance {
            self.phase("balance", balance)?;
        }
        if self.imprint && self.head != HeadKind::Cosine {
            bail!("imprint is true; weights are imprinted as directions, so head must be \"cosine\"");
        }
        if self.joint && (self.replay.is_some() || self.new_teacher.is_some() || !self.exemplars.is_none()) {
            bail!(
                "joint is true; with all images there is nothing to keep, replay or distil, so leave those out"
            );
        }
        if let Some(replay) = &self.replay {
            replay.inversion.check().context("replay")?;
            if replay.batch == 0 {
                bail!("replay.batch is 0; leave the table replay out to train without generated images");
            }
        }
        if let Some(new_teacher) = &self.new_teacher {
            check_training("new-teacher", &new_teacher.training)?;
        }
        let dual = |it: &TermSpec| matches!(it, TermSpec::DualTeacher { .. });
        if self.increment.terms.iter().any(dual) && self.new_teacher.is_none() {
            bail!("increment.terms has a dual-teacher term; it needs the table new-teacher");
        }
        Ok(())
    }

    fn phase(&self, key: &str, phase: &PhaseSpec) -> Result<()> {
        check_training(key, &phase.training)?;
        if phase.terms.is_empty() {
            bail!("{key}.terms is empty; something must be minimised");
        }
        for (at, term) in phase.terms.iter().enumerate() {
            self.term(term).with_context(|| format!("{key}.terms.{at}"))?;
        }
        Ok(())
    }

    fn term(&self, term: &TermSpec) -> Result<()> {
        let weight = term.weight();
        if !(weight.is_finite() && weight >= 0.0) {
            bail!("weight is {weight}; it should be 0 or more");
        }
        match *term {
            TermSpec::CrossEntropy { rows, columns: Columns::New, .. } if rows != Rows::New => {
                bail!("columns is \"new\" and rows is not; only rows \"new\" have their label among them")
            }
            TermSpec::LogitKd { temperature, .. } if !(temperature.is_finite() && temperature > 0.0) => {
                bail!("temperature is {temperature}; it should be positive")
            }
            TermSpec::MarginRanking { .. } if self.head != HeadKind::Cosine => {
                bail!("margin-ranking compares cosines, so head must be \"cosine\"")
            }
            TermSpec::MarginRanking { margin, .. } if !margin.is_finite() => {
                bail!("margin is {margin}; it should be a number")
            }
            TermSpec::DualTeacher { config, .. } => Ok(config.check()?),
            _ => Ok(()),
        }
    }
}

fn check_training(key: &str, training: &Training) -> Result<()> {
    if training.epochs == 0 {
        bail!("{key}.training.epochs is 0; it should be at least 1");
    }
    if training.batch < 2 {
        bail!("{key}.training.batch is {}; batch norm needs at least 2 images", training.batch);
    }
    if !(training.learning_rate.is_finite() && training.learning_rate > 0.0) {
        bail!("{key}.training.learning-rate is {}; it should be positive", training.learning_rate);
    }
    if !(0.0..1.0).contains(&training.momentum) {
        bail!("{key}.training.momentum is {}; it should be from 0 to below 1", training.momentum);
    }
    if training.nesterov && training.momentum == 0.0 {
        bail!("{key}.training.nesterov is true; it needs a momentum above 0");
    }
    if !(training.weight_decay.is_finite() && training.weight_decay >= 0.0) {
        bail!("{key}.training.weight-decay is {}; it should be 0 or more", training.weight_decay);
    }
    if training.schedule.warm_up >= training.epochs && training.schedule.warm_up > 0 {
        bail!(
            "{key}.training.schedule.warm-up is {} of {} epochs; it should be fewer",
            training.schedule.warm_up,
            training.epochs
        );
    }
    match training.schedule.decay {
        Decay::Step { every: 0, .. } => {
            bail!("{key}.training.schedule.decay.every is 0; it should be at least 1")
        }
        _ => Ok(()),
    }
}
