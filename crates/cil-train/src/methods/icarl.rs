//! iCaRL (Rebuffi et al. 2017), in two forms.

use cil_backbone::{Architecture, Variant};
use cil_data::augment::Preparation;
use cil_data::exemplars::Budget;
use cil_engine::optim::Decay;

use super::lengths::{Lengths, full_batches, same_in_every_task, sgd};
use super::method::{Exemplars, Family, Listed, Method, Presets};
use super::published::{Published, normalisation};
use super::rehearsal::with_kept;
use super::{lucir, rdfcil};
use crate::recipe::{Recipe, Rows, Training};
use crate::term::{BinaryCrossEntropy, LogitKd};

/// `icarl`.
pub static METHOD: Method = Method {
    source: REBUFFI,
    exemplars: Exemplars::OfProtocol,
    presets: &[Presets::at(published, Family::EqualTasks, Listed::All)],
    ..Method::new("icarl", "iCaRL as its paper: sigmoids; see the nearest mean", |lengths| {
        icarl(sigmoid(lengths.base.clone()), sigmoid(lengths.increment.clone()), lengths.exemplars)
    })
};

/// `icarl-softmax`.
pub static SOFTMAX: Method = Method {
    source: REBUFFI,
    exemplars: Exemplars::OfProtocol,
    presets: &[Presets::at(softmax_half_first, Family::HalfFirst, Listed::All)],
    ..Method::new("icarl-softmax", "iCaRL as mostly run since: softmax; see the nearest mean", |lengths| {
        icarl_softmax(lengths.base.clone(), lengths.increment.clone(), lengths.exemplars)
    })
};

const REBUFFI: &str = "Rebuffi et al., CVPR 2017";

/// iCaRL (Rebuffi et al. 2017) as its paper and its code have it: every class is a binary question, old ones with the
/// old model's sigmoids for targets. It classifies by the nearest mean of exemplars, which every evaluation reports
/// beside the head. Loss of weight 0.01: the code takes the mean over 100 outputs, here the sum over the classes seen.
pub fn icarl(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let terms = vec![BinaryCrossEntropy { weight: 0.01, rows: Rows::Real }.into()];
    let mut recipe = with_kept(base, increment, exemplars);
    (recipe.base.terms, recipe.increment.terms) = (terms.clone(), terms);
    recipe
}

/// iCaRL as it is mostly run since: softmax cross-entropy, and the old model's logits distilled at temperature 2
/// without the square of it (weight 0.25 here). So in PyCIL; in LUCIR's comparison the weight 0.25 stands before the
/// square.
pub fn icarl_softmax(base: Training, increment: Training, exemplars: Budget) -> Recipe {
    let mut recipe = with_kept(base, increment, exemplars);
    recipe.increment.terms.push(LogitKd { weight: 0.25, temperature: 2.0, rows: Rows::Real }.into());
    recipe
}

/// The rate of iCaRL's sigmoids: its code begins at 2 where softmax methods begin at 0.1.
fn sigmoid(training: Training) -> Training {
    Training { learning_rate: 20.0 * training.learning_rate, ..training }
}

/// Cropped after the mean is subtracted, as in iCaRL's code.
fn images() -> Preparation {
    Preparation { normalisation: normalisation("cifar100", "icarl"), ..rdfcil::images() }
}

fn lengths() -> Lengths {
    // The rate of sigmoids is twenty times this; the penalty of the code, 1e-5 times the squared length, has this
    // gradient.
    let decay = Decay::MultiStep { milestones: vec![49, 63], gamma: 0.2 };
    same_in_every_task(Training { weight_decay: 2e-5, ..full_batches(sgd(70, 0.1, decay)) })
}

/// iCaRL's own settings for CIFAR-100 in equal tasks.
pub fn published() -> Published {
    Published {
        cited: "iCaRL (Rebuffi et al., CVPR 2017) and its code, srebuffi/iCaRL at b3d3686: 70 epochs, rate 2 divided by 5 \
                at 49 and 63",
        lengths: lengths(),
        architecture: Architecture::small(Variant::Icarl, 32),
        images: images(),
        order: "podnet_1",
    }
}

/// LUCIR's settings, and the network with which its code runs iCaRL: the last block ends with a ReLU.
fn softmax_half_first() -> Published {
    let lucir = lucir::half_first();
    Published { architecture: Architecture { variant: Variant::LucirRelu, ..lucir.architecture }, ..lucir }
}
