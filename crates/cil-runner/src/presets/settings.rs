//! Settings that presets of several families share.
//!
//! One decision: what is ours is said to be ours, with the run that it was chosen by; nothing here is chosen on test
//! images.

use cil_backbone::{Architecture, StageCells};
use cil_data::exemplars::Budget;
use cil_engine::optim::{Decay, Schedule};
use cil_train::methods::data_free::{
    always_be_dreaming, frozen_features, generated_deep_inversion, model_consolidation, rdfcil,
};
use cil_train::methods::with_exemplars::{bias_correction, icarl, icarl_softmax, rehearsal, weight_aligning};
use cil_train::methods::{
    both_teachers_maps, fine_tune, joint, lucir, lwf, lwf_seen, podnet, with_dfgr, with_dfgr_distilled,
    with_dtid, with_new_images_unshared, without_logits_of_its_own, without_maps_of_its_own,
};
use cil_train::recipe::{
    DiscriminantSpec, NewReplaySpec, NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, Training,
};
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
    /// Correction of a bias.
    pub(super) correction: Training,
    /// Refinement of the head.
    pub(super) refinement: Training,
    /// Inversion.
    pub(super) inversion: InversionConfig,
    /// Generated images in a step.
    pub(super) synthetic: usize,
    /// Generated images of a new class in an epoch where its own are not shared; as many as there would be of these.
    pub(super) images_per_class: usize,
    /// Exemplars of the methods whose name does not say how many.
    pub(super) exemplars: Budget,
}

