//! CIFAR-100 in equal tasks: the protocol of iCaRL, WA, ABD and R-DFCIL.
//!
//! One decision: each method has the settings of the source that printed its number, so two of these presets differ in
//! more than the method; the families `cifar100-b50-*` and `cifar100-10c-*` compare methods at one setting.

use cil_backbone::Architecture;
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;
use cil_train::recipe::Training;

use super::Preset;
use super::cifar100::preset;
use super::settings::{Lengths, METHODS, sgd};
use crate::config::OrderSpec;

/// Numbers of tasks.
const TASKS: [usize; 3] = [5, 10, 20];

/// A method, where its settings are from, and what was printed of it for 5, 10 and 20 tasks.
struct Printed {
    method: &'static str,
    source: &'static str,
    lengths: Lengths,
    architecture: Architecture,
    order: &'static str,
    /// What the numbers are, and who printed them.
    what: &'static str,
    numbers: Option<[&'static str; 3]>,
}

const ABD: &str = "ABD (Smith et al., ICCV 2021) and its code, GT-RIPL/AlwaysBeDreaming-DFCIL at 1aa209b: 250 epochs, rate \
     0.1 divided by 10 at 100, 150 and 200, decay 2e-4; ResNet-32 is LUCIR's, theirs has a ReLU at its end";

const README: &str = "last accuracy, mean of three orders (README of ABD's code)";

/// Every method in 5, 10 and 20 tasks.
pub(super) fn presets() -> Vec<Preset> {
    let of = |printed: &Printed| TASKS.map(|tasks| one(printed, tasks));
    printed().iter().flat_map(of).collect()
}

fn one(printed: &Printed, tasks: usize) -> Preset {
    let at = TASKS.iter().position(|it| *it == tasks).unwrap_or_default();
    let expected = match printed.numbers {
        Some(numbers) => format!("{} % {}; not run here yet", numbers[at], printed.what),
        None => format!("{}; not run here yet", printed.what),
    };
    let about = METHODS.iter().find(|it| it.0 == printed.method).map_or("", |it| it.1);
    let about = about.replace("20 exemplars a class", "2000 exemplars in all");
    let name = format!("cifar100-t{tasks}-{}", printed.method);
    let increments = vec![100 / tasks; tasks];
    let mut preset =
        preset(name, &about, printed.source, expected, printed.method, &printed.lengths, increments, 32);
    preset.config.architecture = printed.architecture;
    preset.config.class_order = OrderSpec::Published(printed.order.into());
    preset
}

fn printed() -> Vec<Printed> {
    let lucir = Architecture::lucir(32);
    let abd = |method, numbers| Printed {
        method,
        source: ABD,
        lengths: abd(),
        architecture: lucir,
        order: "abd_0",
        what: README,
        numbers: Some(numbers),
    };
    vec![
        abd("fine-tune", ["16.4 ± 0.4", "8.8 ± 0.1", "4.4 ± 0.3"]),
        abd("rehearsal", ["34.0 ± 0.2", "24.0 ± 1.0", "14.9 ± 0.7"]),
        Printed {
            method: "icarl",
            source: "iCaRL (Rebuffi et al., CVPR 2017) and its code, srebuffi/iCaRL at b3d3686: 70 epochs, rate 2 divided by 5 \
                     at 49 and 63",
            lengths: icarl(),
            architecture: lucir,
            order: "podnet_1",
            what: "the paper plots accuracy by the nearest mean, and we have seen no number of it",
            numbers: None,
        },
        Printed {
            method: "wa",
            source: "WA (Zhao et al., CVPR 2020) and its code, bwbwzhao/Weight-Aligning at 50f369d: 250 epochs in batches of 32, \
                     rate 0.1 divided by 10 at 100, 150 and 200, decay 1e-4",
            lengths: weight_aligning(),
            architecture: lucir,
            order: "lucir_1993",
            what: "we have seen no printed number of this protocol",
            numbers: None,
        },
    ]
}

/// ABD's settings of everything that it compares.
fn abd() -> Lengths {
    let training = Training { weight_decay: 2e-4, ..sgd(250, 0.1, by_tenths(&[100, 150, 200])) };
    lengths(training)
}

fn icarl() -> Lengths {
    // The rate of sigmoids is twenty times this; the penalty of the code, 1e-5 times the squared length, has this gradient.
    let decay = Decay::MultiStep { milestones: vec![49, 63], gamma: 0.2 };
    lengths(Training { weight_decay: 2e-5, ..sgd(70, 0.1, decay) })
}

fn weight_aligning() -> Lengths {
    lengths(Training { batch: 32, weight_decay: 1e-4, ..sgd(250, 0.1, by_tenths(&[100, 150, 200])) })
}

fn by_tenths(milestones: &[usize]) -> Decay {
    Decay::MultiStep { milestones: milestones.to_vec(), gamma: 0.1 }
}

/// The same training of every task.
fn lengths(training: Training) -> Lengths {
    Lengths {
        base: training.clone(),
        increment: training.clone(),
        new_teacher: training,
        inversion: dfgr::InversionConfig::unconditional(5000),
        synthetic: 128,
        exemplars: Budget::Total(2000),
    }
}
