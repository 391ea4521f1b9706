//! CIFAR-100: the published protocols, and small ones of its first classes.

use cil_backbone::Variant;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use cil_data::normalise::Normalisation;
use cil_engine::optim::Decay;
use dfgr::InversionConfig;

use super::Preset;
use super::settings::{self, Lengths, METHODS, correction, sgd};
use crate::config::{DatasetSpec, OrderSpec, RunConfig};

const LUCIR: &str = "LUCIR (Hou et al., CVPR 2019) and its code, hshustc/CVPR19_Incremental_Learning at e5a90ae: \
     ResNet-32, 160 epochs, rate 0.1 divided by 10 at 80 and 120; inversion and two teachers ours after Choi et al. \
     2021 (arXiv 2106.09835)";

const PODNET: &str = "PODNet (Douillard et al., ECCV 2020) and its code, arthurdouillard/incremental_learning.pytorch at \
     c09fc54, options/podnet/podnet_cnn_cifar100.yaml, first of its three class orders: its ResNet-32, 160 epochs, rate \
     0.1 by a cosine, 20 epochs of fine-tuning at 0.05; inversion and two teachers ours after Choi et al. 2021 (arXiv \
     2106.09835)";

const EQUAL: &str = "ours: LUCIR's or PODNet's published lengths on 100 classes in equal tasks, ABD's protocol (Smith et al., \
     ICCV 2021) and the first of its class orders; inversion and two teachers after Choi et al. 2021 (arXiv \
     2106.09835)";

const TEN: &str = "ours: LUCIR's settings on the first 10 classes of its order with ResNet-14 and fewer epochs, for two \
     processor cores; chosen on held-out training images and on other class orders";

const TWENTY: &str = "ours: cifar100-10c's settings on the first 20 classes of LUCIR's order with ResNet-20, for two \
     processor cores; nothing was chosen on these images";

/// Average incremental and last accuracy in percent of `cifar100-10c-*`, mean and deviation of seeds 1 to 3; our runs of
/// 2026-11-25, in docs/results.md.
const MEASURED: [(&str, &str, &str); 9] = [
    ("fine-tune", "44.9 ± 0.4", "19.6 ± 0.2"),
    ("lwf", "76.0 ± 1.1", "63.1 ± 2.0"),
    ("lwf-seen", "46.2 ± 0.7", "19.6 ± 0.2"),
    ("lucir-e20", "79.9 ± 0.6", "69.7 ± 1.1"),
    ("lucir-e0", "73.6 ± 1.0", "56.1 ± 2.0"),
    ("lucir-e0-dfgr", "78.1 ± 0.4", "67.7 ± 1.3"),
    ("lucir-e0-dtidkl", "77.3 ± 0.9", "62.1 ± 1.4"),
    ("lucir-e0-dfgr-dtidkl", "79.8 ± 0.4", "70.2 ± 0.5"),
    ("joint", "87.8 ± 0.2", "84.1 ± 0.3"),
];

/// The same of `cifar100-20c-*` over the class orders `abd_0` to `abd_2`, with seeds 1 to 3; our runs of 2026-11-25 and 26,
/// in docs/results.md.
const MEASURED_TWENTY: [(&str, &str, &str); 7] = [
    ("lucir-e0", "52.1 ± 5.4", "25.7 ± 2.2"),
    ("lucir-e0-dtid", "54.2 ± 5.2", "28.4 ± 2.3"),
    ("lucir-e0-dfgr", "67.2 ± 6.7", "52.1 ± 7.0"),
    ("lucir-e0-dfgr-dtid", "68.5 ± 6.2", "54.5 ± 5.9"),
    ("lucir-e0-dfgr-dtid-discriminant", "71.4 ± 6.0", "59.7 ± 5.8"),
    ("frozen-discriminant", "71.0 ± 6.1", "59.1 ± 6.2"),
    ("lucir-e20", "70.0 ± 6.9", "58.2 ± 6.6"),
];

