//! CIFAR-100 in equal tasks: the protocol of iCaRL, WA, ABD and R-DFCIL.
//!
//! One decision: each method has the settings of the source that printed its number, so two of these presets differ in
//! more than the method; the families `cifar100-b50-*` and `cifar100-10c-*` compare methods at one setting.

use cil_backbone::{Architecture, Variant};
use cil_data::augment::{Augmentation, Fill, Preparation};
use cil_data::exemplars::Budget;
use cil_data::normalise::Normalisation;
use cil_engine::optim::Decay;
use cil_train::recipe::Training;

use super::Preset;
use super::cifar100::{Family, images_of_lucir, images_of_podnet};
use super::settings::{Lengths, METHODS, sgd};

/// Numbers of equal tasks.
const TASKS: [usize; 3] = [5, 10, 20];
/// Numbers of later tasks after 50 base classes.
const STEPS: [usize; 3] = [5, 10, 25];

/// A method, where its settings are from, and what was printed of it for each number of tasks.
struct Printed {
    method: &'static str,
    settings: &'static str,
    lengths: Lengths,
    architecture: Architecture,
    images: Preparation,
    order: &'static str,
    /// What the numbers are, and who printed them.
    what: &'static str,
    numbers: Option<[&'static str; 3]>,
}

const ABD: &str = "ABD (Smith et al., ICCV 2021) and its code, GT-RIPL/AlwaysBeDreaming-DFCIL at 1aa209b: 250 epochs, rate \
     0.1 divided by 10 at 100, 150 and 200, decay 2e-4, its ResNet-32, brightness and contrast";

const README: &str = "last accuracy, mean of three orders (README of ABD's code)";

const RDFCIL: &str = "R-DFCIL (Gao et al., ECCV 2022) and its code, gqk/R-DFCIL at f47e123: 200 epochs, the last 40 of them \
     on the head at rate 0.005, rate 0.1 divided by 10 at 80 and 120, 5 000 iterations of inversion";

const RDFCIL_TABLE: &str = "last accuracy (R-DFCIL's table for 50 base classes, as later papers quote it)";

/// Every method in equal tasks, and the data-free ones after 50 base classes too.
pub(super) fn presets() -> Vec<Preset> {
    let equal = |printed: &Printed| {
        [0, 1, 2].map(|at| {
            let tasks = TASKS[at];
            one(printed, at, &format!("t{tasks}"), vec![100 / tasks; tasks])
        })
    };
    let after_base = |printed: &Printed| {
        [0, 1, 2].map(|at| {
            let steps = STEPS[at];
            let increments = [vec![50], vec![50 / steps; steps]].concat();
            one(printed, at, &format!("b50-t{steps}"), increments)
        })
    };
    let equal = printed().iter().flat_map(equal).collect::<Vec<_>>();
    [equal, after_50().iter().flat_map(after_base).collect()].concat()
}

fn one(printed: &Printed, at: usize, split: &str, increments: Vec<usize>) -> Preset {
    let expected = match printed.numbers {
        Some(numbers) => format!("{} % {}; not run here yet", numbers[at], printed.what),
        None => format!("{}; not run here yet", printed.what),
    };
    let about = METHODS.iter().find(|it| it.0 == printed.method).map_or("", |it| it.1);
    let about = about.replace("20 exemplars a class", "2000 exemplars in all");
    let family = Family {
        name: format!("cifar100-{split}"),
        cited: printed.settings,
        lengths: printed.lengths.clone(),
        increments,
        depth: 32,
        order: printed.order,
        images: printed.images.clone(),
    };
    let mut preset = family.preset(printed.method, printed.method, &about, expected);
    preset.config.architecture = printed.architecture;
    preset
}

fn printed() -> Vec<Printed> {
    let abd = |method, numbers| Printed {
        method,
        settings: ABD,
        lengths: abd(),
        architecture: Architecture::small(Variant::He, 32),
        images: images_of_abd(),
        order: "abd_0",
        what: README,
        numbers: Some(numbers),
    };
    vec![
        abd("fine-tune", ["16.4 ± 0.4", "8.8 ± 0.1", "4.4 ± 0.3"]),
        abd("rehearsal", ["34.0 ± 0.2", "24.0 ± 1.0", "14.9 ± 0.7"]),
        abd("bic", ["53.7 ± 0.4", "45.9 ± 1.8", "37.5 ± 3.2"]),
        abd("deepinversion", ["18.8 ± 0.3", "10.9 ± 0.6", "5.7 ± 0.3"]),
        abd("abd", ["43.9 ± 0.9", "33.7 ± 1.2", "20.0 ± 1.4"]),
        Printed {
            method: "rdfcil",
            settings: RDFCIL,
            lengths: rdfcil(),
            architecture: Architecture::podnet(32),
            images: images_of_rdfcil(),
            order: "abd_0",
            what: "the paper has a table of this protocol; we have not seen its numbers confirmed",
            numbers: None,
        },
        Printed {
            method: "icarl",
            settings: "iCaRL (Rebuffi et al., CVPR 2017) and its code, srebuffi/iCaRL at b3d3686: 70 epochs, rate 2 divided by 5 \
                     at 49 and 63",
            lengths: icarl(),
            architecture: Architecture::small(Variant::Icarl, 32),
            images: images_of_icarl(),
            order: "podnet_1",
            what: "the paper plots accuracy by the nearest mean, and we have seen no number of it",
            numbers: None,
        },
        Printed {
            method: "wa",
            settings: "WA (Zhao et al., CVPR 2020) and its code, bwbwzhao/Weight-Aligning at 50f369d: 250 epochs in batches of 32, \
                     rate 0.1 divided by 10 at 100, 150 and 200, decay 1e-4",
            lengths: weight_aligning(),
            architecture: Architecture::lucir(32),
            images: Preparation { normalisation: Normalisation::cifar100_podnet(), ..images_of_lucir() },
            order: "lucir_1993",
            what: "we have seen no printed number of this protocol",
            numbers: None,
        },
    ]
}

fn after_50() -> Vec<Printed> {
    let of = |method, settings, lengths, architecture, images, numbers| Printed {
        method,
        settings,
        lengths,
        architecture,
        images,
        order: "abd_0",
        what: RDFCIL_TABLE,
        numbers: Some(numbers),
    };
    vec![
        of(
            "rdfcil",
            RDFCIL,
            rdfcil(),
            Architecture::podnet(32),
            images_of_rdfcil(),
            ["54.76 ± 0.76", "49.70 ± 0.61", "30.01 ± 0.56"],
        ),
        of(
            "abd",
            ABD,
            abd(),
            Architecture::small(Variant::He, 32),
            images_of_abd(),
            ["50.55 ± 1.14", "43.65 ± 2.40", "25.27 ± 1.09"],
        ),
    ]
}

/// As in ABD's code: both jitters, of whole images.
fn images_of_abd() -> Preparation {
    let augmentation = Augmentation { contrast: 0.8, ..images_of_podnet().augmentation };
    Preparation { augmentation, normalisation: Normalisation::cifar100_abd() }
}

/// As in R-DFCIL's code: cropped after normalisation.
fn images_of_rdfcil() -> Preparation {
    let augmentation = Augmentation { crop_fill: Fill::Mean, ..images_of_lucir().augmentation };
    Preparation { augmentation, normalisation: Normalisation::cifar100_podnet() }
}

/// As in iCaRL's code: cropped after the mean is subtracted.
fn images_of_icarl() -> Preparation {
    Preparation { normalisation: Normalisation::cifar100_icarl(), ..images_of_rdfcil() }
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
    // The rate of sigmoids is twenty times this; the penalty of the code, 1e-5 times the squared length, has this gradient.
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
