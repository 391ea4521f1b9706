//! What a job looks at beside its network, and what an epoch goes over.
//!
//! One decision: what a phase may see is what it is handed here; a job that is handed no image of a class cannot look at
//! one.

use anyhow::Result;
use candle_core::Device;
use cil_backbone::Frozen;
use cil_data::augment::Preparation;
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;
use dfgr::Replay;

use crate::event::PhaseKind;
use crate::recipe::ReplaySpec;

/// What a job may look at beside its network.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) train: &'a TrainSet,
    pub(crate) preparation: &'a Preparation,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) task: usize,
    /// The model of the task before.
    pub(crate) old: Option<Frozen>,
    /// The teacher of the new classes.
    pub(crate) new: Option<Frozen>,
    /// Generated images of old classes.
    pub(crate) replay: Option<(Replay, &'a ReplaySpec)>,
    /// Generated images of new classes, by their teacher, in steps without real ones.
    pub(crate) new_replay: Option<Replay>,
}

impl Surroundings<'_> {
    /// The same with teachers that hand out these maps; nothing is copied where there are none.
    pub(crate) fn with_maps(mut self, maps: &[String]) -> Result<Self> {
        if maps.is_empty() {
            return Ok(self);
        }
        self.old = self.old.map(|teacher| teacher.with_maps(maps)).transpose()?;
        self.new = self.new.map(|teacher| teacher.with_maps(maps)).transpose()?;
        self.replay = match self.replay {
            Some((replay, spec)) => Some((replay.with_maps(maps)?, spec)),
            None => None,
        };
        self.new_replay = self.new_replay.map(|replay| replay.with_maps(maps)).transpose()?;
        Ok(self)
    }
}

/// What an epoch goes over.
pub(crate) enum Source {
    /// Each of these once, with generated images beside them if there is a replay.
    Samples(Vec<SampleId>),
    /// That many steps of generated images alone.
    Generated { steps: usize },
}

/// Where a step's random numbers come from.
pub(super) struct Draws<'a> {
    /// Changes to real images.
    pub(super) images: Draw<'a>,
    /// Noise of generated ones of old classes, and of new classes.
    pub(super) noise: [Draw<'a>; 2],
}

impl<'a> Draws<'a> {
    /// Of step `position` of a phase, counted over all its epochs: never two steps of a task with the same noise.
    pub(super) fn new(kind: PhaseKind, images: Draw<'a>, position: u64) -> Self {
        let purposes = match kind {
            PhaseKind::Balance => ["replay balance", "new replay balance"],
            _ => ["replay", "new replay"],
        };
        Self { images, noise: purposes.map(|purpose| Draw { purpose, position, ..images }) }
    }
}
