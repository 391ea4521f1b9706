//! The parts of an objective.
//!
//! A new idea is one file here, one line of the list below, and one test. The file has the term's settings, which are
//! its keys in a configuration ([`Settings`]), and the term itself ([`Term`]), which is made for one phase. A term only
//! reads a [`Step`]; it says which rows it acts on and never writes, so the order of terms does not matter. It may ask
//! for the backbone's maps, and bring [`AuxNet`]s, small networks that train with the student and end with the phase.
//! Losses on maps yield their gradients themselves, in one pass: candle's operations would take many, each on one
//! thread.

mod angle_relation;
mod anti_collapse;
mod binary_cross_entropy;
mod class_balanced;
mod cross_entropy;
mod custom;
mod defaults;
mod double_regression;
mod dual_teacher;
mod elastic_features;
mod global_kd;
mod head_cross_entropy;
mod less_forget;
mod list;
mod logit_kd;
mod logit_l1;
mod margin_ranking;
mod nca;
mod objective;
mod old_head;
mod pod_spatial;
mod projected_kd;
mod rotation;
mod scaled;
mod vid;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};
use cil_backbone::{HeadKind, POOLED};
use cil_engine::{Graph, ParameterSpec, Shape};
use serde::{Deserialize, Serialize};

use crate::step::{Rows, Step};

pub use cross_entropy::Columns;
pub use custom::CustomTerm;
pub use objective::{Objective, Outcome};
pub use scaled::ClassScale;
pub use vid::{Regressor, Teachers};

list::terms! {
    /// One weighted part of the objective.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    pub enum TermSpec {
        CrossEntropy(cross_entropy::CrossEntropy),
        Nca(nca::Nca),
        LogitKd(logit_kd::LogitKd),
        LessForget(less_forget::LessForget),
        PodFlat(less_forget::PodFlat),
        MarginRanking(margin_ranking::MarginRanking),
        DualTeacher(dual_teacher::DualTeacher),
        PodSpatial(pod_spatial::PodSpatial),
        Vid(vid::Vid),
        Scaled(scaled::Scaled),
        BinaryCrossEntropy(binary_cross_entropy::BinaryCrossEntropy),
        LogitL1(logit_l1::LogitL1),
        GlobalKd(global_kd::GlobalKd),
        AngleRelation(angle_relation::AngleRelation),
        ClassBalanced(class_balanced::ClassBalanced),
        HeadCrossEntropy(head_cross_entropy::HeadCrossEntropy),
        OldHead(old_head::OldHead),
        DoubleRegression(double_regression::DoubleRegression),
        ProjectedKd(projected_kd::ProjectedKd),
        AntiCollapse(anti_collapse::AntiCollapse),
        Rotation(rotation::Rotation),
        ElasticFeatures(elastic_features::ElasticFeatures),
    }
}

/// A term's keys in a configuration, and what a recipe asks of them.
pub trait Settings {
    /// Weight in the objective.
    fn weight(&self) -> f64;

    /// Selections of rows that it acts on; none where it acts on every row whatever is written.
    fn selections(&self) -> Vec<Rows>;

    /// The term for one phase, on a backbone of that graph with all its taps.
    ///
    /// # Errors
    /// If it reads a stage that the backbone has not.
    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>>;

    /// Refuses values that cannot run, beside that head. Weight and rows are checked for all terms alike.
    ///
    /// # Errors
    /// Naming the key, its value and what would be right.
    fn check(&self, _head: HeadKind) -> anyhow::Result<()> {
        Ok(())
    }

    /// Stages whose maps it reads, by number, none for all; `None` for a term that reads no map.
    fn stages(&self) -> Option<&[usize]> {
        None
    }

    /// The teachers whose maps a variational term distils.
    fn vid_teachers(&self) -> Option<Teachers> {
        None
    }

    /// Whether it reads [`Step::turned`], so that the student sees each new image three times more.
    fn turns_images(&self) -> bool {
        false
    }

