//! Networks and values that terms bring.
//!
//! One decision: they live in a store of their own beside the student's, so nothing of them can get into a model, and
//! end with the job; the optimiser, its state and its rate are the student's. They run with batch statistics and keep
//! none.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor, Var, bail};
use cil_backbone::Network;
use cil_engine::optim::Group;
use cil_engine::parameters::initial_value;
use cil_engine::{
    Executor, ForwardSpec, Gradients, Graph, Keep, Norm, ParameterKind, ParameterSpec, Parameters, Pass,
    Upstream,
};
use cil_random::Draw;

use crate::recipe::Rows;
use crate::step::Step;
use crate::term::{Aid, OUTPUT};

/// A training pass that goes on to the student's map.
const TRAIN: ForwardSpec =
    ForwardSpec { norm: Norm::Batch, moments: false, keep: Keep::Tape { weights: true, input: true } };

/// All of a job's.
pub(super) struct Aids {
    /// Those that say a map itself have no executor.
    networks: Vec<(Aid, Option<Arc<dyn Executor>>)>,
    /// Names of values that candle differentiates.
    free: Vec<String>,
    pub(super) parameters: Parameters,
    pub(super) group: Group,
}

/// One network's part in a step.
pub(super) struct AidPass<'a> {
    aid: &'a Aid,
    rows: Range<usize>,
    /// `None` where it said the map itself.
    pass: Option<(&'a Arc<dyn Executor>, Pass)>,
}

impl Aids {
    /// As they begin: a function of the draw and of names.
    pub(super) fn new(
        aids: Vec<Aid>,
        free: &[ParameterSpec],
        network: &Network,
        draw: Draw<'_>,
        weight_decay: f64,
    ) -> Result<Self> {
        let seed = draw.stream("networks of terms").number();
        let dtype = network.parameters().iter().next().map_or(DType::F32, |(_, value)| value.dtype());
        let (mut networks, mut parameters, mut names) = (Vec::new(), Parameters::default(), Vec::new());
        for aid in aids {
            let begun = match &aid.graph {
                Some(graph) => Parameters::init(graph, seed, network.device())?,
                None => Parameters::default(),
            };
            let values = aid.values.iter().map(|(name, value)| (name.as_str(), value));
            for (name, value) in begun.iter().chain(values) {
                if parameters.contains(name) || network.parameters().contains(name) {
                    bail!("two trained tensors are named {name}");
                }
                parameters.set(name, value.to_dtype(dtype)?);
            }
            let specs = aid.graph.iter().flat_map(Graph::parameter_specs);
            names.extend(specs.filter(|it| it.kind == ParameterKind::Weight).map(|it| it.name));
            names.extend(aid.values.iter().map(|(name, _)| name.clone()));
            let executor = aid.graph.clone().map(|graph| (**network.executors())(graph)).transpose()?;
            networks.push((aid, executor));
        }
        for spec in free {
            let value = initial_value(spec, seed, network.device())?.to_dtype(dtype)?;
            if parameters.contains(&spec.name) || network.parameters().contains(&spec.name) {
                bail!("two trained tensors are named {}", spec.name);
            }
            parameters.set(&spec.name, value);
        }
        let free: Vec<String> = free.iter().map(|spec| spec.name.clone()).collect();
        names.extend(free.iter().cloned());
        Ok(Self { networks, free, parameters, group: Group { names, lr_scale: 1.0, weight_decay } })
    }

    /// The values that candle differentiates, as variables by name.
    pub(super) fn variables(&self) -> Result<BTreeMap<String, Var>> {
        let variable = |name: &String| Ok((name.clone(), Var::from_tensor(self.parameters.get(name)?)?));
        self.free.iter().map(variable).collect()
    }

    /// What those whose teacher speaks in this step say, and the values beside them, by name.
    pub(super) fn forward(&self, step: &Step<'_>) -> Result<(Vec<AidPass<'_>>, BTreeMap<String, Tensor>)> {
        let (mut passes, mut said) = (Vec::new(), BTreeMap::new());
        for (aid, executor) in &self.networks {
            let speaks = match (aid.for_new_teacher, aid.rows) {
                (false, _) => step.old.is_some(),
                (true, Rows::New) => step.new.is_some(),
                (true, _) => step.new_of_all.is_some(),
            };
            let rows = step.rows(aid.rows);
            if !speaks || rows.is_empty() {
                continue;
            }
            let Some(map) = step.student.maps.get(&aid.map) else {
                bail!("the student hands out no map {}", aid.map)
            };
            let map = map.narrow(0, rows.start, rows.len())?;
            let pass = match executor {
                Some(executor) => {
                    let pass = executor.forward(&self.parameters, &map, TRAIN)?;
                    said.insert(aid.name.clone(), pass.tap(OUTPUT)?.clone());
                    Some((executor, pass))
                }
                None => {
                    said.insert(aid.name.clone(), map);
                    None
                }
            };
            for (name, _) in &aid.values {
                said.insert(name.clone(), self.parameters.get(name)?.clone());
            }
            passes.push(AidPass { aid, rows, pass });
        }
        Ok((passes, said))
    }

    /// From gradients to what they said: weight gradients into `into`, and those to the student's maps (tap, rows,
    /// gradient).
    pub(super) fn backward(
        &self,
        passes: Vec<AidPass<'_>>,
        mut slopes: BTreeMap<String, Tensor>,
        into: &mut Gradients,
    ) -> Result<Vec<(String, Range<usize>, Tensor)>> {
        let mut to_maps = Vec::new();
        for AidPass { aid, rows, pass } in passes {
            for (name, _) in &aid.values {
                if let Some(slope) = slopes.remove(name) {
                    into.add(name, slope)?;
                }
            }
            let Some(slope) = slopes.remove(&aid.name) else { continue };
            let Some((executor, pass)) = pass else {
                to_maps.push((aid.map.clone(), rows, slope));
                continue;
            };
            let Some(tape) = pass.tape else { continue };
            let upstream =
                Upstream { taps: BTreeMap::from([(OUTPUT.to_owned(), slope)]), moments: BTreeMap::new() };
            let Some(gradient) = executor.backward(&self.parameters, tape, &upstream, into)? else {
                bail!("{} hands no gradient back to its map", aid.name)
            };
            to_maps.push((aid.map.clone(), rows, gradient));
        }
        Ok(to_maps)
    }
}
