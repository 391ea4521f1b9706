//! The gradient of a step of rival methods: linear heads, factors of class counts, generated images.

use dtid::regression::Centring;

use super::*;
use crate::term::{
    AngleRelation, AntiCollapse, BinaryCrossEntropy, ClassBalanced, ClassScale, DoubleRegression,
    ElasticFeatures, GlobalKd, HeadCrossEntropy, LogitL1, OldHead, ProjectedKd, Rotation, Scaled,
};

fn scaled(by: ClassScale, term: TermSpec) -> TermSpec {
    Scaled::new(by, term).into()
}

pub(super) fn of_shares() -> Vec<TermSpec> {
    let (columns, rows) = (Columns::Seen, Rows::Real);
    vec![
        TermSpec::BinaryCrossEntropy(BinaryCrossEntropy { weight: 0.7, rows }),
        scaled(
            ClassScale::NewShare,
            TermSpec::CrossEntropy(CrossEntropy {
                weight: 0.9,
                rows,
                columns,
                balanced: false,
                smoothing: 0.0,
            }),
        ),
        scaled(ClassScale::OldShare, TermSpec::LogitKd(LogitKd { weight: 0.6, temperature: 2.0, rows })),
        scaled(
            ClassScale::OldShare,
            TermSpec::PodSpatial(PodSpatial { weight: 0.9, adaptive: true, rows: Rows::All }),
        ),
    ]
}

#[test]
fn the_gradient_of_icarl_and_of_shares_of_classes_is_right() -> Result<()> {
    check_terms(HeadKind::Linear, of_shares(), 4, SyntheticNorm::Joint, Trained::All, false)
}

pub(super) fn data_free() -> Vec<TermSpec> {
    let (weight, rows) = (0.8, Rows::New);
    vec![
        scaled(ClassScale::Keeping, TermSpec::LogitL1(LogitL1 { weight, rows: Rows::Synthetic })),
        scaled(ClassScale::Learning, TermSpec::AngleRelation(AngleRelation { weight, rows, projection: 2 })),
        TermSpec::OldHead(OldHead { weight, rows: Rows::All }),
        TermSpec::GlobalKd(GlobalKd { weight, temperature: 2.0, rows: Rows::Synthetic }),
        TermSpec::ClassBalanced(ClassBalanced { weight, rows: Rows::All }),
        TermSpec::DoubleRegression(DoubleRegression { weight, centring: Centring::Row }),
    ]
}

#[test]
fn the_gradient_of_data_free_rivals_is_right() -> Result<()> {
    check_terms(HeadKind::WithoutBias, data_free(), 6, SyntheticNorm::Separate, Trained::All, false)
}

pub(super) fn of_features() -> Vec<TermSpec> {
    let (columns, rows) = (Columns::Seen, Rows::Real);
    vec![
        // So that the head has a gradient.
        TermSpec::CrossEntropy(CrossEntropy { weight: 0.5, rows, columns, balanced: false, smoothing: 0.0 }),
        TermSpec::ProjectedKd(ProjectedKd { weight: 0.8, rows: Rows::All, hidden: 2 }),
        // Ten rows of eight features, five of them of alike images, have a nearly singular covariance: differences of
        // its factor are coarse, and its weight is small for that.
        TermSpec::AntiCollapse(AntiCollapse { weight: 0.03, rows: Rows::All, limit: 0.2 }),
        TermSpec::ElasticFeatures(ElasticFeatures {
            weight: 0.7,
            rows: Rows::All,
            lambda: 3.0,
            damping: 0.4,
        }),
    ]
}

#[test]
fn the_gradient_of_terms_on_features_is_right() -> Result<()> {
    check_terms(HeadKind::Linear, of_features(), 4, SyntheticNorm::Joint, Trained::All, false)
}

pub(super) fn turned() -> Vec<TermSpec> {
    let (columns, rows) = (Columns::Seen, Rows::All);
    vec![
        TermSpec::CrossEntropy(CrossEntropy { weight: 0.5, rows, columns, balanced: false, smoothing: 0.0 }),
        TermSpec::PodSpatial(PodSpatial { weight: 0.9, adaptive: true, rows: Rows::Old }),
        Rotation { weight: 0.8 }.into(),
    ]
}

#[test]
fn the_gradient_of_rotations_as_labels_is_right() -> Result<()> {
    for norm in [SyntheticNorm::Joint, SyntheticNorm::Running, SyntheticNorm::Separate, SyntheticNorm::Frozen]
    {
        check_terms(HeadKind::Linear, turned(), 3, norm, Trained::All, false)?;
    }
    Ok(())
}

/// The other terms of a step have the same values with it as without it, where turned images have their own batch.
#[test]
fn turned_images_are_no_rows_of_the_other_terms() -> Result<()> {
    let others = |terms: Vec<TermSpec>| -> Result<BTreeMap<String, f64>> {
        let found = std::cell::RefCell::new(BTreeMap::new());
        on_step(
            HeadKind::Linear,
            terms,
            SyntheticNorm::Frozen,
            Trained::All,
            false,
            &|job, samples, draws, context| {
                let grad = grad_of(job, samples, draws, context)?;
                let values = grad.parts.iter().map(|(name, it)| Ok((name.clone(), it.to_scalar::<f64>()?)));
                *found.borrow_mut() = values.collect::<Result<_>>()?;
                Ok(())
            },
        )?;
        Ok(found.into_inner())
    };
    let mut with = others(turned())?;
    // Twice as many columns as classes would have: chance is ln 8 of two classes and four turns.
    let own = with.remove("rotation").unwrap();
    assert!((1.0..4.0).contains(&own), "{own}");
    assert_eq!(with, others(turned()[..2].to_vec())?);
    Ok(())
}

pub(super) fn head_alone() -> Vec<TermSpec> {
    let balanced =
        |balanced| TermSpec::HeadCrossEntropy(HeadCrossEntropy { weight: 0.8, rows: Rows::All, balanced });
    vec![balanced(true), scaled(ClassScale::OldShare, balanced(false))]
}

/// It moves no feature, so differences show its gradient where the head alone is trained.
#[test]
fn the_gradient_of_cross_entropy_of_the_head_alone_is_right() -> Result<()> {
    for kind in [HeadKind::Linear, HeadKind::Cosine] {
        check_terms(kind, head_alone(), 1, SyntheticNorm::Joint, Trained::Head, false)?;
    }
    Ok(())
}

#[test]
fn the_gradient_of_a_bias_correction_is_right() -> Result<()> {
    let (rows, columns) = (Rows::Real, Columns::Seen);
    let terms = vec![TermSpec::CrossEntropy(CrossEntropy {
        weight: 0.8,
        rows,
        columns,
        balanced: false,
        smoothing: 0.0,
    })];
    check_terms(HeadKind::Linear, terms, 1, SyntheticNorm::Joint, Trained::Correction, true)
}
