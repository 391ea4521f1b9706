//! Settings that presets of several families share.
//!
//! One decision: what is ours is said to be ours, with the run that it was chosen by; nothing here is chosen on test
//! images.

use cil_backbone::Architecture;
use cil_engine::optim::{Decay, Schedule};
use cil_train::methods::{
    both_teachers_maps, fine_tune, joint, lucir, lwf, lwf_seen, podnet, with_dfgr, with_dtid,
    without_maps_of_its_own,
};
use cil_train::recipe::{NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, Training};
use dfgr::InversionConfig;
use dtid::dual::{DtidConfig, DualForm};

/// Lengths of a recipe's phases.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    /// Training of the base classes.
    pub(super) base: Training,
    /// Training of later tasks.
    pub(super) increment: Training,
    /// Training of a second teacher.
    pub(super) new_teacher: Training,
    /// PODNet's fine-tuning of its proxies.
    pub(super) fine_tuning: Training,
    /// Inversion.
    pub(super) inversion: InversionConfig,
    /// Generated images in a step.
    pub(super) synthetic: usize,
}

/// A method by the last part of its presets' names, and what it is.
pub(super) const METHODS: [(&str, &str); 25] = [
    ("fine-tune", "cross-entropy on the new classes alone"),
    ("lwf", "learning without forgetting: cross-entropy among the new classes, old logits distilled"),
    ("lwf-seen", "learning without forgetting with cross-entropy over all classes seen"),
    ("lucir-e20", "LUCIR with 20 exemplars a class"),
    ("lucir-e0", "LUCIR without exemplars"),
    ("lucir-e0-dfgr", "LUCIR without exemplars, with data-free generative replay"),
    ("lucir-e0-dtidkl", "LUCIR without exemplars, with two teachers"),
    ("lucir-e0-dfgr-dtidkl", "LUCIR without exemplars, with data-free generative replay and two teachers"),
    (
        "lucir-e0-dfgr-dtid",
        "LUCIR without exemplars, with data-free generative replay and two teachers, on logits and on maps",
    ),
    ("joint", "all images of all classes seen, anew in every task: the upper bound"),
    (
        "lucir-e20-dfgr-dtidkl",
        "LUCIR with 20 exemplars a class, data-free generative replay and two teachers",
    ),
    ("lucir-e0-dtid", "LUCIR without exemplars, with two teachers, on logits and on maps"),
    ("lucir-e20-dfgr", "LUCIR with 20 exemplars a class and data-free generative replay"),
    ("lucir-e20-dtid", "LUCIR with 20 exemplars a class and two teachers, on logits and on maps"),
    (
        "lucir-e20-dfgr-dtid",
        "LUCIR with 20 exemplars a class, data-free generative replay and two teachers, on logits and on maps",
    ),
    ("podnet-e20", "PODNet with 20 exemplars a class"),
    ("podnet-e0", "PODNet without exemplars"),
    ("podnet-e20-dfgr", "PODNet with 20 exemplars a class and data-free generative replay"),
    ("podnet-e0-dfgr", "PODNet without exemplars, with data-free generative replay"),
    ("podnet-e20-dtid", "PODNet with 20 exemplars a class and two teachers, on logits and on maps"),
    ("podnet-e0-dtid", "PODNet without exemplars, with two teachers, on logits and on maps"),
    (
        "podnet-e20-dfgr-dtid",
        "PODNet with 20 exemplars a class, data-free generative replay and two teachers, on logits and on maps",
    ),
    (
        "podnet-e0-dfgr-dtid",
        "PODNet without exemplars, with data-free generative replay and two teachers, on logits and on maps",
    ),
    (
        "podnet-e20-dfgr-dtid-replace",
        "PODNet with 20 exemplars a class and both schemes, the teachers' maps in place of POD-spatial",
    ),
    (
        "podnet-e0-dfgr-dtid-replace",
        "PODNet without exemplars, with both schemes, the teachers' maps in place of POD-spatial",
    ),
];

/// The recipe of a method's name.
pub(super) fn recipe(method: &str, lengths: &Lengths) -> Recipe {
    let (base, increment) = (lengths.base.clone(), lengths.increment.clone());
    match method {
        "fine-tune" => return fine_tune(base, increment),
        "lwf" => return lwf(base, increment),
        "lwf-seen" => return lwf_seen(base, increment),
        // Always from new weights, so always as long as the base classes.
        "joint" => return joint(base.clone(), base),
        _ => {}
    }
    let exemplars = if method.contains("-e0") { 0 } else { 20 };
    let mut recipe = match method.starts_with("podnet") {
        true => podnet(base, increment, lengths.fine_tuning.clone(), exemplars),
        false => lucir(base, increment, exemplars),
    };
    if method.ends_with("-replace") {
        recipe = without_maps_of_its_own(recipe);
    }
    if method.contains("-dfgr") {
        recipe = with_dfgr(recipe, replay(lengths));
    }
    if method.contains("-dtid") {
        let spec = NewTeacherSpec { from_old: true, training: lengths.new_teacher.clone() };
        // `-dtidkl` is the logits alone.
        let vid = (!method.contains("-dtidkl")).then(|| both_teachers_maps(1.0));
        recipe = with_dtid(recipe, spec, 1.0, two_teachers(), vid);
    }
    recipe
}

/// The network that a method was published with, for small images.
pub(super) fn architecture(method: &str, depth: usize) -> Architecture {
    if method.starts_with("podnet") { Architecture::podnet(depth) } else { Architecture::lucir(depth) }
}

fn replay(lengths: &Lengths) -> ReplaySpec {
    ReplaySpec {
        inversion: lengths.inversion.clone(),
        batch: lengths.synthetic,
        synthetic_norm: SyntheticNorm::Joint,
    }
}

/// Each teacher on its own columns, temperature 2 (LwF's), equal weights.
fn two_teachers() -> DtidConfig {
    DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } }
}

/// SGD with momentum 0.9 and decay 5e-4, batch 128 (LUCIR's code for CIFAR-100, where the rate is 0.1), for that many
/// epochs.
pub(super) fn sgd(epochs: usize, learning_rate: f64, decay: Decay) -> Training {
    Training {
        epochs,
        batch: 128,
        learning_rate,
        schedule: Schedule { warm_up: 0, decay },
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
        gradient_limit: None,
    }
}
