//! FeTrIL against scikit-learn (`tests/golden/answers.py`), and what is kept of it.

use super::super::{Kept, svm, tests::*};
use super::*;

#[test]
fn the_classifier_is_scikit_learns_on_moved_features() {
    let golden = golden();
    for at in 0..2 {
        let cost = golden["cost"][at].as_f64().unwrap();
        let tasks = [0, 1].map(|task| classes(&golden["tasks"][task]).into_iter().map(Ok));
        let [base, later] = tasks;
        let first = Fetril::after(None, base, cost).unwrap();
        let head = || spec_of(None).head(&cil_backbone::Architecture::lucir(8).into());
        // LIBLINEAR's tolerance ends both a little before the minimum, here and there.
        let found = plainly(&head(), &first.answer(), &golden["images"]);
        assert_close(&found, &golden["fetril-base"][at], 5e-3, "base");
        let second = Fetril::after(Some(&first), later, cost).unwrap();
        let nearest = most_similar(&first.means, &second.means.rows(3, 2).into_owned());
        assert_eq!(serde_json::json!(nearest), golden["fetril"][at]["nearest"]);
        let found = plainly(&head(), &second.answer(), &golden["images"]);
        assert_close(&found, &golden["fetril"][at]["said"], 5e-3, "later");
        assert_eq!(second.means.rows(0, 3), first.means);
    }
}

#[test]
fn the_minimum_itself_is_scikit_learns_to_many_digits() {
    let golden = golden();
    let mut rows = Rows::new(5);
    for (class, features) in classes(&golden["tasks"][0]).into_iter().enumerate() {
        rows.add(&directions(matrix(&features).unwrap()), class);
    }
    for at in 0..2 {
        let found = svm::tests::exactly(&rows, 3, golden["cost"][at].as_f64().unwrap());
        let images = directions(matrix(&tensor_of(&golden["images"])).unwrap());
        let said = |image: usize| -> Vec<f64> {
            let of = |w: &Vec<f64>| (0..5).map(|it| w[it] * images[(image, it)]).sum::<f64>() + w[5];
            found.iter().map(of).collect()
        };
        // Rows are handed over in f32.
        assert_close(&(0..6).map(said).collect::<Vec<_>>(), &golden["fetril-base"][at], 2e-5, "exact");
    }
}

#[test]
fn means_alone_are_counted_as_kept() {
    let golden = golden();
    let of = classes(&golden["tasks"][0]).into_iter().map(Ok);
    let kept = Kept::Fetril(Fetril::after(None, of, 1.0).unwrap());
    assert_eq!(kept.bytes(), 3 * 5 * 4);
    let values = kept.values().unwrap();
    assert_eq!(Kept::restore(&values, &spec_of(None), (3, 5)).unwrap(), kept);
    assert!(Kept::restore(&values, &spec_of(None), (3, 4)).is_err());
    let nothing = Tensor::zeros((0, 5), candle_core::DType::F32, &candle_core::Device::Cpu);
    assert!(Fetril::after(None, std::iter::once(Ok(nothing.unwrap())), 1.0).is_err());
}