    /// Whether a later task's objective may hold it only beside a new teacher.
    fn needs_new_teacher(&self) -> bool {
        false
    }

    /// Whether it reads [`Step::feature_matrix`], which is then kept of every task.
    fn needs_feature_matrix(&self) -> bool {
        false
    }

    /// Whether a task that has no new teacher, since it has one new class, can have it.
    fn applies_without_new_teacher(&self) -> bool {
        true
    }

    /// Its softmax temperature with its key, for the advice after a phase that diverged.
    fn temperature(&self) -> Option<(&'static str, f64)> {
        None
    }

    /// Weights within it with their keys, for the same.
    fn factors(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// One part of an objective.
pub trait Term: std::fmt::Debug + Send {
    /// Name in events.
    fn name(&self) -> &'static str;

    /// The unweighted loss, or `None` where the term does not apply (no old teacher in task 0).
    ///
    /// # Errors
    /// If the step lacks what the term needs, such as a cosine head.
    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>>;

    /// Taps whose maps it reads, of student and teachers.
    fn maps(&self) -> Vec<String> {
        Vec::new()
    }

    /// Its own networks, as they begin.
    ///
    /// # Errors
    /// If a graph cannot be built or the device refuses a tensor.
    fn aux_nets(&self, _device: &Device) -> Result<Vec<AuxNet>> {
        Ok(Vec::new())
    }

    /// Values of its own that train with the student through candle, and end with the phase; in [`Step::aux_nets`] by
    /// name. `n_new`: classes of the task.
    fn values(&self, _n_new: usize) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// Whether it reads [`Step::class_counts`].
    fn counts_classes(&self) -> bool {
        false
    }

    /// Whether it reads [`Step::new_of_all`].
    fn asks_new_teacher_of_all(&self) -> bool {
        false
    }

    /// For a term on maps, in place of [`Self::loss`]: the unweighted loss, and its gradients times `weight` into
    /// `grads`.
    ///
    /// # Errors
    /// If maps do not fit.
    fn loss_on_maps(&self, _step: &Step<'_>, _weight: f64, _grads: &mut MapGrads) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The only tap of an [`AuxNet`]'s graph.
pub const OUTPUT: &str = "output";

/// A small network of a term's own: it reads one of the student's maps with batch statistics.
#[derive(Debug)]
pub struct AuxNet {
    /// Name of its output, and prefix of its parameters' names, such as `vid.old.stage1`.
    pub name: String,
    /// The tap whose map it reads.
    pub map: String,
    /// Whether it is for the new teacher, else for the old one; it is silent where there is none.
    pub for_new_teacher: bool,
    /// Rows that it reads.
    pub rows: Rows,
    /// Its graph, with the tap [`OUTPUT`]. `None`: the map itself.
    pub graph: Option<Graph>,
    /// Values that train with it, by name, as they begin.
    pub values: Vec<(String, Tensor)>,
}

/// Gradients that terms yield themselves, weighted.
#[derive(Debug, Default)]
pub struct MapGrads {
    /// To the student's maps: tap, rows, and the gradient to these.
    pub maps: Vec<(String, Range<usize>, Tensor)>,
    /// To the outputs of auxiliary networks, and to their values, by name.
    pub aux_nets: BTreeMap<String, Tensor>,
}

/// Taps of stages, and their shapes: those of the numbers in `stages`, all where there is none.
fn stage_maps(graph: &Graph, stages: &[usize]) -> Result<Vec<(String, Shape)>> {
    let names: Vec<String> = match stages.is_empty() {
        true => graph.taps().iter().map(|(name, _)| name.clone()).filter(|name| name != POOLED).collect(),
        false => stages.iter().map(|stage| format!("stage{stage}")).collect(),
    };
    let shaped = |name: String| match graph.tap_shape(&name) {
        Some(shape) => Ok((name, shape)),
        None => bail!("the backbone has no {name}"),
    };
    names.into_iter().map(shaped).collect()
}

/// Rows `range` of a tensor.
fn narrow(tensor: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    tensor.narrow(0, range.start, range.len())
}
