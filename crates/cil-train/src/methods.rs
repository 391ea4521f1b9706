//! The methods, and the paper's two schemes as functions from recipe to recipe.
//!
//! A method is one file: its recipe, and a [`Method`] that says its name, what can be added to it, the settings that
//! its source published, and its presets. A new one is a file here, its `mod` and a line of [`ALL`]. Settings of a
//! source that depend on the data set (epochs, rates, batch) are arguments of a recipe ([`Lengths`]); those that define
//! the method stand in its recipe.

pub mod abd;
pub mod adagauss;
pub mod bic;
pub mod deep_inversion;
pub mod dmc;
pub mod efc;
pub mod fine_tune;
pub mod frozen;
pub mod heads;
pub mod icarl;
pub mod joint;
mod lengths;
pub mod lucir;
pub mod lwf;
mod method;
pub mod podnet;
mod published;
pub mod rdfcil;
pub mod rehearsal;
mod schemes;
pub mod wa;

pub use fine_tune::fine_tune;
pub use joint::joint;
pub use lengths::{Lengths, correction, full_batches, same_in_every_task, sgd};
pub use lucir::lucir;
pub use lwf::{lwf, lwf_seen};
pub use method::{Exemplars, Family, Heads, Listed, Method, OwnMaps, Presets, Schemes};
pub use podnet::podnet;
pub use published::{Published, normalisation};
pub use schemes::{
    both_teachers_maps, with_adversarial, with_dfgr, with_dfgr_distilled, with_dtid,
    with_new_images_unshared, without_logits_of_its_own, without_maps_of_its_own,
};

/// Every method that a name can be built on, in the order in which they are listed.
pub static ALL: &[&Method] = &[
    &fine_tune::METHOD,
    &lwf::METHOD,
    &lwf::SEEN,
    &adagauss::METHOD,
    &efc::METHOD,
    &lucir::METHOD,
    &podnet::METHOD,
    &frozen::METHOD,
    &joint::METHOD,
    &rehearsal::METHOD,
    &icarl::METHOD,
    &icarl::SOFTMAX,
    &wa::METHOD,
    &bic::METHOD,
    &rdfcil::METHOD,
    &abd::METHOD,
    &deep_inversion::METHOD,
    &dmc::METHOD,
];

#[cfg(test)]
mod tests;
