//! Optimisers and learning-rate schedules.
//!
//! An optimiser owns nothing but its state, by parameter name. Each step passes [`Group`]s that name the parameters to
//! update and their rates; a parameter that no group names, or that has no gradient, stays as it is. The rules are
//! PyTorch's, so published settings keep their meaning.

mod fused;
mod schedule;
mod tensors;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use schedule::{Decay, Schedule};

use crate::executor::Gradients;
use crate::parameters::Parameters;

/// Parameters that are moved alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Names in the store of parameters.
    pub names: Vec<String>,
    /// Factor on the step's learning rate.
    pub lr_scale: f64,
    /// L2 penalty: this times the value is added to the gradient.
    pub weight_decay: f64,
}

/// Which rule moves the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD` without dampening.
    Sgd {
        /// Share of the last step that is kept.
        momentum: f64,
        /// Whether the gradient is taken ahead of the momentum step.
        nesterov: bool,
    },
    /// Adam (Kingma & Ba 2015) with bias correction, as `torch.optim.Adam`.
    Adam {
        /// Decay of the mean gradient.
        beta1: f64,
        /// Decay of the mean squared gradient.
        beta2: f64,
        /// Added to the root of the mean square.
        epsilon: f64,
    },
}

/// The first-moment (or momentum) part of the state.
const FIRST: &str = "first.";
/// The second-moment part of the state.
const SECOND: &str = "second.";
/// The count of steps that a parameter has taken.
const STEPS: &str = "steps.";

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) first: Tensor,
    pub(crate) second: Option<Tensor>,
    pub(crate) steps: u32,
}

/// One parameter's step.
#[derive(Clone, Copy)]
pub(crate) struct Move<'a> {
    pub(crate) value: &'a Tensor,
    pub(crate) gradient: &'a Tensor,
    pub(crate) before: Option<&'a State>,
    pub(crate) learning_rate: f64,
    pub(crate) weight_decay: f64,
}

impl Move<'_> {
    /// Steps taken, this one included.
    pub(crate) fn steps(&self) -> u32 {
        self.before.map_or(0, |state| state.steps) + 1
    }
}

/// The parameters that a step updated, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Names of parameters.
    names: Vec<String>,
    /// Factors on the step's learning rate, as bits.
    lr_scales: Vec<u64>,
}

/// A rule and its state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    states: BTreeMap<String, State>,
    rates: Rates,
}

