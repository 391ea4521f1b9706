//! The recipes of `train` and `extend`.
//!
//! A command builds a recipe and nothing else trains; every key can be changed with `--set`. Numbers are
//! ours, measured as docs/models.md says.

use anyhow::Result;
use cil_backbone::{Architecture, Backbone, HeadKind, StageCells, Variant};
use cil_data::augment::Augmentation;
use cil_engine::optim::{Decay, Schedule};
use cil_train::methods::frozen::frozen_features;
use cil_train::methods::{fine_tune, lucir, with_dfgr, with_dtid};
use cil_train::recipe::{
    DiscriminantSpec, LogisticSpec, NewTeacherSpec, Recipe, ReplaySpec, Rows, SyntheticNorm, TermSpec,
    Trained, Training,
};
use cil_train::term::{LessForget, LogitKd};
use dfgr::InversionConfig;
use dtid::dual::{DtidConfig, DualForm};
use toml::Table;

use crate::cli::args::models::{Effort, Method, NetworkName};
use crate::cli::failure::bad_input;
use crate::config::overlay;

/// Passes over the images of a first model.
const BASE_EPOCHS: usize = 60;
/// Passes over the images of later classes.
const INCREMENT_EPOCHS: usize = 20;
/// Passes of a second teacher over them.
const TEACHER_EPOCHS: usize = 10;
/// Passes of a head over features that stay as they are.
const HEAD_EPOCHS: usize = 20;
/// Steps of a generator's training.
pub const INVERSION_STEPS: usize = 600;
/// Generated images that statistics of the old classes are taken of, where none were kept.
const GENERATED_FOR_STATISTICS: usize = 6000;
/// Shrinkage of the covariance of such images: theirs has too little spread (research in docs/models.md).
const SHRINKAGE_OF_GENERATED: f64 = 1.0;
/// Penalty on the weights of appended classes.
const PENALTY: f64 = 0.003;
/// Share of new images that appended classes give up, so that other images are answered as before.
const GIVEN_UP: f64 = 0.2;
/// Stages up to this number of channels are read in four cells, wider ones as one average.
const WIDE_STAGE: usize = 64;
/// Shrinkage of real images' covariance.
const SHRINKAGE: f64 = 0.01;

/// The network that `train` begins with.
pub fn architecture(name: Option<NetworkName>, side: usize) -> Architecture {
    let torch = |variant, depth, width| Architecture { variant, depth, width };
    match name {
        None if side <= 48 => Architecture::lucir(32),
        None | Some(NetworkName::Resnet18) if side > 64 => Architecture::imagenet(),
        None | Some(NetworkName::Resnet18) => Architecture::imagenet_small(),
        Some(NetworkName::Resnet20) => Architecture::lucir(20),
        Some(NetworkName::Resnet32) => Architecture::lucir(32),
        Some(NetworkName::Cifar20) => torch(Variant::He, 20, 16),
        Some(NetworkName::Torchvision18) => torch(stem(side), 18, 64),
        Some(NetworkName::Torchvision50) => torch(stem(side), 50, 64),
    }
}

fn stem(side: usize) -> Variant {
    if side > 64 { Variant::Torchvision } else { Variant::TorchvisionSmall }
}

/// The head of a first model: of cosines, but for networks that are exported to programs which have none.
fn head(architecture: &Architecture) -> HeadKind {
    match architecture.variant {
        Variant::He | Variant::Torchvision | Variant::TorchvisionSmall => HeadKind::Linear,
        _ => HeadKind::Cosine,
    }
}

/// Changes to training images of that side.
pub fn augmentation(side: usize) -> Augmentation {
    Augmentation { crop_padding: side / 8, flip: true, ..Augmentation::none() }
}

