//! The gradient of a step of rival methods: linear heads, factors of class counts, generated images.

use dtid::regression::Centring;

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
        scaled(
            Scaling::NewShare,
            TermSpec::CrossEntropy { weight: 0.9, rows, columns, balanced: false, smoothing: 0.0 },
        ),
        scaled(Scaling::OldShare, TermSpec::LogitKd { weight: 0.6, temperature: 2.0, rows }),
        scaled(Scaling::OldShare, TermSpec::PodSpatial { weight: 0.9, adaptive: true, rows: Rows::All }),
    ];
    check_terms(HeadKind::Linear, terms, 4, SyntheticNorm::Joint, Trained::All, false)
}

#[test]
fn the_gradient_of_data_free_rivals_is_right() -> Result<()> {
    let (weight, rows) = (0.8, Rows::New);
    let terms = vec![
        scaled(Scaling::Keeping, TermSpec::LogitL1 { weight, rows: Rows::Synthetic }),
        scaled(Scaling::Learning, TermSpec::AngleRelation { weight, rows, projection: 2 }),
        TermSpec::OldHead { weight, rows: Rows::All },
        TermSpec::GlobalKd { weight, temperature: 2.0, rows: Rows::Synthetic },
        TermSpec::ClassBalanced { weight, rows: Rows::All },
        TermSpec::DoubleRegression { weight, centring: Centring::Row },
    ];
    check_terms(HeadKind::WithoutBias, terms, 6, SyntheticNorm::Separate, Trained::All, false)
}

/// It moves no feature, so differences show its gradient where the head alone is trained.
#[test]
fn the_gradient_of_cross_entropy_of_the_head_alone_is_right() -> Result<()> {
    let balanced = |balanced| TermSpec::HeadCrossEntropy { weight: 0.8, rows: Rows::All, balanced };
    for kind in [HeadKind::Linear, HeadKind::Cosine] {
        let terms = vec![balanced(true), scaled(Scaling::OldShare, balanced(false))];
        check_terms(kind, terms, 1, SyntheticNorm::Joint, Trained::Head, false)?;
    }
    Ok(())
}

#[test]
fn the_gradient_of_a_bias_correction_is_right() -> Result<()> {
    let (rows, columns) = (Rows::Real, Columns::Seen);
    let terms = vec![TermSpec::CrossEntropy { weight: 0.8, rows, columns, balanced: false, smoothing: 0.0 }];
    check_terms(HeadKind::Linear, terms, 1, SyntheticNorm::Joint, Trained::Correction, true)
}
