//! Changes of images against torchvision, and what is drawn.

use super::*;

/// `tests/golden/augment.py`.
#[derive(Deserialize)]
struct Golden {
    height: usize,
    width: usize,
    mean: [f32; 3],
    deviation: [f32; 3],
    bytes: Vec<u8>,
    changes: Vec<Changed>,
    brightness: Vec<Brightness>,
}

#[derive(Deserialize)]
struct Changed {
    padding: usize,
    corner: (usize, usize),
    mirrored: bool,
    brightness: f64,
    #[serde(default = "one")]
    contrast: f64,
    #[serde(default)]
    contrast_first: bool,
    #[serde(default)]
    fill: Fill,
    values: Vec<f32>,
}

fn one() -> f64 {
    1.0
}

#[derive(Deserialize)]
struct Brightness {
    factor: f64,
    bytes: Vec<u8>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/augment.json")).unwrap()
}

#[test]
fn changes_match_torchvision() {
    let Golden { height, width, mean, deviation, bytes, changes, .. } = golden();
    for case in changes {
        let Changed { padding, corner, mirrored, brightness, contrast, contrast_first, fill, values } = case;
        let mut found = vec![0f32; values.len()];
        let change = Change { corner, mirrored, brightness, contrast, contrast_first };
        apply(
            &bytes,
            Size { height, width },
            (padding, fill),
            change,
            &Normalisation { mean, deviation },
            &mut found,
        );
        for (at, (found, expected)) in found.iter().zip(&values).enumerate() {
            assert!(
                (found - expected).abs() < 1e-6,
                "{change:?}, value {at}: {found}, torchvision {expected}"
            );
        }
    }
}

#[test]
fn brightness_matches_torchvision_for_every_byte() {
    for Brightness { factor, bytes } in golden().brightness {
        let change = Change { brightness: factor, ..Change::none() };
        let table = jittered(&[0; 3], Size { height: 1, width: 1 }, change);
        for (byte, expected) in bytes.into_iter().enumerate() {
            let found = table[byte];
            assert_eq!(found, expected, "byte {byte} times {factor}");
        }
    }
}

/// What is added around an image is black, as a pixel, whose normalised value is not 0; or what is normalised to 0.
#[test]
fn padding_is_black_or_the_mean_colour() {
    let by = Normalisation { mean: [0.5; 3], deviation: [0.25; 3] };
    let change = Change { corner: (0, 2), ..Change::none() };
    let mut found = [0f32; 12];
    let size = Size { height: 2, width: 2 };
    for (fill, around) in [(Fill::Black, -2.0), (Fill::Mean, 0.0)] {
        apply(&[255; 12], size, (1, fill), change, &by, &mut found);
        for plane in found.chunks_exact(4) {
            assert_eq!(plane, [around, around, 2.0, around]);
        }
    }
}

#[test]
fn every_place_and_both_sides_are_drawn_alike_often() {
    let augmentation = Augmentation { crop_padding: 2, flip: true, brightness: 0.3, ..Augmentation::none() };
    let (mut rows, mut columns, mut mirrored, mut first) = ([0; 5], [0; 5], 0, 0);
    for sample in 0..5000 {
        let stream = Draw::new(1, "test").stream_of(sample);
        let change = Change::draw(&augmentation, stream.clone());
        rows[change.corner.0] += 1;
        columns[change.corner.1] += 1;
        mirrored += usize::from(change.mirrored);
        assert!((0.7..1.3).contains(&change.brightness));
        let unmirrored = Change::draw(&Augmentation { flip: false, ..augmentation.clone() }, stream.clone());
        let contrasted =
            Change::draw(&Augmentation { contrast: 0.8, ..augmentation.clone() }, stream.clone());
        assert!((0.2..1.8).contains(&contrasted.contrast));
        first += usize::from(contrasted.contrast_first);
        assert_eq!(Change { contrast: 1.0, contrast_first: false, ..contrasted }, change);
        assert_eq!(unmirrored, Change { mirrored: false, ..change }, "turning one change off moves another");
    }
    assert!(rows.iter().chain(&columns).all(|count| (900..1100).contains(count)), "{rows:?} {columns:?}");
    assert!((2350..2650).contains(&mirrored), "{mirrored}");
    assert!((2350..2650).contains(&first), "{first}");
    let unchanged = Change::draw(&Augmentation::none(), Draw::new(1, "test").stream_of(0));
    assert_eq!(unchanged, Change::none());
}

#[test]
fn wrong_values_are_refused() {
    let message = |augmentation: Augmentation| augmentation.check().unwrap_err().to_string();
    let none = Augmentation::none();
    assert_eq!(
        message(Augmentation { brightness: 1.5, ..none.clone() }),
        "brightness is 1.5; use a value from 0 to 1"
    );
    assert!(Augmentation { brightness: f64::NAN, ..none.clone() }.check().is_err());
    assert_eq!(
        message(Augmentation { contrast: -0.5, ..none.clone() }),
        "contrast is -0.5; use a value from 0 to 1"
    );
    assert!(message(Augmentation { crop_padding: usize::MAX, ..none.clone() }).contains("at most 1024"));
    assert!(
        serde_json::from_str::<Augmentation>(r#"{"crop_padding":1,"flip":true,"brightness":0}"#).is_err()
    );
    let read = serde_json::from_str::<Augmentation>(r#"{"crop-padding":4,"flip":true,"brightness":0}"#);
    let read = read.unwrap();
    assert_eq!(read, Augmentation { crop_padding: 4, flip: true, ..none });
    // Keys that came later are written only where they say something.
    assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"crop-padding":4,"flip":true,"brightness":0.0}"#);
}

#[test]
fn an_augmentation_is_described_in_a_few_words() {
    assert_eq!(Augmentation::none().to_string(), "as they are");
    let all = Augmentation {
        crop_padding: 4,
        flip: true,
        brightness: 63.0 / 255.0,
        policy: Some(Policy::TrivialAugmentWide),
        cutout: 8,
        ..Augmentation::none()
    };
    assert_eq!(
        all.to_string(),
        "crop with 4 pixels of padding, brightness 0.25, flip, TrivialAugmentWide, cutout of 8 pixels"
    );
}
