//! EFC's training of the backbone (Magistri et al. 2024).

use super::fine_tune;
use super::method::{Heads, Method};
use crate::recipe::{Columns, Recipe, Rows, Training};
use crate::term::{CrossEntropy, ElasticFeatures};

/// `efc`.
pub static METHOD: Method = Method {
    source: "Magistri et al., ICLR 2024",
    heads: Heads::OfStatistics,
    combinations: &["discriminant", "stages"],
    ..Method::new(
        "efc",
        "EFC's backbone: features held where they matter to the old model's answers",
        |lengths| efc(lengths.base.clone(), lengths.increment.clone()),
    )
};

/// Elastic feature consolidation (Magistri et al. 2024): cross-entropy among the new classes, and features held by the
/// empirical feature matrix of the task before (lambda 10, damping 0.1); numbers of the released code
/// (simomagi/elastic_feature_consolidation at b61997c). Its head, trained on features drawn from a normal distribution
/// of each old class beside new images (PR-ACE), and the move of these by the drift of near images in the matrix's
/// metric are not here: a head of kept statistics answers.
pub fn efc(base: Training, increment: Training) -> Recipe {
    let mut recipe = fine_tune(base, increment);
    recipe.increment.terms = vec![
        CrossEntropy::plain(Rows::New, Columns::New).into(),
        ElasticFeatures { weight: 1.0, rows: Rows::All, lambda: 10.0, damping: 0.1 }.into(),
    ];
    recipe
}
