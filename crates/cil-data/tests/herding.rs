//! Herding against NumPy (`golden/herding.py`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use cil_data::exemplars::herd;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    width: usize,
    features: Vec<f32>,
    chosen: Vec<usize>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Golden>(include_str!("golden/herding.json")).unwrap().cases
}

#[test]
fn herding_matches_numpy() {
    for case in cases() {
        assert_eq!(herd(&case.features, case.width, case.chosen.len()), case.chosen);
    }
}

#[test]
fn fewer_exemplars_are_the_beginning_and_length_does_not_matter() {
    for case in cases() {
        let longer: Vec<f32> = case
            .features
            .chunks_exact(case.width)
            .enumerate()
            .flat_map(|(row, values)| values.iter().map(move |value| value * [1.0, 4.0, 0.5][row % 3]))
            .collect();
        for count in 0..case.chosen.len() {
            assert_eq!(herd(&longer, case.width, count), case.chosen[..count]);
        }
    }
}

#[test]
fn odd_features_are_survived() {
    assert_eq!(herd(&[], 4, 3), Vec::<usize>::new());
    assert_eq!(herd(&[], 0, 3), Vec::<usize>::new());
    // All alike: the lower index first.
    assert_eq!(herd(&[1.0; 8], 2, 4), [0, 1, 2, 3]);
    let mut chosen = herd(&[f32::NAN, 1.0, 1.0, f32::INFINITY, 0.0, 1.0], 2, 3);
    chosen.sort_unstable();
    assert_eq!(chosen, [0, 1, 2]);
}
