//! What no recipe may say.
//!
//! One decision: a complaint names the key as it stands in a configuration, its value, and what would be right; whatever
//! passes here can be run.

use anyhow::{Context, Result, anyhow, bail};
use cil_backbone::{Architecture, HeadKind};
use cil_engine::bounds::{LARGEST_DECAY, LARGEST_RATE, LARGEST_WEIGHT, positive, within};
use dtid::dual::DualForm;
use dtid::kl::check_temperature;

use crate::loss::nca::NcaForm;

use super::{Columns, PhaseSpec, Recipe, Rows, Teachers, TermSpec, Trained, Training};

/// Most images in a step: what one of them takes in a network is some hundred kilobytes.
const LARGEST_BATCH: usize = 1 << 16;
/// Most passes over the images of a phase; published runs make 200 at most.
const MOST_EPOCHS: usize = 1_000_000;
/// Most weights of a class; 10 in PODNet.
const MOST_PROXIES: usize = 1024;
/// Widest projection, in widths of the features; 2 in R-DFCIL.
const WIDEST_PROJECTION: usize = 64;
/// Largest element of a gradient that a limit may let through; 5 in PODNet's code.
const LARGEST_GRADIENT: f64 = 1e6;

impl Recipe {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// Naming the key within the recipe, its value and what would be right.
    pub fn check(&self) -> Result<()> {
        self.phase("base", &self.base)?;
        self.phase("increment", &self.increment)?;
        if self.base.trained != Trained::All {
            let trained = if self.base.trained == Trained::Head { "head" } else { "class-weights" };
            bail!("base.trained is {trained:?}; the base classes need a backbone, so \"all\"");
        }
        if let Some(balance) = &self.balance {
            self.phase("balance", balance)?;
        }
        if self.imprint && !self.head.is_scaled() {
            bail!(
                "imprint is true; weights are imprinted as directions, so head must be \"cosine\" or \"multi-proxy\""
            );
        }
        if self.head.proxies() == 0 {
            bail!("head.multi-proxy.proxies is 0; a class has at least one, and 10 in PODNet");
        }
        if self.restart && (self.joint || self.imprint || self.freeze_old_head) {
            bail!("restart is true; joint, imprint and freeze-old-head should be false with a new network");
        }
        if self.head.proxies() > MOST_PROXIES {
            let proxies = self.head.proxies();
            bail!("head.multi-proxy.proxies is {proxies}; it should be from 1 to {MOST_PROXIES}");
        }
        if self.joint && (self.replay.is_some() || self.new_teacher.is_some() || !self.exemplars.is_none()) {
            bail!(
                "joint is true; with all images there is nothing to keep, replay or distil, so leave those out"
            );
        }
        if let Some(replay) = &self.replay {
            replay.inversion.check().map_err(|error| anyhow!("replay.{error}"))?;
            if replay.batch == 0 {
                bail!("replay.batch is 0; leave the table replay out to train without generated images");
            }
            if replay.batch > LARGEST_BATCH {
                bail!("replay.batch is {}; it should be from 1 to {LARGEST_BATCH}", replay.batch);
            }
            if let Some(share) = replay.exemplar_share {
                if !(0.0..=1.0).contains(&share) {
                    bail!("replay.exemplar-share is {share}; it should be from 0 to 1, or left out");
                }
                if self.exemplars.is_none() {
                    bail!("replay.exemplar-share is {share} and no exemplar is kept; leave it out");
                }
            }
        }
        for (key, is_set) in [("random-exemplars", self.random_exemplars), ("oversample", self.oversample)] {
            if is_set && self.exemplars.is_none() {
                bail!("{key} is true and no exemplar is kept; it should be false");
            }
        }
        if let Some(new_teacher) = &self.new_teacher {
            check_training("new-teacher", &new_teacher.training)?;
            if new_teacher.exemplars && self.exemplars.is_none() {
                bail!("new-teacher.exemplars is true and no exemplar is kept; it should be false");
            }
        }
        self.without_new_images()?;
        self.corrections()?;
        if let Some(discriminant) = &self.discriminant {
            discriminant.check()?;
            if self.joint {
                bail!(
                    "discriminant is there and joint is true; with all images there are no statistics to keep"
                );
            }
        }
        if self.base.terms.iter().any(|it| matches!(it, TermSpec::Scaled { .. })) {
            bail!("base.terms has a scaled term; no base class is old, so there is nothing to scale by");
        }
        self.two_teachers()
    }

