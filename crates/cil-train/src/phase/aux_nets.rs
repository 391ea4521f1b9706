//! Auxiliary networks and values of terms.
//!
//! They live in a store of their own beside the student's, so nothing of them can get into a model, and end with the
//! job; the optimiser, its state and its rate are the student's. They run with batch statistics and keep none.

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
use crate::term::{AuxNet, OUTPUT};

/// A training pass whose gradient continues into the student's map.
const TRAIN: ForwardSpec =
    ForwardSpec { norm: Norm::Batch, moments: false, keep: Keep::Tape { weights: true, input: true } };

/// All of a job's auxiliary networks.
pub(super) struct AuxNets {
    /// Those whose output is the map itself have no executor.
    networks: Vec<(AuxNet, Option<Arc<dyn Executor>>)>,
    /// Names of values that candle differentiates.
    free: Vec<String>,
    pub(super) parameters: Parameters,
    pub(super) group: Group,
}

/// One network's part in a step.
pub(super) struct AuxPass<'a> {
    aux_net: &'a AuxNet,
    rows: Range<usize>,
    /// `None` where the output was the map itself.
    pass: Option<(&'a Arc<dyn Executor>, Pass)>,
}

impl AuxNets {
    /// As they begin: a function of the draw and of names.
    pub(super) fn new(
        aux_nets: Vec<AuxNet>,
        free: &[ParameterSpec],
        network: &Network,
        draw: Draw<'_>,
        weight_decay: f64,
    ) -> Result<Self> {
        let seed = draw.stream("networks of terms").number();
        let dtype = network.parameters().iter().next().map_or(DType::F32, |(_, value)| value.dtype());
        let (mut networks, mut parameters, mut names) = (Vec::new(), Parameters::default(), Vec::new());
        for aux_net in aux_nets {
            let begun = match &aux_net.graph {
                Some(graph) => Parameters::init(graph, seed, network.device())?,
                None => Parameters::default(),
            };
            let values = aux_net.values.iter().map(|(name, value)| (name.as_str(), value));
            for (name, value) in begun.iter().chain(values) {
                if parameters.contains(name) || network.parameters().contains(name) {
                    bail!("two trained tensors are named {name}");
                }
                parameters.set(name, value.to_dtype(dtype)?);
            }
            let specs = aux_net.graph.iter().flat_map(Graph::parameter_specs);
            names.extend(specs.filter(|it| it.kind == ParameterKind::Weight).map(|it| it.name));
            names.extend(aux_net.values.iter().map(|(name, _)| name.clone()));
            let executor = aux_net.graph.clone().map(|graph| (**network.executors())(graph)).transpose()?;
            networks.push((aux_net, executor));
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

    /// The outputs of the networks whose teacher is used in this step, and their other values, by name.
    pub(super) fn forward(&self, step: &Step<'_>) -> Result<(Vec<AuxPass<'_>>, BTreeMap<String, Tensor>)> {
        let (mut passes, mut said) = (Vec::new(), BTreeMap::new());
        for (aux_net, executor) in &self.networks {
            let speaks = match (aux_net.for_new_teacher, aux_net.rows) {
                (false, _) => step.old.is_some(),
                (true, Rows::New) => step.new.is_some(),
                (true, _) => step.new_of_all.is_some(),
            };
            let rows = step.rows(aux_net.rows);
            if !speaks || rows.is_empty() {
                continue;
            }
            let Some(map) = step.student.maps.get(&aux_net.map) else {
                bail!("the student returns no map {}", aux_net.map)
            };
            let map = map.narrow(0, rows.start, rows.len())?;
            let pass = match executor {
                Some(executor) => {
                    let pass = executor.forward(&self.parameters, &map, TRAIN)?;
                    said.insert(aux_net.name.clone(), pass.tap(OUTPUT)?.clone());
                    Some((executor, pass))
                }
                None => {
                    said.insert(aux_net.name.clone(), map);
                    None
                }
            };
            for (name, _) in &aux_net.values {
                said.insert(name.clone(), self.parameters.get(name)?.clone());
            }
            passes.push(AuxPass { aux_net, rows, pass });
        }
        Ok((passes, said))
    }

    /// From gradients to what they said: weight gradients into `into`, and those to the student's maps (tap, rows,
    /// gradient).
    pub(super) fn backward(
        &self,
        passes: Vec<AuxPass<'_>>,
        mut grads: BTreeMap<String, Tensor>,
        into: &mut Gradients,
    ) -> Result<Vec<(String, Range<usize>, Tensor)>> {
        let mut to_maps = Vec::new();
        for AuxPass { aux_net, rows, pass } in passes {
            for (name, _) in &aux_net.values {
                if let Some(grad) = grads.remove(name) {
                    into.add(name, grad)?;
                }
            }
            let Some(grad) = grads.remove(&aux_net.name) else { continue };
            let Some((executor, pass)) = pass else {
                to_maps.push((aux_net.map.clone(), rows, grad));
                continue;
            };
            let Some(tape) = pass.tape else { continue };
            let upstream =
                Upstream { taps: BTreeMap::from([(OUTPUT.to_owned(), grad)]), moments: BTreeMap::new() };
            let Some(gradient) = executor.backward(&self.parameters, tape, &upstream, into)? else {
                bail!("{} hands no gradient back to its map", aux_net.name)
            };
            to_maps.push((aux_net.map.clone(), rows, gradient));
        }
        Ok(to_maps)
    }
}
