//! Both teachers' maps, each regressed from the student's (DT-ID at intermediate layers, by VID).

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_engine::measures::{self, Gaussian};
use cil_engine::{Graph, GraphBuilder, Op, Shape};
use dtid::vid::{VARIANCE_FLOOR, VidGrads, initial_raw_variance, vid_grads};

use super::{AuxNet, MapGrads, OUTPUT, Term, narrow};
use crate::recipe::{Regressor, Rows, Teachers};
use crate::step::Step;

/// See [`crate::recipe::TermSpec::Vid`].
#[derive(Debug)]
pub(super) struct Vid {
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

impl Vid {
    /// On `maps`, taps and their shapes; `rows` are the old teacher's and the new one's.
    pub(super) fn new(
        teachers: Teachers,
        maps: &[(String, Shape)],
        rows: (Rows, Rows),
        regressor: Regressor,
    ) -> Self {
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

impl Term for Vid {
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