/// Statistics of a first model's features, from which later extensions compute their classifier: of networks with three
/// stages, averages over cells of all stages of an image and its mirror image, as chosen for `frozen-stages`
/// (docs/results.md); of others, whose stages are wide, pooled features.
pub fn statistics(backbone: &Backbone, side: usize) -> DiscriminantSpec {
    let pooled = DiscriminantSpec::pooled(SHRINKAGE);
    if backbone.stages() != 3 {
        return pooled;
    }
    let stage = |stage, most| {
        let map = side.div_ceil(1_usize << (stage - 1));
        // A model that answers by them is exported to programs that cut maps into equal cells.
        let cells = [4, 2]
            .into_iter()
            .filter(|cells| *cells <= most && map.is_multiple_of(*cells))
            .max()
            .unwrap_or(1);
        StageCells { stage, cells, normalised: true }
    };
    DiscriminantSpec { stages: vec![stage(3, 2), stage(2, 4), stage(1, 4)], mirrored: true, ..pooled }
}

/// Of a first model, with those statistics in its file.
pub fn first(
    architecture: &Architecture,
    epochs: Option<u32>,
    images: usize,
    statistics: Option<DiscriminantSpec>,
) -> Recipe {
    let base = sgd(epochs.map_or(BASE_EPOCHS, |it| it as usize), 0.1, images);
    let mut recipe = lucir(base, sgd(INCREMENT_EPOCHS, 0.02, images), 0);
    recipe.increment.terms.truncate(1);
    recipe.head = head(architecture);
    recipe.imprint = recipe.head.is_scaled();
    recipe.discriminant = statistics;
    recipe
}

/// The start of an extension.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The head that the old model was trained with.
    pub head: HeadKind,
    /// Its network.
    pub backbone: Backbone,
    /// How statistics in its file answer, if there are any.
    pub statistics: Option<DiscriminantSpec>,
    /// How classes were appended to it before, if any were.
    pub appended: Option<LogisticSpec>,
    /// Images of the new classes.
    pub images: usize,
    /// Height and width of an image.
    pub side: usize,
}

/// The method that is taken where none is asked for; docs/models.md has the measurements.
pub fn usual(effort: Effort, beginning: &Beginning) -> Method {
    match (effort, &beginning.statistics) {
        (_, Some(_)) => Method::Statistics,
        _ if beginning.appended.is_some() => Method::Logistic,
        (Effort::Full, None) => Method::Dfgr,
        (Effort::Quick, None) if beginning.head == HeadKind::Linear => Method::Logistic,
        (Effort::Quick, None) => Method::Statistics,
    }
}

/// How new classes are appended to a head that stays.
fn logistic(backbone: &Backbone) -> LogisticSpec {
    let last = backbone.stages();
    let cells = |stage, cells| StageCells { stage, cells, normalised: false };
    let stages = match backbone.ends_in_relu() && last > 1 {
        true => {
            let side = if backbone.stage_channels(last - 1) <= WIDE_STAGE { 2 } else { 1 };
            vec![cells(last, 1), cells(last - 1, side)]
        }
        false => Vec::new(),
    };
    LogisticSpec { generated: GENERATED_FOR_STATISTICS, penalty: PENALTY, given_up: GIVEN_UP, stages }
}

/// Of an extension.
pub fn extension(method: Method, beginning: &Beginning) -> Recipe {
    let Beginning { head, backbone, statistics, appended, images, side } = beginning.clone();
    let increment = sgd(INCREMENT_EPOCHS, 0.02, images);
    let mut recipe = match method {
        Method::FineTune => fine_tune(increment.clone(), increment),
        Method::Statistics => frozen_features(increment.clone(), increment),
        Method::Logistic => with_dfgr(frozen_features(increment.clone(), increment), replay(images, side)),
        Method::Head => on_generated(Training { epochs: HEAD_EPOCHS, ..increment }, side),
        Method::Dfgr => both_schemes(increment, images, side),
    };
    recipe.head = head;
    recipe.imprint = head.is_scaled() && method != Method::FineTune;
    recipe.freeze_old_head = recipe.imprint;
    if method == Method::Logistic {
        recipe.logistic = Some(appended.unwrap_or_else(|| logistic(&backbone)));
    }
    recipe.discriminant = match (method, statistics) {
        (Method::FineTune | Method::Head | Method::Logistic, _) => None,
        // They are there: nothing has to be generated for them.
        (Method::Statistics | Method::Dfgr, Some(spec)) => Some(DiscriminantSpec { generated: None, ..spec }),
        (Method::Statistics | Method::Dfgr, None) => {
            recipe.replay.get_or_insert_with(|| replay(images, side));
            let generated = Some(GENERATED_FOR_STATISTICS);
            Some(DiscriminantSpec { generated, ..DiscriminantSpec::pooled(SHRINKAGE_OF_GENERATED) })
        }
    };
    recipe
}

