//! Settings that presets of several families share.
//!
//! Settings of our own are marked as ours, with the run that chose them; nothing here is chosen on test images.

use cil_backbone::{Architecture, StageCells};
use cil_data::exemplars::Budget;
use cil_data::normalise::Normalisation;
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
    DiscriminantSpec, FecamSpec, NewReplaySpec, NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, Training,
};
use dfgr::InversionConfig;
use dtid::dual::{DtidConfig, DualForm};

use super::method::{Base, Head, MethodName, Teachers};

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

/// Methods that have presets in every family of small protocols.
const METHODS: [&str; 56] = [
    "fine-tune",
    "lwf",
    "lwf-seen",
    "lwf-dfgr",
    "lwf-dtid",
    "lwf-dfgr-dtid",
    "lwf-discriminant",
    "lwf-dfgr-discriminant",
    "lwf-dtid-discriminant",
    "lwf-dfgr-dtid-discriminant",
    "lwf-stages",
    "lwf-dfgr-stages",
    "lwf-dtid-stages",
    "lwf-dfgr-dtid-stages",
    "lucir-e20",
    "lucir-e0",
    "lucir-e0-dfgr",
    "lucir-e0-dtidkl",
    "lucir-e0-dfgr-dtidkl",
    "lucir-e0-dfgr-dtid",
    "lucir-e0-dfgr-dtidkl-discriminant",
    "lucir-e0-dfgr-dtid-discriminant",
    "frozen-discriminant",
    "frozen-ridge",
    "frozen-stages",
    "frozen-fecam",
    "frozen-fecamshared",
    "frozen-fetril",
    "lucir-e0-stages",
    "lucir-e0-dfgr-dtid-stages",
    "lucir-e0-dfgr-dtid-unshared",
    "joint",
    "lucir-e20-dfgr-dtidkl",
    "lucir-e0-dtid",
    "lucir-e20-dfgr",
    "lucir-e20-dtid",
    "lucir-e20-dfgr-dtid",
    "podnet-e20",
    "podnet-e0",
    "podnet-e20-dfgr",
    "podnet-e0-dfgr",
    "podnet-e20-dtid",
    "podnet-e0-dtid",
    "podnet-e20-dfgr-dtid",
    "podnet-e0-dfgr-dtid",
    "podnet-e20-dfgr-dtid-replace",
    "podnet-e0-dfgr-dtid-replace",
    "rehearsal",
    "icarl",
    "icarl-softmax",
    "wa",
    "bic",
    "rdfcil",
    "abd",
    "deepinversion",
    "dmc-generated",
];

/// [`METHODS`] by their parts.
pub(super) fn methods() -> Vec<MethodName> {
    METHODS.iter().filter_map(|it| it.parse().ok()).collect()
}

/// Those of [`methods`] that are built on one of these.
pub(super) fn built_on(bases: &[Base]) -> Vec<MethodName> {
    methods().into_iter().filter(|it| bases.contains(&it.base)).collect()
}