/// Average incremental accuracy of PODNet's classifier, base of 50 classes, over three class orders (Douillard et al.
/// 2020), by later tasks.
const PODNET_PUBLISHED: [(usize, &str); 4] =
    [(5, "64.83 ± 0.98"), (10, "63.19 ± 1.16"), (25, "60.72 ± 1.36"), (50, "57.98 ± 0.46")];

/// What no table has and nobody ran.
const UNKNOWN: &str = "no published number for this variant; not run here yet";

/// What the presets of a family share.
pub(super) struct Family {
    /// What their names begin with.
    pub(super) name: String,
    /// Where their settings come from.
    pub(super) cited: &'static str,
    pub(super) lengths: Lengths,
    pub(super) increments: Vec<usize>,
    pub(super) depth: usize,
    pub(super) order: &'static str,
    /// How images are changed and normalised.
    pub(super) images: Preparation,
}

/// As in LUCIR's code.
pub(super) fn images_of_lucir() -> Preparation {
    let augmentation = Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() };
    Preparation { augmentation, normalisation: Normalisation::cifar100_lucir() }
}

/// As in PODNet's code.
pub(super) fn images_of_podnet() -> Preparation {
    let augmentation = Augmentation { brightness: 63.0 / 255.0, ..images_of_lucir().augmentation };
    Preparation { augmentation, normalisation: Normalisation::cifar100_podnet() }
}

impl Family {
    /// A preset of `method`, whose last part of the name is `short`.
    pub(super) fn preset(&self, method: &str, short: &str, about: &str, expected: String) -> Preset {
        let name = format!("{}-{short}", self.name);
        let Preparation { augmentation, normalisation } = self.images.clone();
        let config = RunConfig {
            preset: Some(name.clone()),
            method: method.to_owned(),
            dataset: DatasetSpec::named("cifar100"),
            classes: self.increments.iter().sum(),
            class_order: OrderSpec::Published(self.order.into()),
            increments: self.increments.clone(),
            validation_per_class: 0,
            evaluate_on: Evaluate::Test,
            seed: 1,
            architecture: settings::architecture(method, self.depth),
            augmentation,
            normalisation,
            procedural: None,
            recipe: settings::recipe(method, &self.lengths),
        };
        let source = self.cited;
        Preset { name, about: about.to_owned(), source, expected, config }
    }
}

/// LUCIR's lengths, rate 0.1 by milestones.
fn lengths_of_lucir() -> Lengths {
    let milestones = || Decay::MultiStep { milestones: vec![80, 120], gamma: 0.1 };
    Lengths {
        base: sgd(160, 0.1, milestones()),
        increment: sgd(160, 0.1, milestones()),
        new_teacher: sgd(80, 0.1, Decay::MultiStep { milestones: vec![40, 60], gamma: 0.1 }),
        ..lengths_of_podnet()
    }
}

/// PODNet's lengths, rate 0.1 by a cosine.
fn lengths_of_podnet() -> Lengths {
    let cosine = Decay::Cosine { minimum: 0.0 };
    Lengths {
        base: sgd(160, 0.1, cosine.clone()),
        increment: sgd(160, 0.1, cosine.clone()),
        new_teacher: sgd(80, 0.1, cosine),
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        correction: correction(200, 0.1, Decay::Constant),
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion: InversionConfig::unconditional(5000),
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::PerClass(20),
    }
}

