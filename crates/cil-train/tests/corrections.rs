//! What is done to a head after training, in small runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use cil_backbone::align::Length;
use cil_data::exemplars::Budget;
use cil_train::methods::with_exemplars::weight_aligning;
use cil_train::recipe::Recipe;
use cil_train::recipe::correction::AlignSpec;
use support::{data, plan, run, training, values};

fn aligned(shrink_only: bool, positive: bool) -> Recipe {
    let mut recipe = weight_aligning(training(2), training(3), Budget::PerClass(3), positive);
    recipe.align = Some(AlignSpec { length: Length::L2, shrink_only, positive });
    recipe
}

/// The head's weights by block, `[classes][width]`.
fn head(recipe: Recipe) -> Vec<Vec<Vec<f64>>> {
    let (train, _) = data(6);
    let learner = run(plan(recipe, &[3, 2, 1], 1), &train).1;
    let blocks = values(&learner).into_iter().filter(|(name, _)| name.starts_with("head."));
    let block = |(_, bits): (String, Vec<u32>)| {
        let values: Vec<f64> = bits.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect();
        values.chunks(16).map(<[f64]>::to_vec).collect()
    };
    blocks.map(block).collect()
}

fn mean_length(rows: &[Vec<f64>]) -> f64 {
    let length = |row: &Vec<f64>| row.iter().map(|it| it * it).sum::<f64>().sqrt();
    rows.iter().map(length).sum::<f64>() / rows.len() as f64
}

#[test]
fn the_newest_weights_end_as_long_as_the_old_ones() {
    let blocks = head(aligned(false, false));
    assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
    let old = mean_length(&blocks[..2].concat());
    assert!((mean_length(&blocks[2]) / old - 1.0).abs() < 1e-5, "{blocks:?}");
    // Only shrinking: never longer, and not aligned where they are shorter.
    let mut recipe = aligned(true, false);
    let shrunk = head(recipe.clone());
    recipe.align = None;
    let free = head(recipe);
    let ratio = mean_length(&free[2]) / mean_length(&free[..2].concat());
    let kept = mean_length(&shrunk[2]) / mean_length(&shrunk[..2].concat());
    assert!(kept < 1.0 + 1e-5 && (ratio < 1.0 || kept > 1.0 - 1e-5), "{ratio} became {kept}");
}

#[test]
fn positive_heads_hold_no_weight_below_zero() {
    let below =
        |blocks: Vec<Vec<Vec<f64>>>| blocks.concat().concat().into_iter().filter(|it| *it < 0.0).count();
    assert_eq!(below(head(aligned(true, true))), 0);
    assert!(below(head(aligned(true, false))) > 10);
}

#[test]
fn corrections_that_cannot_be_are_named() {
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = aligned(true, false);
        recipe.check().unwrap();
        change(&mut recipe);
        let message = format!("{:#}", recipe.check().unwrap_err());
        assert!(message.contains(part), "{message}");
    };
    refused(&|it| it.head = cil_backbone::HeadKind::Cosine, "align changes logits");
    refused(&|it| (it.joint, it.exemplars) = (true, Budget::PerClass(0)), "joint is true");
    refused(&|it| it.base.terms = it.increment.terms.clone(), "base.terms has a scaled term");
}
