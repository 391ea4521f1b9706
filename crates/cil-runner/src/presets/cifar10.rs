//! CIFAR-10 in five equal tasks of two classes.
//!
//! One decision: the settings are those of the small presets of CIFAR-100, with the data set's own normalisation; nothing
//! was chosen on its images.

use cil_data::normalise::Normalisation;

use super::Preset;
use super::cifar100::small;
use super::settings::METHODS;
use crate::config::{DatasetSpec, OrderSpec};

const SOURCE: &str = "ours: cifar100-10c's settings with ResNet-20 on CIFAR-10 in five equal tasks, classes in the order of \
     their labels; nothing was chosen on these images";

/// One preset for each method.
pub(super) fn presets() -> Vec<Preset> {
    let family = small("cifar10-t5", SOURCE, vec![2; 5], 20);
    let of = |(method, about): &(&str, &str)| {
        let mut preset = family.preset(method, method, about, "not run here yet".to_owned());
        preset.config.dataset = DatasetSpec::named("cifar10");
        preset.config.class_order = OrderSpec::Labels((0..10).collect());
        preset.config.normalisation = Normalisation::cifar10();
        preset
    };
    METHODS.iter().map(of).collect()
}
