//! The state of a job between two epochs, beside its inputs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cil_engine::Parameters;

use super::Job;

/// A saved job's values: its network's, or a generator's in an inversion.
pub(crate) const NETWORK: &str = "network";
/// Those of the terms' own networks.
pub(crate) const AUX_NETS: &str = "aids";
/// The optimiser's.
pub(crate) const OPTIMIZER: &str = "optimizer";

impl Job {
    /// The state to resume from, beside what the job was made of: epochs done, and values by what they are of.
    pub(crate) fn state(&self) -> Result<(usize, BTreeMap<String, Parameters>)> {
        let values = [
            (NETWORK, self.network.parameters().clone()),
            (AUX_NETS, self.aux_nets.parameters.clone()),
            (OPTIMIZER, self.optimizer.state()?),
        ];
        Ok((self.done, values.map(|(name, values)| (name.to_owned(), values)).into()))
    }

    /// Goes on from a state that a job of the same making gave.
    ///
    /// # Errors
    /// If the state is of another form.
    pub(crate) fn restore(
        &mut self,
        done: usize,
        network: &Parameters,
        aux_nets: &Parameters,
        optimizer: &Parameters,
    ) -> Result<()> {
        self.network.parameters_mut().replace(network).context("the network")?;
        self.aux_nets.parameters.replace(aux_nets).context("networks of terms")?;
        self.optimizer.load_state(optimizer, &[self.network.parameters(), &self.aux_nets.parameters])?;
        self.done = done;
        Ok(())
    }
}
