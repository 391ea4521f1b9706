//! Operations against Pillow, and what policies draw.

use std::collections::BTreeMap;

use cil_random::Draw;

use super::super::{Augmentation, Preparation, prepare};
use super::*;
use crate::normalise::Normalisation;

/// `tests/golden/policy.py`.
#[derive(Deserialize)]
struct Golden {
    height: usize,
    width: usize,
    bytes: String,
    changed: Vec<Changed>,
}

#[derive(Deserialize)]
struct Changed {
    operation: String,
    magnitude: f64,
    bytes: String,
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn operation(name: &str, magnitude: f64) -> Operation {
    match name {
        "shear-x" => Operation::ShearX(magnitude),
        "shear-y" => Operation::ShearY(magnitude),
        "translate-x" => Operation::TranslateX(magnitude as i32),
        "translate-y" => Operation::TranslateY(magnitude as i32),
        "rotate" => Operation::Rotate(magnitude),
        "brightness" => Operation::Brightness(magnitude),
        "color" => Operation::Color(magnitude),
        "contrast" => Operation::Contrast(magnitude),
        "sharpness" => Operation::Sharpness(magnitude),
        "posterize" => Operation::Posterize(magnitude as u32),
        "solarize" => Operation::Solarize(magnitude),
        "auto-contrast" => Operation::AutoContrast,
        "equalize" => Operation::Equalize,
        "invert" => Operation::Invert,
        other => panic!("{other}"),
    }
}

#[test]
fn operations_are_pillows_to_the_byte() {
    let golden: Vec<Golden> =
        serde_json::from_str(include_str!("../../../tests/golden/policy.json")).unwrap();
    let mut count = 0;
    for Golden { height, width, bytes: given, changed } in golden {
        for Changed { operation: name, magnitude, bytes: expected } in changed {
            let mut found = bytes(&given);
            operation(&name, magnitude).apply(&mut found, Size { height, width });
            let expected = bytes(&expected);
            let wrong = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
            assert_eq!(wrong, 0, "{name} {magnitude} of {height} x {width}: {found:?}, Pillow {expected:?}");
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
}

fn with(policy: Option<Policy>, cutout: usize) -> Augmentation {
    Augmentation { crop_padding: 2, flip: true, policy, cutout, ..Augmentation::none() }
}

fn drawn(augmentation: &Augmentation, number: u64) -> Drawn {
    Drawn::draw(
        (augmentation.policy, augmentation.cutout),
        Size { height: 32, width: 32 },
        Draw::new(1, "test"),
        number,
    )
}

fn kind(operation: Operation) -> String {
    let name = format!("{operation:?}");
    name.split('(').next().unwrap().to_owned()
}

#[test]
fn a_trivial_policy_draws_one_of_its_operations_and_of_its_magnitudes_alike_often() {
    let augmentation = with(Some(Policy::TrivialAugmentWide), 0);
    let (mut kinds, mut angles) = (BTreeMap::<String, u32>::new(), BTreeMap::<i64, u32>::new());
    for number in 0..14_000 {
        let Drawn { operations, hole } = drawn(&augmentation, number);
        assert_eq!((operations[1], hole), (None, None));
        let name = operations[0].map_or("Identity".to_owned(), kind);
        *kinds.entry(name).or_default() += 1;
        match operations[0] {
            Some(Operation::Rotate(angle)) => *angles.entry((angle * 2.0).round() as i64).or_default() += 1,
            Some(Operation::TranslateX(by) | Operation::TranslateY(by)) => assert!((-32..=32).contains(&by)),
            Some(Operation::Color(by) | Operation::Sharpness(by)) => assert!((0.0099..1.991).contains(&by)),
            Some(Operation::Posterize(bits)) => assert!((2..=8).contains(&bits)),
            Some(Operation::Solarize(from)) => assert!((0.0..=255.0).contains(&from)),
            _ => {}
        }
    }
    assert_eq!(kinds.len(), 14, "{kinds:?}");
    assert!(kinds.values().all(|count| (850..1150).contains(count)), "{kinds:?}");
    // 135 in 30 steps, both ways, and 0 from both.
    assert_eq!(angles.keys().copied().collect::<Vec<_>>(), (-30..=30).map(|at| at * 9).collect::<Vec<_>>());
}

#[test]
fn the_learned_policy_draws_its_pairs_with_their_probabilities() {
    let augmentation = with(Some(Policy::AutoAugmentCifar), 0);
    let mut kinds = BTreeMap::<String, u32>::new();
    for number in 0..25_000 {
        for it in drawn(&augmentation, number).operations.into_iter().flatten() {
            if let Operation::TranslateY(by) = it {
                // 150 / 331 of 32 pixels, in ninths: the ninth, and the third of them.
                assert!([14, -14, 4, -4].contains(&by), "{by}");
            }
            *kinds.entry(kind(it)).or_default() += 1;
        }
    }
    // Sums of the table's probabilities over its 25 pairs, each drawn some 1000 times.
    for (name, tenths) in [
        ("Invert", 2),
        ("Contrast", 8),
        ("Rotate", 7),
        ("TranslateX", 8),
        ("Sharpness", 28),
        ("ShearY", 7),
        ("TranslateY", 34),
        ("AutoContrast", 50),
        ("Equalize", 47),
        ("Posterize", 3),
        ("Color", 29),
        ("Brightness", 23),
        ("Solarize", 19),
    ] {
        let (found, expected) = (kinds[name], 100.0 * f64::from(tenths));
        assert!((f64::from(found) - expected).abs() < 6.0 * expected.sqrt(), "{name}: {found}, {expected}");
    }
    assert_eq!(kinds.len(), 13, "{kinds:?}");
}

fn prepared(augmentation: Augmentation, images: &[(&[u8], u64)]) -> Vec<f32> {
    let normalisation = Normalisation { mean: [0.5; 3], deviation: [0.25; 3] };
    let preparation = Preparation { augmentation, normalisation };
    let size = Size { height: 8, width: 8 };
    let tensor = prepare(images, size, &preparation, Some(Draw::new(1, "test"))).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_policy_moves_no_other_draw_and_an_image_is_the_same_in_any_batch() {
    let bytes: Vec<u8> = (0..192).map(|at| (at * 37 % 256) as u8).collect();
    let plain = prepared(with(None, 0), &[(&bytes, 5)]);
    let mut changed = 0;
    for policy in [Policy::TrivialAugmentWide, Policy::AutoAugmentCifar] {
        let alone: Vec<Vec<f32>> =
            (0..40).map(|number| prepared(with(Some(policy), 0), &[(&bytes, number)])).collect();
        let batch: Vec<(&[u8], u64)> = (0..40).map(|number| (bytes.as_slice(), number)).collect();
        assert_eq!(prepared(with(Some(policy), 0), &batch), alone.concat());
        for (number, alone) in alone.iter().enumerate() {
            let undone = drawn(&with(Some(policy), 0), number as u64).operations == [None; 2];
            let same = *alone == prepared(with(None, 0), &[(&bytes, number as u64)]);
            assert!(same || !undone, "image {number}");
            changed += usize::from(!same);
        }
    }
    assert!(changed > 40, "{changed}");
    assert_ne!(plain, prepared(with(None, 0), &[(&bytes, 6)]));
}

#[test]
fn a_square_is_cut_out_after_normalisation_and_may_lie_over_the_edge() {
    let bytes = [255; 192];
    let mut areas = BTreeMap::<usize, u32>::new();
    for number in 0..500 {
        let none = Augmentation::none();
        let found = prepared(Augmentation { cutout: 4, ..none }, &[(&bytes, number)]);
        assert!(found.iter().all(|value| *value == 0.0 || *value == 2.0));
        let holes: Vec<Vec<bool>> =
            found.chunks(64).map(|plane| plane.iter().map(|it| *it == 0.0).collect()).collect();
        assert!(holes[0] == holes[1] && holes[1] == holes[2]);
        *areas.entry(holes[0].iter().filter(|it| **it).count()).or_default() += 1;
    }
    // Sides from 2 (a middle on the edge) to 4 pixels.
    assert_eq!(areas.keys().copied().collect::<Vec<_>>(), [4, 6, 8, 9, 12, 16], "{areas:?}");
    // With a policy as well.
    let both = prepared(with(Some(Policy::AutoAugmentCifar), 16), &[(&bytes, 1)]);
    assert!(both.contains(&0.0));
}

#[test]
fn keys_are_read_written_and_refused() {
    let message = |augmentation: Augmentation| augmentation.check().unwrap_err().to_string();
    assert!(message(with(None, 7)).contains("cutout is 7; use an even number"));
    assert!(message(with(None, 2048)).contains("at most 1024"));
    let mean =
        Augmentation { crop_fill: super::super::Fill::Mean, ..with(Some(Policy::AutoAugmentCifar), 0) };
    assert!(message(mean).contains("crop-fill should be \"black\""));
    let text = serde_json::to_string(&with(Some(Policy::TrivialAugmentWide), 8)).unwrap();
    assert!(text.ends_with(r#""policy":"trivial-augment-wide","cutout":8}"#), "{text}");
    assert_eq!(
        serde_json::from_str::<Augmentation>(&text).unwrap(),
        with(Some(Policy::TrivialAugmentWide), 8)
    );
    // Neither is in a table for a GPU.
    assert!(with(None, 0).fits_a_table());
    assert!(!with(None, 8).fits_a_table() && !with(Some(Policy::AutoAugmentCifar), 0).fits_a_table());
}
