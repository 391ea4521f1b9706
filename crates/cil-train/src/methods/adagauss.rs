//! AdaGauss's training of the backbone (Rypesc et al. 2024).

use super::method::{Heads, Method};
use super::{fine_tune, schemes};
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{AntiCollapse, CrossEntropy, ProjectedKd};

/// `adagauss`.
pub static METHOD: Method = Method {
    source: "Rypesc et al., NeurIPS 2024",
    schemes: Some(super::Schemes { replay: schemes::with_dfgr_distilled, ..super::Schemes::DEFAULT }),
    heads: Heads::OfStatistics,
    combinations: &["discriminant", "stages"],
    ..Method::new(
        "adagauss",
        "AdaGauss's backbone: features distilled through a projector, and kept from collapsing",
        |lengths| adagauss(lengths.base.clone(), lengths.increment.clone()),
    )
};

/// AdaGauss (Rypesc et al. 2024): cross-entropy among the new classes, the old features computed from the new ones by a
/// trained projector (weight 10, hidden layer 32 times as wide), and features that keep all their dimensions (weight 1,
/// limit 1), the base classes' too; numbers of the released code (grypesc/AdaGauss at 0543a12). Its classifier, a
/// normal distribution of each class carried by another network, is not here: heads of kept statistics have one
/// covariance and an affine map.
pub fn adagauss(base: Training, increment: Training) -> Recipe {
    let spread = AntiCollapse { weight: 1.0, rows: Rows::All, limit: 1.0 };
    let mut recipe = fine_tune(base, increment);
    recipe.base.terms.push(spread.clone().into());
    recipe.increment.terms = vec![
        CrossEntropy::plain(Rows::New, Columns::New).into(),
        ProjectedKd { weight: 10.0, rows: Rows::All, hidden: 32 }.into(),
        spread.into(),
    ];
    recipe
}