impl Optimizer {
    /// An optimiser that has taken no step.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, states: BTreeMap::new(), rates: Rates::default() }
    }

    /// Moves every parameter that a group names and `gradients` holds; says which these were.
    ///
    /// # Errors
    /// If two groups name one parameter, a name is not in `parameters`, or a gradient has another shape. Nothing is
    /// moved then.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        groups: &[Group],
        learning_rate: f64,
    ) -> Result<Moved> {
        let mut seen = BTreeSet::new();
        for name in groups.iter().flat_map(|group| &group.names) {
            if !seen.insert(name) {
                bail!("parameter {name} is in two groups of an optimiser");
            }
            let value = parameters.get(name)?;
            match gradients.get(name) {
                Some(gradient) if gradient.dims() != value.dims() => {
                    bail!(
                        "the gradient of {name} is {:?}, the parameter is {:?}",
                        gradient.dims(),
                        value.dims()
                    );
                }
                _ => {}
            }
        }
        let (mut moves, mut all) = (Vec::new(), Moved { names: Vec::new(), lr_scales: Vec::new() });
        for group in groups {
            for name in &group.names {
                let Some(gradient) = gradients.get(name) else { continue };
                let of = Move {
                    value: parameters.get(name)?,
                    gradient,
                    before: self.states.get(name),
                    learning_rate: learning_rate * group.lr_scale,
                    weight_decay: group.weight_decay,
                };
                moves.push(of);
                all.names.push(name.clone());
                all.lr_scales.push(group.lr_scale.to_bits());
            }
        }
        let moved = match on_gpu(self.config, &moves, &all, &mut self.rates)? {
            Some(moved) => moved,
            None => moves.par_iter().map(|of| one(self.config, of)).collect::<Result<Vec<_>>>()?,
        };
        for (name, (value, state)) in all.names.iter().zip(moved) {
            parameters.set(name, value);
            self.states.insert(name.clone(), state);
        }
        Ok(all)
    }

    /// Every tensor of the state, in the order of names: what a step replaces.
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        self.states
            .values_mut()
            .flat_map(|state| std::iter::once(&mut state.first).chain(&mut state.second))
            .collect()
    }

    /// Brings to a GPU the pace of the next step that moves the same parameters: what a captured one reads there.
    ///
    /// # Errors
    /// If a parameter was never moved, or the device refuses it.
    pub fn prepare(&mut self, moved: &Moved, learning_rate: f64) -> Result<()> {
        let Some(first) = moved.names.first().and_then(|name| self.states.get(name)) else { return Ok(()) };
        let device = first.first.device().clone();
        let mut paces = Vec::with_capacity(moved.names.len());
        for (name, lr_scale) in moved.names.iter().zip(&moved.lr_scales) {
            let Some(state) = self.states.get(name) else { bail!("{name} was never moved") };
            paces.push((learning_rate * f64::from_bits(*lr_scale), state.steps + 1));
        }
        prepare_on_gpu(self.config, &device, moved, &paces, &mut self.rates)
    }

    /// Counts a step that moved these and that the device did by itself.
    pub fn repeated(&mut self, moved: &Moved) {
        for name in &moved.names {
            self.states.entry(name.clone()).and_modify(|state| state.steps += 1);
        }
    }

    /// The whole state as named tensors, for a checkpoint.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn state(&self) -> Result<Parameters> {
        let mut tensors = BTreeMap::new();
        for (name, state) in &self.states {
            tensors.insert(format!("{FIRST}{name}"), state.first.clone());
            if let Some(second) = &state.second {
                tensors.insert(format!("{SECOND}{name}"), second.clone());
            }
            tensors.insert(format!("{STEPS}{name}"), Tensor::new(&[state.steps], state.first.device())?);
        }
        Ok(Parameters::from_tensors(tensors))
    }

    /// Takes up a state that [`Self::state`] gave, of values that are in `stores`.
    ///
    /// # Errors
    /// If a tensor is unknown or missing, has another shape or type than its value, or belongs to another rule. Nothing
    /// has changed then.
    pub fn load_state(&mut self, tensors: &Parameters, stores: &[&Parameters]) -> Result<()> {
        let adam = matches!(self.config, OptimizerConfig::Adam { .. });
        let mut states = BTreeMap::new();
        for (key, first) in tensors.iter() {
            let Some(name) = key.strip_prefix(FIRST) else {
                let known = key.strip_prefix(SECOND).or_else(|| key.strip_prefix(STEPS));
                if known.is_none_or(|name| !tensors.contains(&format!("{FIRST}{name}"))) {
                    bail!("an optimiser's state holds no tensor {key}");
                }
                continue;
            };
            let Some(value) = stores.iter().find_map(|store| store.get(name).ok()) else {
                bail!("the optimiser's state is of {name}, which is no parameter");
            };
            let key = format!("{SECOND}{name}");
            let second = if tensors.contains(&key) { Some(tensors.get(&key)?.clone()) } else { None };
            if second.is_some() != adam {
                bail!("the optimiser's state of {name} is not one of {:?}", self.config);
            }
            if [Some(first), second.as_ref()].into_iter().flatten().any(|it| !is_like(it, value)) {
                bail!("the optimiser's state of {name} is not {:?} {:?}", value.dtype(), value.dims());
            }
            let key = format!("{STEPS}{name}");
            if !tensors.contains(&key) {
                bail!("the optimiser's state of {name} lacks its count of steps");
            }
            let steps = tensors.get(&key)?.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
            let [steps] = steps[..] else { bail!("the count of steps of {name} is not one number") };
            states.insert(name.to_owned(), State { first: first.clone(), second, steps });
        }
        self.states = states;
        Ok(())
    }
}

/// One parameter's new value and state.
fn one(config: OptimizerConfig, of: &Move<'_>) -> Result<(Tensor, State)> {
    match fused::moved(config, of)? {
        Some(moved) => Ok(moved),
        None => tensors::moved(config, of),
    }
}

/// All of them, if they are on a GPU.
#[cfg(feature = "cuda")]
use crate::cuda::{Rates, moved as on_gpu, prepare as prepare_on_gpu};

/// Nothing: rates that the processor needs are at hand.
#[cfg(not(feature = "cuda"))]
#[derive(Clone, Debug, Default)]
struct Rates {}

#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
fn on_gpu(
    _: OptimizerConfig,
    _: &[Move<'_>],
    _: &Moved,
    _: &mut Rates,
) -> Result<Option<Vec<(Tensor, State)>>> {
    Ok(None)
}

#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
fn prepare_on_gpu(
    _: OptimizerConfig,
    _: &candle_core::Device,
    _: &Moved,
    _: &[(f64, u32)],
    _: &mut Rates,
) -> Result<()> {
    Ok(())
}

/// Whether two tensors have one shape and type.
fn is_like(one: &Tensor, other: &Tensor) -> bool {
    one.dims() == other.dims() && one.dtype() == other.dtype()
}

#[cfg(test)]
mod tests;