    /// Refuses what does not suit the network.
    ///
    /// # Errors
    /// Naming the key within the recipe, its value and what would be right.
    pub fn check_network(&self, architecture: &Architecture) -> Result<()> {
        if let Some(discriminant) = &self.discriminant {
            discriminant.check_network(architecture)?;
        }
        let n_stages = architecture.stages();
        let phases = [("base", Some(&self.base)), ("increment", Some(&self.increment))];
        for (key, phase) in phases.into_iter().chain([("balance", self.balance.as_ref())]) {
            for (at, term) in phase.iter().flat_map(|it| it.terms.iter().enumerate()) {
                if let Some(stage) = term.stages().unwrap_or(&[]).iter().find(|it| **it > n_stages) {
                    bail!(
                        "{key}.terms.{at}: stages holds {stage}; {architecture} has stages 1 to {n_stages}"
                    );
                }
            }
        }
        Ok(())
    }

    /// Of terms that need the new teacher.
    fn two_teachers(&self) -> Result<()> {
        for term in &self.increment.terms {
            let kind = match term.inner() {
                TermSpec::DualTeacher { .. } => "dual-teacher",
                TermSpec::DoubleRegression { .. } => "double-regression",
                _ => continue,
            };
            if self.new_teacher.is_none() {
                bail!("increment.terms has a {kind} term; it needs the table new-teacher");
            }
        }
        Ok(())
    }

