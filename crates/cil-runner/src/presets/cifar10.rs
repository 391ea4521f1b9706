//! CIFAR-10 in five equal tasks of two classes.
//!
//! The settings are those of the small presets of CIFAR-100, with the data set's own normalisation; nothing was chosen
//! on its images.

use cil_train::methods::normalisation;

use super::cifar100::small;
use super::protocol::Protocol;
use super::settings::methods;
use crate::config::{DatasetSpec, OrderSpec};

const SOURCE: &str = "ours: cifar100-10c's settings with ResNet-20 on CIFAR-10 in five equal tasks, classes in the order of \
     their labels; nothing was chosen on these images";

/// Every method on ten classes.
pub(super) fn protocol() -> Protocol {
    let family = small(SOURCE, vec![2; 5], 20);
    let about = "CIFAR-10 in five equal tasks of 2 classes, ResNet-20; under an hour";
    Protocol::new("cifar10-t5", about, methods(), move |method| {
        let mut made = family.made(method);
        made.config.dataset = DatasetSpec::named("cifar10");
        made.config.class_order = OrderSpec::Labels((0..10).collect());
        made.config.normalisation = normalisation("cifar10", "usual");
        Some(made)
    })
}
