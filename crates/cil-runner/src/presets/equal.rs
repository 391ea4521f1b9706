//! CIFAR-100 in equal tasks: the protocol of iCaRL, WA, ABD and R-DFCIL.
//!
//! Each method has the settings of the source that printed its number, so two of these presets differ in more than the
//! method; the families `cifar100-b50-*` and `cifar100-10c-*` compare methods at one setting.

use cil_backbone::{Architecture, Variant};
use cil_data::augment::{Augmentation, Fill, Preparation};
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;
use cil_train::recipe::Training;

use super::cifar100::{Family, images_of_lucir, images_of_podnet};
use super::method::{Base, MethodName};
use super::protocol::Made;
use super::settings::{self, Lengths, sgd};

/// The base methods that have settings of their own.
pub(super) const BASES: [Base; 8] = [
    Base::FineTune,
    Base::Rehearsal,
    Base::Bic,
    Base::DeepInversion,
    Base::Abd,
    Base::Rdfcil,
    Base::Icarl,
    Base::Wa,
];

/// The settings of the source that printed a method's number.
struct Printed {
    cited: &'static str,
    lengths: Lengths,
    architecture: Architecture,
    images: Preparation,
    order: &'static str,
}

const ABD: &str = "ABD (Smith et al., ICCV 2021) and its code, GT-RIPL/AlwaysBeDreaming-DFCIL at 1aa209b: 250 epochs, rate \
     0.1 divided by 10 at 100, 150 and 200, decay 2e-4, its ResNet-32, brightness and contrast";

const RDFCIL: &str = "R-DFCIL (Gao et al., ECCV 2022) and its code, gqk/R-DFCIL at f47e123: 200 epochs, the last 40 of them \
     on the head at rate 0.005, rate 0.1 divided by 10 at 80 and 120, 5 000 iterations of inversion";

/// A method in equal tasks, at the settings of the source that printed its number.
pub(super) fn in_equal_tasks(method: &MethodName, increments: &[usize]) -> Option<Made> {
    let printed = match method.base {
        Base::FineTune | Base::Rehearsal | Base::Bic | Base::DeepInversion | Base::Abd => of_abd(),
        Base::Rdfcil => of_rdfcil(),
        Base::Icarl => Printed {
            cited: "iCaRL (Rebuffi et al., CVPR 2017) and its code, srebuffi/iCaRL at b3d3686: 70 epochs, rate 2 divided by 5 \
                    at 49 and 63",
            lengths: icarl(),
            architecture: Architecture::small(Variant::Icarl, 32),
            images: images_of_icarl(),
            order: "podnet_1",
        },
        Base::Wa => Printed {
            cited: "WA (Zhao et al., CVPR 2020) and its code, bwbwzhao/Weight-Aligning at 50f369d: 250 epochs in batches of 32, \
                    rate 0.1 divided by 10 at 100, 150 and 200, decay 1e-4",
            lengths: weight_aligning(),
            architecture: Architecture::lucir(32),
            images: Preparation {
                normalisation: settings::normalisation("cifar100", "podnet"),
                ..images_of_lucir()
            },
            order: "lucir_1993",
        },
        _ => return None,
    };
    Some(made(printed, method, increments))
}

/// A data-free method after 50 base classes, at its own settings.
pub(super) fn after_50(method: &MethodName, increments: &[usize]) -> Option<Made> {
    let printed = match method.base {
        Base::Rdfcil => of_rdfcil(),
        Base::Abd => of_abd(),
        _ => return None,
    };
    Some(made(printed, method, increments))
}

fn made(printed: Printed, method: &MethodName, increments: &[usize]) -> Made {
    let Printed { cited, lengths, architecture, images, order } = printed;
    let family = Family { cited, lengths, increments: increments.to_vec(), depth: 32, order, images };
    let mut made = family.made(method);
    made.config.architecture = architecture;
    made
}

fn of_abd() -> Printed {
    Printed {
        cited: ABD,
        lengths: abd(),
        architecture: Architecture::small(Variant::He, 32),
        images: images_of_abd(),
        order: "abd_0",
    }
}

fn of_rdfcil() -> Printed {
    Printed {
        cited: RDFCIL,
        lengths: rdfcil(),
        architecture: Architecture::podnet(32),
        images: images_of_rdfcil(),
        order: "abd_0",
    }
}

/// As in ABD's code: both jitters, of whole images.
fn images_of_abd() -> Preparation {
    let augmentation = Augmentation { contrast: 0.8, ..images_of_podnet().augmentation };
    Preparation { augmentation, normalisation: settings::normalisation("cifar100", "abd") }
}

/// As in R-DFCIL's code: cropped after normalisation.
fn images_of_rdfcil() -> Preparation {
    let augmentation = Augmentation { crop_fill: Fill::Mean, ..images_of_lucir().augmentation };
    Preparation { augmentation, normalisation: settings::normalisation("cifar100", "podnet") }
}

/// As in iCaRL's code: cropped after the mean is subtracted.
fn images_of_icarl() -> Preparation {
    Preparation { normalisation: settings::normalisation("cifar100", "icarl"), ..images_of_rdfcil() }
}

/// ABD's settings of everything that it compares.
fn abd() -> Lengths {
    let training = Training { weight_decay: 2e-4, ..whole(sgd(250, 0.1, by_tenths(&[100, 150, 200]))) };
    let mut lengths = lengths(training);
    lengths.inversion.iterations = 10_000;
    lengths
}

/// R-DFCIL's: 200 epochs, the last 40 of which refine the head.
fn rdfcil() -> Lengths {
    let mut lengths = lengths(whole(sgd(160, 0.1, by_tenths(&[80, 120]))));
    lengths.refinement = whole(lengths.refinement);
    lengths
}

fn icarl() -> Lengths {
    // The rate of sigmoids is twenty times this; the penalty of the code, 1e-5 times the squared length, has this
    // gradient.
    let decay = Decay::MultiStep { milestones: vec![49, 63], gamma: 0.2 };
    lengths(Training { weight_decay: 2e-5, ..whole(sgd(70, 0.1, decay)) })
}

fn weight_aligning() -> Lengths {
    lengths(Training { batch: 32, weight_decay: 1e-4, ..sgd(250, 0.1, by_tenths(&[100, 150, 200])) })
}

fn by_tenths(milestones: &[usize]) -> Decay {
    Decay::MultiStep { milestones: milestones.to_vec(), gamma: 0.1 }
}

/// Without a last batch that is not full, as the loaders of ABD, R-DFCIL and iCaRL.
fn whole(training: Training) -> Training {
    Training { drop_last: true, ..training }
}

/// The same training of every task.
fn lengths(training: Training) -> Lengths {
    Lengths {
        base: training.clone(),
        increment: training.clone(),
        new_teacher: training.clone(),
        // ABD's: as the rest, at a hundredth of the rate.
        correction: Training { learning_rate: 0.01 * training.learning_rate, drop_last: false, ..training },
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion: dfgr::InversionConfig::unconditional(5000),
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::Total(2000),
    }
}
