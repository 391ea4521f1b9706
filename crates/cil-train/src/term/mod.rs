//! The parts of an objective.
//!
//! A new idea is one file here, one variant of [`TermSpec`], and one test. A term only reads a [`Step`]; it says which
//! rows it acts on and never writes, so the order of terms does not matter. It is made for one phase: it may ask for
//! the backbone's maps, and bring [`AuxNet`]s, small networks that train with the student and end with the phase.
//! Losses on maps yield their gradients themselves, in one pass: candle's operations would take many, each on one
//! thread.

mod angle_relation;
mod binary_cross_entropy;
mod class_balanced;
mod cross_entropy;
mod double_regression;
mod dual_teacher;
mod global_kd;
mod head_cross_entropy;
mod less_forget;
mod logit_kd;
mod logit_l1;
mod margin_ranking;
mod nca;
mod old_head;
mod pod_spatial;
mod scaled;
mod vid;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};
use cil_backbone::POOLED;
use cil_engine::{Graph, ParameterSpec, Shape};

use crate::recipe::{Rows, TermSpec};
use crate::step::Step;

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

/// The objective on a step.
#[derive(Debug)]
pub struct Outcome {
    /// The weighted sum; candle differentiates the part of it that is not of maps.
    pub total: Tensor,
    /// Each term's own value.
    pub parts: BTreeMap<String, Tensor>,
    /// The gradients of the part that is of maps.
    pub grads: MapGrads,
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
    /// name.
    fn values(&self) -> Vec<ParameterSpec> {
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

/// A weighted list of terms.
#[derive(Debug)]
pub struct Objective {
    terms: Vec<(f64, Box<dyn Term>)>,
}

impl Objective {
    /// The objective that the specs describe, for a backbone of that graph with all its taps.
    ///
    /// # Errors
    /// If a term reads a stage that the backbone has not.
    pub fn new(specs: &[TermSpec], graph: &Graph) -> Result<Self> {
        Ok(Self { terms: specs.iter().map(|spec| build(spec, graph)).collect::<Result<_>>()? })
    }

    /// Taps whose maps are read, of student and teachers; sorted.
    pub fn maps(&self) -> Vec<String> {
        let mut maps: Vec<String> = self.terms.iter().flat_map(|(_, term)| term.maps()).collect();
        maps.sort();
        maps.dedup();
        maps
    }

    /// The terms' own networks, as they begin.
    ///
    /// # Errors
    /// If a graph cannot be built or the device refuses a tensor.
    pub fn aux_nets(&self, device: &Device) -> Result<Vec<AuxNet>> {
        let aux_nets =
            self.terms.iter().map(|(_, term)| term.aux_nets(device)).collect::<Result<Vec<_>>>()?;
        Ok(aux_nets.into_iter().flatten().collect())
    }

    /// Values of the terms' own.
    pub fn values(&self) -> Vec<ParameterSpec> {
        self.terms.iter().flat_map(|(_, term)| term.values()).collect()
    }

    /// Whether a term reads [`Step::class_counts`].
    pub fn counts_classes(&self) -> bool {
        self.terms.iter().any(|(_, term)| term.counts_classes())
    }

    /// Whether a term reads [`Step::new_of_all`].
    pub fn asks_new_teacher_of_all(&self) -> bool {
        self.terms.iter().any(|(_, term)| term.asks_new_teacher_of_all())
    }

    /// The weighted sum, each term's own value, and the gradients of terms on maps.
    ///
    /// # Errors
    /// If no term applies to the step, or one fails.
    pub fn loss(&self, step: &Step<'_>) -> Result<Outcome> {
        let (mut total, mut parts): (Option<Tensor>, _) = (None, BTreeMap::new());
        let mut grads = MapGrads::default();
        for (weight, term) in &self.terms {
            let part = match term.loss(step)? {
                Some(part) => Some(part),
                None => term.loss_on_maps(step, *weight, &mut grads)?,
            };
            let Some(part) = part else { continue };
            let weighted = (&part * *weight)?;
            total = Some(match total {
                Some(sum) => (sum + weighted)?,
                None => weighted,
            });
            parts.insert(term.name().to_owned(), part.detach());
        }
        match total {
            Some(total) => Ok(Outcome { total, parts, grads }),
            None => bail!("no term of the objective applies to this step"),
        }
    }
}

fn build(spec: &TermSpec, graph: &Graph) -> Result<(f64, Box<dyn Term>)> {
    let term: Box<dyn Term> = match *spec {
        TermSpec::Scaled { by, ref term } => Box::new(scaled::Scaled { by, term: build(term, graph)?.1 }),
        TermSpec::LogitL1 { rows, .. } => Box::new(logit_l1::LogitL1 { rows }),
        TermSpec::GlobalKd { temperature, rows, .. } => Box::new(global_kd::GlobalKd { temperature, rows }),
        TermSpec::AngleRelation { rows, projection, .. } => {
            let Some(Shape::Vector { width }) = graph.tap_shape(POOLED) else {
                bail!("the backbone returns no features")
            };
            Box::new(angle_relation::AngleRelation { rows, width, projected: projection * width })
        }
        TermSpec::ClassBalanced { rows, .. } => Box::new(class_balanced::ClassBalanced { rows }),
        TermSpec::HeadCrossEntropy { rows, balanced, .. } => {
            Box::new(head_cross_entropy::HeadCrossEntropy { rows, balanced })
        }
        TermSpec::OldHead { rows, .. } => Box::new(old_head::OldHead { rows }),
        TermSpec::DoubleRegression { centring, .. } => {
            Box::new(double_regression::DoubleRegression { centring })
        }
        TermSpec::BinaryCrossEntropy { rows, .. } => {
            Box::new(binary_cross_entropy::BinaryCrossEntropy { rows })
        }
        TermSpec::CrossEntropy { rows, columns, balanced, smoothing, .. } => {
            Box::new(cross_entropy::CrossEntropy { rows, columns, balanced, smoothing })
        }
        TermSpec::LogitKd { temperature, rows, .. } => Box::new(logit_kd::LogitKd { temperature, rows }),
        TermSpec::Nca { form, rows, balanced, .. } => Box::new(nca::Nca { form, rows, balanced }),
        TermSpec::LessForget { adaptive, rows, .. } => {
            let growth = if adaptive { Growth::OldOverNew } else { Growth::None };
            Box::new(less_forget::LessForget { name: "less-forget", growth, rows })
        }
        TermSpec::PodFlat { adaptive, rows, .. } => {
            let growth = if adaptive { Growth::SeenOverNew } else { Growth::None };
            Box::new(less_forget::LessForget { name: "pod-flat", growth, rows })
        }
        TermSpec::MarginRanking { margin, negatives, rows, .. } => {
            Box::new(margin_ranking::MarginRanking { margin, negatives, rows })
        }
        TermSpec::DualTeacher { config, rows, new_rows, .. } => {
            Box::new(dual_teacher::DualTeacher { config, rows, new_rows })
        }
        TermSpec::PodSpatial { adaptive, rows, .. } => {
            let maps = stage_maps(graph, &[])?.into_iter().map(|(name, _)| name).collect();
            let growth = if adaptive { Growth::SeenOverNew } else { Growth::None };
            Box::new(pod_spatial::PodSpatial { maps, growth, rows })
        }
        TermSpec::Vid { teachers, ref stages, rows, new_rows, regressor, .. } => {
            let maps = stage_maps(graph, stages)?;
            Box::new(vid::Vid::new(teachers, &maps, (rows, new_rows), regressor))
        }
        TermSpec::Custom(ref custom) => custom.term(),
    };
    Ok((spec.weight(), term))
}

/// How a term's weight grows with the classes seen.
#[derive(Clone, Copy, Debug)]
enum Growth {
    None,
    /// sqrt(old classes / new classes): LUCIR.
    OldOverNew,
    /// sqrt(classes seen / new classes): PODNet.
    SeenOverNew,
}

impl Growth {
    fn factor(self, step: &Step<'_>) -> f64 {
        let classes = match self {
            Self::None => return 1.0,
            Self::OldOverNew => step.old_classes,
            Self::SeenOverNew => step.classes,
        };
        (classes as f64 / (step.classes - step.old_classes) as f64).sqrt()
    }
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
fn narrow(tensor: &Tensor, range: &std::ops::Range<usize>) -> Result<Tensor> {
    tensor.narrow(0, range.start, range.len())
}
