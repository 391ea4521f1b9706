//! The gradient of a step of rival methods: linear heads, factors of class counts, generated images.

use super::*;
use crate::recipe::scaling::Scaling;

fn scaled(by: Scaling, term: TermSpec) -> TermSpec {
    TermSpec::Scaled { by, term: Box::new(term) }
}

#[test]
fn the_gradient_of_icarl_and_of_shares_of_classes_is_right() -> Result<()> {
    let (columns, rows) = (Columns::Seen, Rows::Real);
    let terms = vec![
        TermSpec::BinaryCrossEntropy { weight: 0.7, rows },
        scaled(Scaling::NewShare, TermSpec::CrossEntropy { weight: 0.9, rows, columns, balanced: false }),
        scaled(Scaling::OldShare, TermSpec::LogitKd { weight: 0.6, temperature: 2.0, rows }),
        scaled(Scaling::OldShare, TermSpec::PodSpatial { weight: 0.9, adaptive: true }),
    ];
    check_terms(HeadKind::Linear, terms, 4, SyntheticNorm::Joint, Trained::All, false)
}