/// Base of 50 classes and 5 to 50 later tasks, at the published settings of either method.
pub(super) fn published() -> Vec<Preset> {
    let mut presets = Vec::new();
    for (steps, average, of_icarl) in [(5, "63.42", "57.17"), (10, "60.18", "52.57"), (25, "57.54", "48.22")]
    {
        let family = base_of_50(steps, LUCIR, lengths_of_lucir(), "lucir_1993");
        let published = format!(
            "average incremental accuracy {average} % (Hou et al. 2019; 25 steps: the table of AANets); not run here \
             yet"
        );
        presets.extend(of_method(&family, "lucir", &published));
        let about = "LUCIR with 20 exemplars a class and one of the two schemes";
        presets.push(family.preset("lucir-e20-dtidkl", "lucir-dtidkl", about, UNKNOWN.to_owned()));
        let about = "learning without forgetting at LUCIR's settings, a control of what keeps no image";
        presets.push(family.preset("lwf", "lwf", about, UNKNOWN.to_owned()));
        let about = "a frozen base model and a discriminant of kept class means and one covariance";
        presets.push(family.preset("frozen-discriminant", "frozen-discriminant", about, UNKNOWN.to_owned()));
        presets.extend(of_method(&family, "frozen-ridge", UNKNOWN));
        presets.extend(of_method(&family, "frozen-stages", UNKNOWN));
        presets.extend(of_method(&family, "lwf-d", UNKNOWN));
        presets.extend(of_method(&family, "lwf-stages", UNKNOWN));
        let about =
            "iCaRL with 20 exemplars a class and softmax, as LUCIR compares with it; see the nearest mean";
        let published = format!(
            "average incremental accuracy {of_icarl} % by the nearest mean (Hou et al. 2019, as quoted; 25 steps: the \
             table of AANets); not run here yet"
        );
        let mut preset = family.preset("icarl-softmax", "icarl-softmax", about, published);
        // LUCIR's code runs iCaRL with the network whose last block ends with a ReLU.
        preset.config.architecture.variant = Variant::LucirRelu;
        presets.push(preset);
    }
    for (steps, average) in PODNET_PUBLISHED {
        let family = base_of_50(steps, PODNET, lengths_of_podnet(), "podnet_1");
        let published = format!(
            "average incremental accuracy {average} %, mean of three class orders (Douillard et al. 2020, CIFAR-100, \
             classifier); not run here yet"
        );
        presets.extend(of_method(&family, "podnet", &published));
    }
    presets
}

fn base_of_50(steps: usize, cited: &'static str, lengths: Lengths, order: &'static str) -> Family {
    let mut increments = vec![50];
    increments.extend(vec![50 / steps; steps]);
    let images = if order == "podnet_1" { images_of_podnet() } else { images_of_lucir() };
    Family { name: format!("cifar100-b50-t{steps}"), cited, lengths, increments, depth: 32, order, images }
}

/// All variants of one method; twenty exemplars are the published setting, so they are not in the name.
fn of_method(family: &Family, base: &str, published: &str) -> Vec<Preset> {
    let variants = METHODS.iter().filter(|(method, _)| method.starts_with(base));
    let of = |(method, about): &(&str, &str)| {
        let expected = if *method == format!("{base}-e20") { published } else { UNKNOWN };
        family.preset(method, &method.replace("-e20", ""), about, expected.to_owned())
    };
    variants.map(of).collect()
}

/// All 100 classes in 5, 10 or 20 equal tasks, for methods of ours that keep no image and their bounds; [`super::equal`]
/// has the methods that were published with this protocol.
pub(super) fn equal() -> Vec<Preset> {
    let mut presets = Vec::new();
    for (tasks, published) in [(5, "43.9 ± 0.9"), (10, "33.7 ± 1.2"), (20, "20.0 ± 1.4")] {
        for (method, about) in METHODS.iter().filter(|(method, _)| ours(method)) {
            let lengths = if method.starts_with("podnet") { lengths_of_podnet() } else { lengths_of_lucir() };
            let family = Family {
                name: format!("cifar100-t{tasks}"),
                cited: EQUAL,
                lengths,
                increments: vec![100 / tasks; tasks],
                depth: 32,
                order: "abd_0",
                images: if method.starts_with("podnet") { images_of_podnet() } else { images_of_lucir() },
            };
            let expected = match *method {
                "joint" => "no published number at these lengths; not run here yet".to_owned(),
                _ => format!("{UNKNOWN}; beside it: ABD ends at {published} % (its README, three orders)"),
            };
            presets.push(family.preset(method, method, about, expected));
        }
    }
    presets
}

/// Whether equal tasks have a preset of the method at LUCIR's or PODNet's lengths.
fn ours(method: &str) -> bool {
    let base = ["lucir-e0", "podnet-e0", "lwf", "joint", "frozen"];
    base.iter().any(|name| method.starts_with(name))
}

