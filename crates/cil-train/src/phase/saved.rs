//! What a job is between two epochs, beside what it was made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cil_engine::Parameters;

use super::Job;

/// A saved job's values: its network's, or a generator's in an inversion.
pub(crate) const NETWORK: &str = "network";
/// Those of the terms' own networks.
pub(crate) const AIDS: &str = "aids";
/// The optimiser's.
pub(crate) const OPTIMIZER: &str = "optimizer";

impl Job {
    /// What it takes to go on from here, beside what the job was made of: epochs done, and values by what they are of.
    pub(crate) fn state(&self) -> Result<(usize, BTreeMap<String, Parameters>)> {
        let values = [
            (NETWORK, self.network.parameters().clone()),
            (AIDS, self.aids.parameters.clone()),
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
        aids: &Parameters,
        optimizer: &Parameters,
    ) -> Result<()> {
        self.network.parameters_mut().replace(network).context("the network")?;
        self.aids.parameters.replace(aids).context("networks of terms")?;
        self.optimizer.load_state(optimizer, &[self.network.parameters(), &self.aids.parameters])?;
        self.done = done;
        Ok(())
    }
}