/// The backbone stays; the head learns new images and generated ones, every class counting the same.
fn on_generated(training: Training, side: usize) -> Recipe {
    let replay = replay(usize::MAX, side);
    let mut recipe = with_dfgr(fine_tune(training.clone(), training), replay);
    recipe.increment.trained = Trained::Head;
    recipe.increment.terms.push(old_logits());
    recipe
}

/// DF-GR and DT-ID: new images beside generated ones, both teachers' logits, features that stay near the old ones.
fn both_schemes(training: Training, images: usize, side: usize) -> Recipe {
    let mut recipe = with_dfgr(fine_tune(training.clone(), training), replay(images, side));
    recipe.increment.terms.push(TermSpec::LessForget(LessForget {
        weight: 5.0,
        adaptive: true,
        rows: Rows::All,
    }));
    let training = sgd(TEACHER_EPOCHS, 0.05, images);
    let teacher = NewTeacherSpec { from_old: true, exemplars: false, training };
    let config = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
    with_dtid(recipe, teacher, 1.0, config, None)
}

fn old_logits() -> TermSpec {
    TermSpec::LogitKd(LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::All })
}

/// A generator trained from the old model alone.
fn replay(images: usize, side: usize) -> ReplaySpec {
    ReplaySpec {
        inversion: inversion(side),
        batch: batch(images),
        synthetic_norm: SyntheticNorm::Joint,
        warm_start: false,
        exemplar_share: None,
    }
}

/// How an old model is inverted.
pub fn inversion(side: usize) -> InversionConfig {
    let mut inversion = InversionConfig::unconditional(INVERSION_STEPS);
    inversion.generator.channels = 64;
    if side > 64 {
        inversion.batch = inversion.batch.min(32);
    }
    inversion
}

/// SGD with momentum 0.9 and decay 5e-4 by a cosine.
fn sgd(epochs: usize, learning_rate: f64, images: usize) -> Training {
    Training {
        epochs,
        batch: batch(images),
        learning_rate,
        schedule: Schedule { warm_up: 0, decay: Decay::Cosine { minimum: 0.0 } },
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
        gradient_limit: None,
        drop_last: false,
    }
}

/// Images in a step: 128, and fewer where that would leave few steps in an epoch.
fn batch(images: usize) -> usize {
    (images / 16).clamp(16, 128)
}

