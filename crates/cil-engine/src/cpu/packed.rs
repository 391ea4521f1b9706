//! Packed weights of values that do not change.
//!
//! A frozen network runs again and again with the same weights, and packing them, Winograd's transform above all, is a
//! tenth to a third of a pass in evaluation. So a pass that keeps nothing for weight gradients leaves them here for the
//! next one with the same version of the parameters; a training step, whose weights are gone after it, does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Result;

use super::buffers::Buffer;

/// Which way packed weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    /// By the forward pass.
    Forward,
    /// By the gradient to the input.
    Backward,
}

#[derive(Debug, Default)]
struct Kept {
    version: u64,
    weights: BTreeMap<(usize, Direction), Arc<Buffer>>,
}

/// Packed weights by convolution, of one version of the parameters.
#[derive(Debug, Default)]
pub(super) struct Packed {
    kept: Mutex<Kept>,
}

impl Packed {
    /// The weights of a convolution as `direction` reads them; made by `make` where they are not there, and kept if
    /// `keep`.
    pub(super) fn get(
        &self,
        version: u64,
        (node, direction): (usize, Direction),
        keep: bool,
        make: impl FnOnce() -> Result<Buffer>,
    ) -> Result<Arc<Buffer>> {
        {
            let mut kept = self.lock();
            if kept.version != version {
                // Other parameters: what is kept of the last ones will not be asked for again.
                kept.weights.clear();
                kept.version = version;
            }
            if let Some(there) = kept.weights.get(&(node, direction)) {
                return Ok(there.clone());
            }
        }
        let made = Arc::new(make()?);
        let mut kept = self.lock();
        if keep && kept.version == version {
            kept.weights.insert((node, direction), made.clone());
        }
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
