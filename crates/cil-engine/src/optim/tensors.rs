//! An optimiser's rule in candle's operations, for tensors of any device and type.
//!
//! This is the rule that [`super::fused`] is compared with, bit for bit.

use candle_core::{Result, Tensor};

use super::{Move, OptimizerConfig, State};

/// The new value and state.
pub(super) fn moved(config: OptimizerConfig, it: &Move<'_>) -> Result<(Tensor, State)> {
    let (value, before, steps) = (it.value, it.before, it.steps());
    let gradient = match it.weight_decay {
        0.0 => it.gradient.clone(),
        decay => (it.gradient + (value * decay)?)?,
    };
    match config {
        OptimizerConfig::Sgd { momentum, nesterov } => {
            let first = match before {
                Some(state) => ((&state.first * momentum)? + &gradient)?,
                None => gradient.copy()?,
            };
            let direction = if nesterov { (gradient + (&first * momentum)?)? } else { first.clone() };
            let moved = (value - (direction * it.learning_rate)?)?;
            Ok((moved, State { first: first.detach(), second: None, steps }))
        }
        OptimizerConfig::Adam { beta1, beta2, epsilon } => {
            let blend = |before: Option<&Tensor>, new: Tensor, beta: f64| match before {
                Some(before) => (before * beta)? + (new * (1.0 - beta))?,
                None => new * (1.0 - beta),
            };
            let first = blend(before.map(|state| &state.first), gradient.clone(), beta1)?;
            let second = blend(before.and_then(|state| state.second.as_ref()), gradient.sqr()?, beta2)?;
            let correction = |beta: f64| 1.0 - beta.powi(steps as i32);
            let root = ((second.sqrt()? / correction(beta2).sqrt())? + epsilon)?;
            let moved = (value - ((&first / root)? * (it.learning_rate / correction(beta1)))?)?;
            Ok((moved, State { first: first.detach(), second: Some(second.detach()), steps }))
        }
    }
}