/// A recipe with `changes` (`key=value`), checked.
///
/// # Errors
/// Naming the key that is none, or that cannot be run.
pub fn changed(recipe: Recipe, changes: &[String], backbone: &Backbone) -> Result<Recipe> {
    let mut recipe = recipe;
    if !changes.is_empty() {
        let mut table = Table::try_from(&recipe)?;
        for change in changes {
            overlay::set(&mut table, change)?;
        }
        recipe = overlay::read(table, "--set")?;
    }
    recipe
        .check()
        .and_then(|()| recipe.check_network(backbone))
        .map_err(|error| bad_input(format!("recipe: {error:#}")))?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Method; 5] =
        [Method::FineTune, Method::Statistics, Method::Logistic, Method::Head, Method::Dfgr];

    #[test]
    fn every_recipe_can_be_run_and_changed() {
        for side in [32, 64, 224] {
            for network in [None, Some(NetworkName::Cifar20), Some(NetworkName::Torchvision50)] {
                let architecture = architecture(network, side);
                architecture.check().unwrap();
                let backbone = Backbone::from(architecture);
                let recipe = first(&architecture, None, 5000, Some(statistics(&backbone, side)));
                changed(recipe, &["base.training.epochs=3".to_owned()], &backbone).unwrap();
                let of_generated = DiscriminantSpec { generated: Some(100), ..DiscriminantSpec::pooled(1.0) };
                for statistics in [None, Some(DiscriminantSpec::pooled(0.1)), Some(of_generated)] {
                    for head in [HeadKind::Linear, HeadKind::Cosine, HeadKind::WithoutBias] {
                        let (statistics, appended) = (statistics.clone(), None);
                        let backbone = backbone.clone();
                        let beginning = Beginning { head, backbone, statistics, appended, images: 300, side };
                        for method in ALL {
                            if method == Method::Logistic && head != HeadKind::Linear {
                                continue;
                            }
                            let recipe = extension(method, &beginning);
                            changed(recipe.clone(), &[], &architecture.into()).unwrap();
                            assert_eq!(recipe.head, head);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn statistics_are_of_cells_that_divide_the_maps() {
        let cells = |architecture: &Architecture, side| -> Vec<usize> {
            statistics(&(*architecture).into(), side).stages.iter().map(|it| it.cells).collect()
        };
        let small = architecture(Some(NetworkName::Resnet20), 32);
        assert_eq!(cells(&small, 32), [2, 4, 4]);
        assert_eq!(cells(&small, 28), [1, 2, 4]);
        assert_eq!(cells(&small, 27), [1, 2, 1]);
        assert!(cells(&architecture(None, 224), 224).is_empty());
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let architecture = architecture(None, 32);
        let recipe = first(&architecture, None, 100, None);
        let error = changed(recipe, &["base.training.epoch=3".to_owned()], &architecture.into()).unwrap_err();
        assert!(error.to_string().contains("epochs"), "{error}");
    }

    #[test]
    fn statistics_in_the_file_are_used_and_no_image_is_generated() {
        let beginning = Beginning {
            head: HeadKind::Cosine,
            backbone: architecture(None, 32).into(),
            appended: None,
            statistics: Some(DiscriminantSpec::pooled(0.01)),
            images: 500,
            side: 32,
        };
        let method = usual(Effort::Quick, &beginning);
        let recipe = extension(method, &beginning);
        assert!(recipe.replay.is_none() && recipe.discriminant == beginning.statistics);
        let without = Beginning { statistics: None, ..beginning };
        let recipe = extension(usual(Effort::Quick, &without), &without);
        assert!(recipe.replay.is_some() && recipe.discriminant.is_some_and(|it| it.generated.is_some()));
    }

    #[test]
    fn a_linear_head_without_statistics_stays_and_gets_new_rows() {
        let linear = Beginning {
            head: HeadKind::Linear,
            backbone: architecture(Some(NetworkName::Cifar20), 32).into(),
            statistics: None,
            appended: None,
            images: 500,
            side: 32,
        };
        assert_eq!(usual(Effort::Quick, &linear), Method::Logistic);
        assert_eq!(usual(Effort::Full, &linear), Method::Dfgr);
        let spec = extension(Method::Logistic, &linear).logistic.unwrap();
        assert_eq!(spec.head(&linear.backbone).width, 64 + 4 * 32);
        // The head reads the same features as in the file, even if the default has changed.
        let plain = LogisticSpec { stages: Vec::new(), ..spec };
        let appended = Beginning { appended: Some(plain.clone()), ..linear };
        assert_eq!(usual(Effort::Full, &appended), Method::Logistic);
        assert_eq!(extension(Method::Logistic, &appended).logistic, Some(plain));
    }
}
