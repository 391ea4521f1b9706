//! Whether all ranks of a run hold the same.
//!
//! Ranks do the same on the same bits, so the updated values have the same digest on each; it is compared after every
//! unit of work, before anything of the unit is recorded or saved. Machines that round differently are detected in the
//! first unit.

use anyhow::{Result, bail};
use cil_engine::ranks::{Ranks, first_that_differs};
use cil_train::learner::Learner;
use sha2::{Digest as _, Sha256};

use crate::folder::checkpoint::raw;

/// Refuses to continue where a rank's learner is not that of rank 0; `after`: the last unit of work.
///
/// # Errors
/// Naming the first such rank.
pub(super) fn check(ranks: &dyn Ranks, learner: &Learner, after: &str) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    match first_that_differs(ranks, &digest(learner)?)? {
        Some(rank) => bail!(
            "after {after} rank {rank} computed other values than rank 0, so their machines round differently; use \
             --kernels avx2 on machines of one kind"
        ),
        None => Ok(()),
    }
}

/// SHA-256 over where a learner stands and the values that its units move; between phases, over all its values.
fn digest(learner: &Learner) -> Result<[u8; 32]> {
    let saved = learner.save()?;
    let mut digest = Sha256::new().chain_update(serde_json::to_string(&saved.position)?);
    let stores = if saved.moving.is_empty() { &saved.fixed } else { &saved.moving };
    for (store, values) in stores {
        for (name, tensor) in values.iter() {
            digest.update(format!("{store}/{name}"));
            digest.update(raw(tensor)?.1);
        }
    }
    Ok(digest.finalize().into())
}