/// The first ten classes of the order, six of them base classes, in minutes.
pub(super) fn ten() -> Vec<Preset> {
    let family = small("cifar100-10c", TEN, vec![6, 2, 2], 14);
    let of = |(method, about): &(&str, &str)| {
        let expected = match MEASURED.iter().find(|(measured, _, _)| measured == method) {
            Some((_, average, last)) => {
                format!(
                    "average incremental accuracy {average} %, last {last} % (ours, three seeds: docs/results.md)"
                )
            }
            None => UNKNOWN.to_owned(),
        };
        at_its_rate(family.preset(method, method, about, expected))
    };
    METHODS.iter().map(of).collect()
}

/// PODNet with exemplars at its own rate in later tasks: at the other methods' it ends 3 points lower (docs/methods.md).
fn at_its_rate(mut preset: Preset) -> Preset {
    if preset.config.method.starts_with("podnet-e20") {
        preset.config.recipe.increment.training.learning_rate = 0.1;
    }
    preset
}

/// The first twenty classes of the order, ten of them base classes, in a quarter of an hour at most.
pub(super) fn twenty() -> Vec<Preset> {
    let family = small("cifar100-20c", TWENTY, vec![10, 2, 2, 2, 2, 2], 20);
    let of = |(method, about): &(&str, &str)| {
        let expected = match MEASURED_TWENTY.iter().find(|(measured, _, _)| measured == method) {
            Some((_, average, last)) => format!(
                "average incremental accuracy {average} %, last {last} % (ours, seeds 1 to 3 with class orders abd_0 to \
                 abd_2: docs/results.md); not run here yet in this order"
            ),
            None => "not run here yet in this order (docs/results.md has some methods in others)".to_owned(),
        };
        at_its_rate(family.preset(method, method, about, expected))
    };
    METHODS.iter().map(of).collect()
}

/// A family of the small presets' settings.
pub(super) fn small(name: &str, cited: &'static str, increments: Vec<usize>, depth: usize) -> Family {
    let cosine = Decay::Cosine { minimum: 0.0 };
    let mut inversion = InversionConfig::unconditional(400);
    inversion.generator.channels = 64;
    let lengths = Lengths {
        base: sgd(30, 0.1, cosine.clone()),
        // Better for LwF and for LUCIR alone than the base's rate, no different for replay (docs/results.md).
        increment: sgd(20, 0.02, cosine.clone()),
        new_teacher: sgd(10, 0.1, cosine),
        // PODNet's own: 160 images or so make two steps an epoch.
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        correction: correction(100, 0.1, Decay::Constant),
        // R-DFCIL's own, which are 320 steps where a task has two classes; its head alone trains, so they are cheap.
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion,
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::PerClass(20),
    };
    Family {
        name: name.to_owned(),
        cited,
        lengths,
        increments,
        depth,
        order: "lucir_1993",
        images: images_of_lucir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = include_str!("../../../../docs/results.md");

    /// The row of a table that begins with a method's name and holds all of these.
    fn has_row(text: &str, method: &str, cells: &[&str]) -> bool {
        let of_method =
            |line: &str| line.trim_start_matches(['|', ' ', '*']).starts_with(&format!("`{method}`"));
        text.lines().any(|line| of_method(line) && cells.iter().all(|cell| line.contains(cell)))
    }

    #[test]
    fn measured_numbers_are_those_of_the_tables() {
        for (method, average, last) in MEASURED.iter().chain(&MEASURED_TWENTY) {
            assert!(has_row(RESULTS, method, &[average, last]), "{method}: {average} and {last}");
        }
        let readme = include_str!("../../../../README.md");
        let rows: Vec<&str> =
            readme.lines().filter(|line| line.contains(" ± ") && line.contains("| ")).collect();
        assert!(rows.len() > 5, "{} rows", rows.len());
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim_matches([' ', '*'])).collect();
            let numbers: Vec<&str> = cells.iter().copied().filter(|cell| cell.contains(" ± ")).collect();
            let method = cells[1].trim_matches('`');
            assert!(has_row(RESULTS, method, &numbers), "{method}: {numbers:?}");
        }
    }
}