/// A method by the last part of its presets' names, and what it is.
pub(super) const METHODS: [(&str, &str); 53] = [
    ("fine-tune", "cross-entropy on the new classes alone"),
    ("lwf", "learning without forgetting: cross-entropy among the new classes, old logits distilled"),
    ("lwf-seen", "learning without forgetting with cross-entropy over all classes seen"),
    ("lwf-dfgr", "learning without forgetting, old logits distilled on generated images too"),
    ("lwf-dtid", "learning without forgetting with two teachers, on logits and on maps"),
    (
        "lwf-dfgr-dtid",
        "learning without forgetting with two teachers, on logits and on maps, followed on generated images too",
    ),
    (
        "lwf-discriminant",
        "learning without forgetting; a discriminant of class means and one covariance answers",
    ),
    ("lwf-dfgr-discriminant", "lwf-dfgr; a discriminant of class means and one covariance answers"),
    ("lwf-dtid-discriminant", "lwf-dtid; a discriminant of class means and one covariance answers"),
    ("lwf-dfgr-dtid-discriminant", "lwf-dfgr-dtid; a discriminant of class means and one covariance answers"),
    ("lwf-stages", "learning without forgetting; a discriminant of all stages' features answers"),
    ("lwf-dfgr-stages", "lwf-dfgr; a discriminant of all stages' features answers"),
    ("lwf-dtid-stages", "lwf-dtid; a discriminant of all stages' features answers"),
    ("lwf-dfgr-dtid-stages", "lwf-dfgr-dtid; a discriminant of all stages' features answers"),
    ("lucir-e20", "LUCIR with 20 exemplars a class"),
    ("lucir-e0", "LUCIR without exemplars"),
    ("lucir-e0-dfgr", "LUCIR without exemplars, with data-free generative replay"),
    ("lucir-e0-dtidkl", "LUCIR without exemplars, with two teachers"),
    ("lucir-e0-dfgr-dtidkl", "LUCIR without exemplars, with data-free generative replay and two teachers"),
    (
        "lucir-e0-dfgr-dtid",
        "LUCIR without exemplars, with data-free generative replay and two teachers, on logits and on maps",
    ),
    (
        "lucir-e0-dfgr-dtidkl-discriminant",
        "LUCIR without exemplars, with replay, teachers' logits, and a discriminant of kept class means and one covariance",
    ),
    (
        "lucir-e0-dfgr-dtid-discriminant",
        "LUCIR without exemplars, with both schemes, and a discriminant of kept class means and one covariance for a head",
    ),
    (
        "frozen-discriminant",
        "the base model's features, never trained again; a discriminant of kept class means and one covariance answers",
    ),
    (
        "frozen-ridge",
        "the base model's features, never trained again; ridge regression on 1024 random features of them (ACIL)",
    ),
    ("frozen-stages", "the base model, never trained again; a discriminant of all stages' features answers"),
    ("lucir-e0-stages", "LUCIR without exemplars; a discriminant of all stages' features answers"),
    (
        "lucir-e0-dfgr-dtid-stages",
        "LUCIR without exemplars, with both schemes; a discriminant of all stages' features answers",
    ),
    (
        "lucir-e0-dfgr-dtid-unshared",
        "LUCIR without exemplars, with both schemes, where new images are not shared but the new teacher is",
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
    (
        "rehearsal",
        "cross-entropy over all classes seen, on new images and as many draws of 20 exemplars a class, kept at random",
    ),
    ("icarl", "iCaRL with 20 exemplars a class, as its paper: sigmoids; see the nearest mean"),
    ("icarl-softmax", "iCaRL with 20 exemplars a class, as mostly run since: softmax; see the nearest mean"),
    ("wa", "weight aligning with 20 exemplars a class"),
    ("bic", "bias correction (BiC) with 20 exemplars a class, a tenth of them held out"),
    ("rdfcil", "R-DFCIL: inversion, hard and relational distillation, the head refined"),
    ("abd", "ABD (always be dreaming): inversion, features distilled through the old head"),
    ("deepinversion", "what ABD's table calls DeepInversion: a generator's images, logits distilled"),
    ("dmc-generated", "DMC with generated images and new ones in place of its auxiliary data"),
];

/// The recipe of a method's name.
pub(super) fn recipe(method: &str, lengths: &Lengths) -> Recipe {
    let (base, increment) = (lengths.base.clone(), lengths.increment.clone());
    match method {
        "fine-tune" => return fine_tune(base, increment),
        "lwf-seen" => return lwf_seen(base, increment),
        "rehearsal" => return rehearsal(base, increment, lengths.exemplars),
        "icarl" => return icarl(sigmoid(base), sigmoid(increment), lengths.exemplars),
        "icarl-softmax" => return icarl_softmax(base, increment, lengths.exemplars),
        // The networks' features may be negative, unlike those of the authors'.
        "wa" => return weight_aligning(base, increment, lengths.exemplars, false),
        "bic" => {
            return bias_correction(base, increment, lengths.exemplars, lengths.correction.clone());
        }
        "rdfcil" => return rdfcil(base, increment, lengths.refinement.clone(), dreams(lengths)),
        "frozen-discriminant" | "frozen-ridge" | "frozen-stages" => {
            return Recipe { discriminant: discriminant(method), ..frozen_features(base, increment) };
        }
        "abd" => return always_be_dreaming(base, increment, dreams(lengths)),
        "deepinversion" => return generated_deep_inversion(base, increment, dreams(lengths)),
        // From new weights, as the base classes and the new teacher are.
        "dmc-generated" => {
            return model_consolidation(base.clone(), base, lengths.new_teacher.clone(), replay(lengths));
        }
        // Always from new weights, so always as long as the base classes.
        "joint" => return joint(base.clone(), base),
        _ => {}
    }
    let exemplars = if method.contains("-e0") { 0 } else { 20 };
    let on_lwf = method.starts_with("lwf");
    let mut recipe = match method {
        _ if on_lwf => lwf(base, increment),
        _ if method.starts_with("podnet") => podnet(base, increment, lengths.fine_tuning.clone(), exemplars),
        _ => lucir(base, increment, exemplars),
    };
    if method.ends_with("-replace") {
        recipe = without_maps_of_its_own(recipe);
    }
    if method.contains("-dfgr") {
        let with = if on_lwf { with_dfgr_distilled } else { with_dfgr };
        recipe = with(recipe, replay(lengths));
    }
    if method.contains("-dtid") {
        if on_lwf {
            recipe = without_logits_of_its_own(recipe);
        }
        let spec = NewTeacherSpec { from_old: true, exemplars: false, training: lengths.new_teacher.clone() };
        // `-dtidkl` is the logits alone.
        let vid = (!method.contains("-dtidkl")).then(|| both_teachers_maps(1.0));
        recipe = with_dtid(recipe, spec, 1.0, two_teachers(), vid);
    }
    recipe.discriminant = discriminant(method);
    if method.ends_with("-unshared") {
        let (inversion, images_per_class) = (lengths.inversion.clone(), lengths.images_per_class);
        recipe = with_new_images_unshared(recipe, NewReplaySpec { inversion, images_per_class });
    }
    recipe
}

/// What answers in place of the trained head: of pooled features, chosen on held-out images of another class order
/// (docs/results.md; shrinkage from 0.003 to 0.03 is the same), of random features (not
/// chosen: an absolute ridge of 0.1 is ACIL's), or of all stages.
fn discriminant(method: &str) -> Option<DiscriminantSpec> {
    if method.ends_with("-discriminant") {
        return Some(DiscriminantSpec::pooled(0.01));
    }
    if method.ends_with("-ridge") {
        let random_features = Some(1024);
        return Some(DiscriminantSpec { random_features, ridge: true, ..DiscriminantSpec::pooled(0.01) });
    }
    let stage = |stage, cells| StageCells { stage, cells, normalised: true };
    let stages = vec![stage(3, 2), stage(2, 4), stage(1, 4)];
    let of_stages = DiscriminantSpec { stages, mirrored: true, ..DiscriminantSpec::pooled(0.01) };
    method.ends_with("-stages").then_some(of_stages)
}

/// The network that a method was published with, for small images.
pub(super) fn architecture(method: &str, depth: usize) -> Architecture {
    if method.starts_with("podnet") { Architecture::podnet(depth) } else { Architecture::lucir(depth) }
}

/// The rate of iCaRL's sigmoids: its code begins at 2 where softmax methods begin at 0.1.
fn sigmoid(training: Training) -> Training {
    Training { learning_rate: 20.0 * training.learning_rate, ..training }
}

fn replay(lengths: &Lengths) -> ReplaySpec {
    ReplaySpec {
        inversion: lengths.inversion.clone(),
        batch: lengths.synthetic,
        synthetic_norm: SyntheticNorm::Joint,
        exemplar_share: None,
        warm_start: false,
    }
}

/// ABD's and R-DFCIL's inversion at the family's size.
fn dreams(lengths: &Lengths) -> ReplaySpec {
    let ours = &lengths.inversion;
    let mut inversion = InversionConfig::always_be_dreaming(ours.iterations);
    (inversion.batch, inversion.generator.channels) = (ours.batch, ours.generator.channels);
    ReplaySpec { inversion, ..replay(lengths) }
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
        drop_last: false,
    }
}

/// Correction of a bias on a few images: all of them in a step, and the decay of BiC's code, which is of the shift alone.
pub(super) fn correction(epochs: usize, learning_rate: f64, decay: Decay) -> Training {
    Training { weight_decay: 0.1, ..sgd(epochs, learning_rate, decay) }
}
