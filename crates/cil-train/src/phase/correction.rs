//! Bias correction (BiC, Wu et al. 2019) as a job: two numbers stand between the newest classes' weights and their
//! logits.
//!
//! They are values of the network while the job lasts, under names that no network has, and go into the newest head
//! block at its end; so none of them can remain in a model.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Tensor, Var, bail};
use cil_backbone::{HeadWeights, Network};
use cil_engine::Parameters;
use cil_engine::optim::Group;

use super::Job;
use crate::recipe::Trained;

/// The newest classes' logits are multiplied by this.
const SCALE: &str = "correction.scale";
/// And this is added.
const SHIFT: &str = "correction.shift";

/// Both as they begin, 1 and 0, and how they move: only the second is drawn to 0.
pub(super) fn groups(network: &mut Network, weight_decay: f64) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    let dtype = network.parameters().get(&network.head().block_names(0)[0])?.dtype();
    for (name, value, weight_decay) in [(SCALE, 1f64, 0.0), (SHIFT, 0.0, weight_decay)] {
        let value = Tensor::new(&[value], network.device())?.to_dtype(dtype)?;
        network.parameters_mut().set(name, value);
        groups.push(Group { names: vec![name.to_owned()], lr_scale: 1.0, weight_decay });
    }
    Ok(groups)
}

impl Job {
    /// Those of a job's saved values that are a network's, without what a correction puts beside them.
    pub(crate) fn own_values(saved: &Parameters) -> Parameters {
        let mut own = saved.clone();
        for name in [SCALE, SHIFT] {
            own.remove(name);
        }
        own
    }

    /// The head with the newest block corrected, by variables that join `variables`; the head itself in other phases.
    pub(super) fn corrected(
        &self,
        mut head: HeadWeights,
        variables: &mut BTreeMap<String, Var>,
    ) -> candle_core::Result<HeadWeights> {
        if self.spec.trained != Trained::Correction {
            return Ok(head);
        }
        let mut variable = |name: &str| -> candle_core::Result<Tensor> {
            let variable = Var::from_tensor(self.network.parameters().get(name)?)?;
            let tensor = variable.as_tensor().clone();
            variables.insert(name.to_owned(), variable);
            Ok(tensor)
        };
        let (scale, shift) = (variable(SCALE)?, variable(SHIFT)?);
        apply(&mut head, &scale, &shift)?;
        Ok(head)
    }

    /// The trained network; what corrects a bias is in the newest block.
    pub(crate) fn finished(mut self) -> Result<Network> {
        if self.spec.trained != Trained::Correction {
            return Ok(self.network);
        }
        let mut head = self.network.head().weights(self.network.parameters())?;
        let newest = self.network.head().block_names(head.weights.len() - 1);
        let parameters = self.network.parameters_mut();
        let (Some(scale), Some(shift)) = (parameters.remove(SCALE), parameters.remove(SHIFT)) else {
            anyhow::bail!("the numbers of a bias correction are missing");
        };
        apply(&mut head, &scale, &shift)?;
        for (name, value) in newest.iter().zip(head.weights.pop().into_iter().chain(head.biases.pop())) {
            parameters.set(name, value);
        }
        Ok(self.network)
    }
}

/// The newest block times `scale`, its biases plus `shift`.
fn apply(head: &mut HeadWeights, scale: &Tensor, shift: &Tensor) -> candle_core::Result<()> {
    let (Some(weight), Some(bias)) = (head.weights.last_mut(), head.biases.last_mut()) else {
        bail!("a bias is corrected in a head with biases")
    };
    *weight = weight.broadcast_mul(scale)?;
    *bias = bias.broadcast_mul(scale)?.broadcast_add(shift)?;
    Ok(())
}
