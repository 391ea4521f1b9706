//! The inputs of a job beside its network, and of an epoch.
//!
//! A phase reads only the images that are passed to it here; a job without the images of a class cannot read them.

use std::collections::BTreeSet;

use anyhow::Result;
use candle_core::{Device, Tensor};
use cil_backbone::Frozen;
use cil_data::augment::Preparation;
use cil_data::store::{SampleId, TrainSet};
use dfgr::Replay;

use crate::adversarial::Pool;
use crate::recipe::ReplaySpec;

/// Images, and the device, seed and task of a job over them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhaseContext<'a> {
    pub(crate) train: &'a TrainSet,
    pub(crate) preparation: &'a Preparation,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) task: usize,
}

/// Frozen networks of a job, the same from its first step to its last.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrozenNetworks {
    /// The model of the task before.
    pub(crate) old: Option<Frozen>,
    /// The empirical feature matrix that was kept of `old`, if a term needs it.
    pub(crate) feature_matrix: Option<Tensor>,
    /// The teacher of the new classes.
    pub(crate) new: Option<Frozen>,
    /// Generated images of old classes.
    pub(crate) replay: Option<(Replay, ReplaySpec)>,
    /// Adversarial images of old classes, in place of generated ones.
    pub(crate) adversarial: Option<Pool>,
    /// Generated images of new classes, by their teacher, in steps without real ones.
    pub(crate) new_replay: Option<Replay>,
}

impl FrozenNetworks {
    /// The same, handing out the maps of these taps as well; nothing is copied where there are none.
    pub(super) fn with_maps(mut self, maps: &[String]) -> Result<Self> {
        if maps.is_empty() {
            return Ok(self);
        }
        self.old = self.old.map(|teacher| teacher.with_maps(maps)).transpose()?;
        self.new = self.new.map(|teacher| teacher.with_maps(maps)).transpose()?;
        self.replay = match self.replay {
            Some((replay, spec)) => Some((replay.with_maps(maps)?, spec)),
            None => None,
        };
        self.adversarial = self.adversarial.map(|pool| pool.with_maps(maps)).transpose()?;
        self.new_replay = self.new_replay.map(|replay| replay.with_maps(maps)).transpose()?;
        Ok(self)
    }
}

/// The images of an epoch.
pub(crate) enum Source {
    /// Each of these, with generated images beside them if there is a replay.
    Samples(Vec<SampleId>),
    /// That many steps of generated images alone.
    Generated { steps: usize },
}

impl Source {
    /// Whether an image comes more than once.
    pub(super) fn repeats(&self) -> bool {
        let Self::Samples(samples) = self else { return false };
        let mut seen = BTreeSet::new();
        samples.iter().any(|sample| !seen.insert(sample))
    }
}
