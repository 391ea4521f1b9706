//! Both teachers' maps, each regressed from the student's (DT-ID at intermediate layers, by VID).

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_engine::measures::{self, Gaussian};
use cil_engine::{Graph, GraphBuilder, Op, Shape};
use dtid::vid::{VARIANCE_FLOOR, VidGrads, initial_raw_variance, vid_grads};
use serde::{Deserialize, Serialize};

use super::{AuxNet, MapGrads, OUTPUT, Settings, Term, defaults, narrow, stage_maps};
use crate::step::{Rows, Step};

/// The teachers whose maps a term distils.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teachers {
    /// The model of the task before.
    Old,
    /// The teacher of the new classes.
    New,
    /// Either, each with regressors of its own.
    Both,
}

/// The network from the student's map to a teacher's in variational information distillation; the number of channels
/// stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regressor {
    /// Three 1x1 convolutions with ReLU between, as RepDistiller's port of the authors' code.
    Plain,
    /// 1x1 convolution, batch norm, ReLU, 1x1 convolution (ours): a third less work, and scaled by its batch.
    Normed,
    /// None: the student's map itself is the Gaussian's mean, and variances alone are learned. Student and teachers are
    /// of one form, so maps fit.
    Identity,
}

/// Variational information distillation of the teachers' stage maps, summed over stages and teachers (DT-ID at
/// intermediate layers). Regressors and variances train with the student and end with the phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vid {
    /// Weight in the objective; 1 in RepDistiller's code.
    pub weight: f64,
    /// The teachers whose maps are distilled. In a task without a new teacher, the old one's alone.
    pub teachers: Teachers,
    /// Stages by number, from 1; empty for all.
    pub stages: Vec<usize>,
    /// Rows on which the old teacher is followed: best `all`, as LUCIR and PODNet distil on new images too, or
    /// `old`.
    pub rows: Rows,
    /// Rows on which the new teacher is followed; `new` where it is not written, the images that it was trained on.
    #[serde(default = "defaults::new", skip_serializing_if = "defaults::is_new")]
    pub new_rows: Rows,
    /// Form of the regressors.
    pub regressor: Regressor,
}

impl Settings for Vid {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows, self.new_rows]
    }

    fn stages(&self) -> Option<&[usize]> {
        Some(&self.stages)
    }

    fn vid_teachers(&self) -> Option<Teachers> {
        Some(self.teachers)
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        let maps = stage_maps(graph, &self.stages)?;
        Ok(Box::new(Links::new(self.teachers, &maps, (self.rows, self.new_rows), self.regressor)))
    }
}

/// The term on a network's maps.
#[derive(Debug)]
struct Links {
    links: Vec<Link>,
}

/// One teacher's map of one stage.
#[derive(Debug)]
struct Link {
    /// Name of the regressor.
    name: String,
    map: String,
    shape: Shape,
    new: bool,
    rows: Rows,
    regressor: Regressor,
}

impl Links {
    /// On `maps`, taps and their shapes; `rows` are the old teacher's and the new one's.
    fn new(teachers: Teachers, maps: &[(String, Shape)], rows: (Rows, Rows), regressor: Regressor) -> Self {
        let mut links = Vec::new();
        for (new, there) in [(false, teachers != Teachers::New), (true, teachers != Teachers::Old)] {
            for (map, shape) in maps.iter().filter(|_| there) {
                links.push(Link {
                    name: format!("vid.{}.{map}", if new { "new" } else { "old" }),
                    map: map.clone(),
                    shape: *shape,
                    new,
                    rows: if new { rows.1 } else { rows.0 },
                    regressor,
                });
            }
        }
        Self { links }
    }
}

impl Link {
    /// Name of the raw variances.
    fn variance(&self) -> String {
        format!("{}.variance", self.name)
    }

    /// As many channels out as in, position by position; `None` where the map itself is the mean.
    fn graph(&self) -> Result<Option<Graph>> {
        let mut graph = GraphBuilder::new(self.shape);
        let (name, channels) = (&self.name, self.shape.channels());
        let convolution =
            || Op::Conv2d { out_channels: channels, kernel: 1, stride: 1, padding: 0, bias: false };
        let input = graph.input();
        let x = match self.regressor {
            Regressor::Identity => return Ok(None),
            Regressor::Plain => {
                let x = graph.add(&format!("{name}.conv1"), convolution(), &[input])?;
                let x = graph.add(&format!("{name}.relu1"), Op::Relu, &[x])?;
                let x = graph.add(&format!("{name}.conv2"), convolution(), &[x])?;
                let x = graph.add(&format!("{name}.relu2"), Op::Relu, &[x])?;
                graph.add(&format!("{name}.conv3"), convolution(), &[x])?
            }
            Regressor::Normed => {
                let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
                let x = graph.add(&format!("{name}.conv1"), convolution(), &[input])?;
                let x = graph.add(&format!("{name}.norm1"), norm, &[x])?;
                let x = graph.add(&format!("{name}.relu1"), Op::Relu, &[x])?;
                graph.add(&format!("{name}.conv2"), convolution(), &[x])?
            }
        };
        graph.tap(OUTPUT, x);
        graph.build().map(Some)
    }
}

impl Term for Links {
    fn name(&self) -> &'static str {
        "vid"
    }

    fn loss(&self, _step: &Step<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn asks_new_teacher_of_all(&self) -> bool {
        self.links.iter().any(|link| link.new && link.rows != Rows::New)
    }

    fn maps(&self) -> Vec<String> {
        self.links.iter().map(|link| link.map.clone()).collect()
    }

    fn aux_nets(&self, device: &Device) -> Result<Vec<AuxNet>> {
        let aux_net = |link: &Link| {
            let variance = initial_raw_variance(link.shape.channels(), DType::F32, device)?;
            Ok(AuxNet {
                name: link.name.clone(),
                map: link.map.clone(),
                for_new_teacher: link.new,
                rows: link.rows,
                graph: link.graph()?,
                values: vec![(link.variance(), variance)],
            })
        };
        self.links.iter().map(aux_net).collect()
    }

    /// Where a teacher says nothing its part is left out.
    fn loss_on_maps(&self, step: &Step<'_>, weight: f64, grads: &mut MapGrads) -> Result<Option<Tensor>> {
        let mut sum: Option<Tensor> = None;
        for link in &self.links {
            let Some(mean) = step.aux_nets.get(&link.name) else { continue };
            let map = match link.new {
                true => step.of_new_teacher(link.rows, |view| view.maps.get(&link.map))?,
                false => match step.old.and_then(|view| view.maps.get(&link.map)) {
                    Some(map) => Some(narrow(map, &step.rows(link.rows))?),
                    None => None,
                },
            };
            let Some(map) = map else { bail!("a teacher returns no {}", link.map) };
            let Some(raw) = step.aux_nets.get(&link.variance()) else {
                bail!("{} is missing", link.variance())
            };
            // A GPU's maps stay there.
            let found = match measures::gaussian(mean, &map, raw, VARIANCE_FLOOR, weight)? {
                Some(Gaussian { loss, mean, raw_variance }) => VidGrads { loss, mean, raw_variance },
                None => vid_grads(mean, &map, raw, weight)?,
            };
            grads.aux_nets.insert(link.name.clone(), found.mean);
            grads.aux_nets.insert(link.variance(), found.raw_variance);
            sum = Some(match sum {
                Some(sum) => (sum + found.loss)?,
                None => found.loss,
            });
        }
        Ok(sum)
    }
}