    /// Of what follows a later task's training.
    fn corrections(&self) -> Result<()> {
        let key = match (&self.align, &self.bias_correction) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => bail!("align and bias-correction are both there; one correction is enough"),
            (Some(_), None) => "align",
            (None, Some(correction)) => {
                correction.check()?;
                if self.exemplars.is_none() {
                    bail!("bias-correction holds out a part of the exemplars; exemplars should not be 0");
                }
                "bias-correction"
            }
        };
        if self.joint {
            bail!("{key} is there and joint is true; with all images there is nothing to correct");
        }
        if self.head.is_scaled() {
            bail!("{key} changes logits by their weights; head should be \"linear\" or \"without-bias\"");
        }
        if self.bias_correction.is_some() && self.head != HeadKind::Linear {
            bail!("bias-correction adds to logits; head should be \"linear\"");
        }
        Ok(())
    }

    fn phase(&self, key: &str, phase: &PhaseSpec) -> Result<()> {
        check_training(key, &phase.training)?;
        if phase.trained == Trained::Correction {
            bail!(
                "{key}.trained is \"correction\"; it should be \"all\" or \"head\", and bias-correction a table"
            );
        }
        self.on_maps(key, phase)?;
        if phase.terms.is_empty() {
            bail!("{key}.terms is empty; something must be minimised");
        }
        for (at, term) in phase.terms.iter().enumerate() {
            self.term(term).with_context(|| format!("{key}.terms.{at}"))?;
        }
        Ok(())
    }

    /// Of terms that read maps.
    fn on_maps(&self, key: &str, phase: &PhaseSpec) -> Result<()> {
        let (mut old, mut new) = (0, 0);
        for (at, term) in phase.terms.iter().enumerate() {
            let Some(stages) = term.stages() else { continue };
            let at = format!("{key}.terms.{at}");
            if phase.trained != Trained::All {
                bail!("{at} acts on the backbone's maps; {key}.trained should be \"all\"");
            }
            if stages.contains(&0) {
                bail!("{at}: stages holds 0; stages are numbered from 1");
            }
            if let Some(stage) =
                stages.iter().find(|it| stages.iter().filter(|other| other == it).count() > 1)
            {
                bail!("{at}: stages holds {stage} twice; once is enough");
            }
            let Some(teachers) = term.vid_teachers() else { continue };
            old += usize::from(teachers != Teachers::New);
            new += usize::from(teachers != Teachers::Old);
            if teachers != Teachers::Old && self.new_teacher.is_none() {
                bail!(
                    "{at} is a vid term of the new teacher; it needs the table new-teacher, or teachers \"old\""
                );
            }
        }
        if old > 1 || new > 1 {
            bail!("{key}.terms has two vid terms of one teacher; put their stages into one");
        }
        Ok(())
    }

    fn term(&self, term: &TermSpec) -> Result<()> {
        let weight = term.weight();
        within("weight", weight, 0.0, LARGEST_WEIGHT)?;
        if self.exemplars.is_none() && term.selections().contains(&Rows::Exemplars) {
            bail!("rows is \"exemplars\" and no exemplar is kept; exemplars should not be 0");
        }
        match *term {
            TermSpec::Scaled { ref term, .. } => self.term(term),
            TermSpec::CrossEntropy { rows, columns: Columns::New, .. } if rows != Rows::New => {
                bail!("columns is \"new\" and rows is not; only rows \"new\" have their label among them")
            }
            TermSpec::LogitKd { temperature, .. } | TermSpec::GlobalKd { temperature, .. } => {
                Ok(check_temperature(temperature)?)
            }
            TermSpec::Nca { form: NcaForm::Paper { margin }, .. } => {
                if !self.head.is_scaled() {
                    bail!(
                        "form is \"paper\"; its margin is between cosines, so head must be \"cosine\" or \"multi-proxy\""
                    )
                }
                // Cosines are at most 2 apart.
                Ok(within("form.paper.margin", margin, -2.0, 2.0)?)
            }
            TermSpec::AngleRelation { projection, .. } if projection > WIDEST_PROJECTION => {
                bail!("projection is {projection}; it should be from 0 to {WIDEST_PROJECTION}")
            }
            TermSpec::OldHead { .. } if self.head.is_scaled() => {
                bail!("old-head compares what linear weights make of features; head should not be of cosines")
            }
            TermSpec::MarginRanking { .. } if self.head != HeadKind::Cosine => {
                bail!("margin-ranking compares cosines, so head must be \"cosine\"")
            }
            TermSpec::MarginRanking { rows: Rows::New | Rows::Real | Rows::All, .. } => {
                bail!(
                    "margin-ranking is of old images; rows should be \"old\", \"exemplars\" or \"synthetic\""
                )
            }
            TermSpec::MarginRanking { margin, .. } => Ok(within("margin", margin, -2.0, 2.0)?),
            TermSpec::DualTeacher { config, rows, .. } => {
                if matches!(config.form, DualForm::Joint { .. }) && rows != Rows::All {
                    bail!(
                        "form is \"joint\", which follows both teachers on new-rows; rows should be left out"
                    )
                }
                config.check().map_err(|error| anyhow!("config.{error}"))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn check_training(key: &str, training: &Training) -> Result<()> {
    if training.epochs == 0 {
        bail!("{key}.training.epochs is 0; it should be at least 1");
    }
    if training.batch < 2 {
        bail!("{key}.training.batch is {}; batch norm needs at least 2 images", training.batch);
    }
    if training.epochs > MOST_EPOCHS {
        bail!("{key}.training.epochs is {}; it should be from 1 to {MOST_EPOCHS}", training.epochs);
    }
    if training.batch > LARGEST_BATCH {
        bail!("{key}.training.batch is {}; it should be from 2 to {LARGEST_BATCH}", training.batch);
    }
    positive(&format!("{key}.training.learning-rate"), training.learning_rate, LARGEST_RATE)?;
    if !(0.0..1.0).contains(&training.momentum) {
        bail!("{key}.training.momentum is {}; it should be from 0 to below 1", training.momentum);
    }
    if training.nesterov && training.momentum == 0.0 {
        bail!("{key}.training.nesterov is true; it needs a momentum above 0");
    }
    within(&format!("{key}.training.weight-decay"), training.weight_decay, 0.0, LARGEST_DECAY)?;
    if let Some(limit) = training.gradient_limit {
        positive(&format!("{key}.training.gradient-limit"), limit, LARGEST_GRADIENT)?;
    }
    let wrong = |error| anyhow!("{key}.training.schedule.{error}");
    training.schedule.check(training.epochs, "epochs").map_err(wrong)
}