/// The recipe of a method.
pub(super) fn recipe(method: &MethodName, lengths: &Lengths) -> Recipe {
    let (base, increment) = (lengths.base.clone(), lengths.increment.clone());
    let exemplars = method.exemplars.unwrap_or(0);
    let mut recipe = match method.base {
        Base::FineTune => fine_tune(base, increment),
        Base::Lwf => lwf(base, increment),
        Base::LwfSeen => lwf_seen(base, increment),
        Base::Lucir => lucir(base, increment, exemplars),
        Base::Podnet => podnet(base, increment, lengths.fine_tuning.clone(), exemplars),
        Base::Frozen => frozen_features(base, increment),
        // Always from new weights, so always as long as the base classes.
        Base::Joint => joint(base.clone(), base),
        Base::Rehearsal => rehearsal(base, increment, lengths.exemplars),
        Base::Icarl => icarl(sigmoid(base), sigmoid(increment), lengths.exemplars),
        Base::IcarlSoftmax => icarl_softmax(base, increment, lengths.exemplars),
        // The networks' features may be negative, unlike those of the authors'.
        Base::Wa => weight_aligning(base, increment, lengths.exemplars, false),
        Base::Bic => bias_correction(base, increment, lengths.exemplars, lengths.correction.clone()),
        Base::Rdfcil => rdfcil(base, increment, lengths.refinement.clone(), dreams(lengths)),
        Base::Abd => always_be_dreaming(base, increment, dreams(lengths)),
        Base::DeepInversion => generated_deep_inversion(base, increment, dreams(lengths)),
        // From new weights, as the base classes and the new teacher are.
        Base::DmcGenerated => {
            model_consolidation(base.clone(), base, lengths.new_teacher.clone(), replay(lengths))
        }
    };
    if method.replace {
        recipe = without_maps_of_its_own(recipe);
    }
    if method.replay {
        let with = if method.base == Base::Lwf { with_dfgr_distilled } else { with_dfgr };
        recipe = with(recipe, replay(lengths));
    }
    if let Some(teachers) = method.teachers {
        if method.base == Base::Lwf {
            recipe = without_logits_of_its_own(recipe);
        }
        let spec = NewTeacherSpec { from_old: true, exemplars: false, training: lengths.new_teacher.clone() };
        let vid = (teachers == Teachers::LogitsAndMaps).then(|| both_teachers_maps(1.0));
        recipe = with_dtid(recipe, spec, 1.0, two_teachers(), vid);
    }
    if let Some(discriminant) = discriminant(method.head) {
        recipe.discriminant = Some(discriminant);
    }
    if method.unshared {
        let (inversion, images_per_class) = (lengths.inversion.clone(), lengths.images_per_class);
        recipe = with_new_images_unshared(recipe, NewReplaySpec { inversion, images_per_class });
    }
    recipe
}

/// What answers in place of the trained head: of pooled features, chosen on held-out images of another class order
/// (docs/results.md; shrinkage from 0.003 to 0.03 is the same), of random features (not
/// chosen: an absolute ridge of 0.1 is ACIL's), or of all stages.
fn discriminant(head: Head) -> Option<DiscriminantSpec> {
    let pooled = DiscriminantSpec::pooled(0.01);
    match head {
        Head::Trained => None,
        Head::Statistics => Some(pooled),
        Head::Ridge => Some(DiscriminantSpec { random_features: Some(1024), ridge: true, ..pooled }),
        // Numbers of the released codes (shrinkage is FeCAM's first share, and 1 / C of FeTrIL's SVM), of maps after
        // the last ReLU as theirs are.
        Head::Fecam => Some(last_relu(Some(FecamSpec::per_class()))),
        Head::FecamShared => Some(last_relu(Some(FecamSpec::shared()))),
        Head::Fetril => Some(DiscriminantSpec { fetril: true, ..last_relu(None) }),
        Head::Stages => {
            let stage = |stage, cells| StageCells { stage, cells, normalised: true };
            let stages = vec![stage(3, 2), stage(2, 4), stage(1, 4)];
            Some(DiscriminantSpec { stages, mirrored: true, ..pooled })
        }
    }
}

/// Pooled features after the last ReLU, whether the network's own ones are or not.
fn last_relu(fecam: Option<FecamSpec>) -> DiscriminantSpec {
    let stages = vec![StageCells { stage: 3, cells: 1, normalised: false }];
    DiscriminantSpec { fecam, stages, ..DiscriminantSpec::pooled(1.0) }
}

/// The constants that a known data set is normalised with by a source.
pub(super) fn normalisation(dataset: &str, source: &str) -> Normalisation {
    Normalisation::published(dataset, source)
        .expect("presets name constants of datasets/known.json, as a test sees")
}

/// The network that a method was published with, for small images.
pub(super) fn architecture(method: &MethodName, depth: usize) -> Architecture {
    if method.base == Base::Podnet { Architecture::podnet(depth) } else { Architecture::lucir(depth) }
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

/// Correction of a bias on a few images: all of them in a step, and the decay of BiC's code, which is of the shift
/// alone.
pub(super) fn correction(epochs: usize, learning_rate: f64, decay: Decay) -> Training {
    Training { weight_decay: 0.1, ..sgd(epochs, learning_rate, decay) }
}
