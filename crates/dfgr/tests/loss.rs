//! Every inversion loss against PyTorch (`golden/losses.py`), against finite differences, and at its edges.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::StageCells;
use dfgr::Targets;
use dfgr::loss::{
    ChannelReduction, LayerMoments, balance, batch_entropy, blur, bn_kl_generated_to_stored,
    bn_kl_stored_to_generated, diversity, instance_entropy, label_cross_entropy, mode_seeking_ratio,
    pairs_of_halves, pairs_within_labels, smoothness,
};

#[path = "../../dtid/tests/support/mod.rs"]
mod support;
use support::{Case, assert_close, check_detached, check_gradient, flat};

const GOLDEN: &str = include_str!("golden/losses.json");
const LABELS: [u32; 5] = [0, 1, 0, 0, 1];

type BnLoss = fn(&[LayerMoments<'_>], ChannelReduction) -> Result<Tensor>;
const DIRECTIONS: [BnLoss; 2] = [bn_kl_generated_to_stored, bn_kl_stored_to_generated];

fn vector(numbers: &[f64]) -> Tensor {
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn layer<'a>(
    mean: &'a Tensor,
    variance: &'a Tensor,
    running_mean: &'a Tensor,
    running_variance: &'a Tensor,
) -> LayerMoments<'a> {
    LayerMoments { mean, variance, running_mean, running_variance }
}

#[test]
fn distances_from_targets_match_torch() {
    let stage = |stage, cells, normalised| StageCells { stage, cells, normalised };
    let case = Case::load(GOLDEN, "targets_of_stages");
    let stages = vec![stage(1, 2, true), stage(2, 3, false)];
    let targets = Targets::new(stages, case.tensor("means"), case.tensor("directions"), 0.9).unwrap();
    let (noise, labels) = (case.tensor("noise"), case.tensor("labels"));
    let unread = Tensor::zeros((3, 1), DType::F64, &Device::Cpu).unwrap();
    case.check(&["stage1", "stage2"], |it| {
        let maps = ["stage1", "stage2"].map(str::to_owned).into_iter().zip(it.iter().cloned()).collect();
        targets.distance(&unread, &maps, &noise, &labels)
    });
    let case = Case::load(GOLDEN, "outside_of_stages");
    case.check(&["stage1", "stage2"], |it| {
        let maps = ["stage1", "stage2"].map(str::to_owned).into_iter().zip(it.iter().cloned()).collect();
        targets.outside(&unread, &maps, &labels)
    });
    assert!(targets.distance(&unread, &BTreeMap::new(), &noise, &labels).is_err());
    let case = Case::load(GOLDEN, "targets_of_pooled");
    let targets = Targets::new(Vec::new(), case.tensor("means"), case.tensor("directions"), 0.9).unwrap();
    let (noise, labels) = (case.tensor("noise"), case.tensor("labels"));
    case.check(&["features"], |it| targets.distance(&it[0], &BTreeMap::new(), &noise, &labels));
    let case = Case::load(GOLDEN, "outside_of_pooled");
    case.check(&["features"], |it| targets.outside(&it[0], &BTreeMap::new(), &labels));
    // An image within its class costs nothing, and takes nothing off what the others cost.
    let unit = Tensor::new(&[[1.0, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
    let within = Targets::new(Vec::new(), unit.clone(), unit.clone(), 1.0).unwrap();
    let labels = Tensor::new(&[0u32, 0], &Device::Cpu).unwrap();
    // Squared distances of 0 and of 2, where 1 is allowed.
    let found = within.outside(&unit, &BTreeMap::new(), &labels).unwrap();
    assert_close(scalar(&found), 0.5, 1e-12, "one image within and one outside");
    let wrong = |means: (usize, usize), directions: (usize, usize), value: f64| {
        let tensor = |dims| Tensor::full(value, dims, &Device::Cpu).unwrap();
        Targets::new(Vec::new(), tensor(means), tensor(directions), 1.0).unwrap_err().to_string()
    };
    assert!(wrong((2, 3), (2, 4), 1.0).contains("the directions [2, 4]"));
    assert!(wrong((2, 3), (2, 3), 0.0).contains("do not differ"));
}

#[test]
fn bn_kl_matches_torch() {
    for (name, loss, reduction) in [
        ("bn_sum", DIRECTIONS[0], ChannelReduction::Sum),
        ("bn_mean", DIRECTIONS[0], ChannelReduction::Mean),
        ("bn_reverse_sum", DIRECTIONS[1], ChannelReduction::Sum),
        ("bn_reverse_mean", DIRECTIONS[1], ChannelReduction::Mean),
    ] {
        let case = Case::load(GOLDEN, name);
        let stored = |side: &str| {
            (case.tensor(&format!("running_mean_{side}")), case.tensor(&format!("running_variance_{side}")))
        };
        let (a, b) = (stored("a"), stored("b"));
        case.check(&["mean_a", "variance_a", "mean_b", "variance_b"], |it| {
            loss(&[layer(&it[0], &it[1], &a.0, &a.1), layer(&it[2], &it[3], &b.0, &b.1)], reduction)
        });
    }
}

#[test]
fn bn_kl_has_its_closed_forms() {
    let mean = vector(&[1.0, -2.0, 0.5]);
    let stored = vector(&[0.25, 1.0, 9.0]);
    let four_times = (&stored * 4.0).unwrap();
    for loss in DIRECTIONS {
        let same = loss(&[layer(&mean, &stored, &mean, &stored)], ChannelReduction::Sum).unwrap();
        assert_close(scalar(&same), 0.0, 1e-15, "equal moments");
    }
    let wider = [layer(&mean, &four_times, &mean, &stored)];
    let expected = 1.5 - std::f64::consts::LN_2;
    let sum = bn_kl_generated_to_stored(&wider, ChannelReduction::Sum).unwrap();
    assert_close(scalar(&sum), 3.0 * expected, 1e-14, "four times the variance, sum");
    let mean_of = bn_kl_generated_to_stored(&wider, ChannelReduction::Mean).unwrap();
    assert_close(scalar(&mean_of), expected, 1e-14, "four times the variance, mean");
    let reverse = bn_kl_stored_to_generated(&wider, ChannelReduction::Mean).unwrap();
    assert_close(scalar(&reverse), std::f64::consts::LN_2 - 0.375, 1e-14, "reverse");
}

#[test]
fn bn_kl_floors_dead_channels() {
    let zero = vector(&[0.0]);
    for loss in DIRECTIONS {
        let found = scalar(&loss(&[layer(&zero, &zero, &zero, &zero)], ChannelReduction::Sum).unwrap());
        assert!(found.is_finite() && found > 0.0, "{found}");
        // Below its floor the variance has no gradient; the mean keeps its own.
        let gradients = check_gradient(&[zero.clone(), vector(&[-1.0])], |it| {
            loss(&[layer(&it[0], &it[1], &zero, &vector(&[1.0]))], ChannelReduction::Sum)
        });
        assert_eq!(flat(&gradients[1]), [0.0]);
        assert!(loss(&[], ChannelReduction::Sum).unwrap_err().to_string().contains("at least one layer"));
    }
}

#[test]
fn stored_statistics_and_noise_get_no_gradient() {
    let live = candle_core::Var::from_tensor(&vector(&[0.5, 1.0])).unwrap();
    let stored = vector(&[0.25, 2.0]);
    for loss in DIRECTIONS {
        check_detached(&stored, |it| loss(&[layer(&live, &live, it, &stored)], ChannelReduction::Sum));
        check_detached(&stored, |it| loss(&[layer(&live, &live, &stored, it)], ChannelReduction::Sum));
    }
    let case = Case::load(GOLDEN, "diversity");
    let images = candle_core::Var::from_tensor(&case.tensor("images")).unwrap();
    let pairs = pairs_within_labels(&LABELS);
    check_detached(&case.tensor("noise"), |it| Ok(diversity(&images, it, &pairs)?.unwrap()));
}

#[test]
fn entropies_match_torch() {
    let case = Case::load(GOLDEN, "label");
    case.check(&["logits"], |it| label_cross_entropy(&it[0], &case.tensor("labels")));
    Case::load(GOLDEN, "instance").check(&["logits"], |it| instance_entropy(&it[0]));
    Case::load(GOLDEN, "batch").check(&["logits"], |it| batch_entropy(&it[0]));
}

#[test]
fn entropies_have_their_range() {
    let ln_3 = 3f64.ln();
    let unsure = Tensor::zeros((4, 3), DType::F64, &Device::Cpu).unwrap();
    assert_close(scalar(&instance_entropy(&unsure).unwrap()), ln_3, 1e-14, "unsure rows");
    assert_close(scalar(&batch_entropy(&unsure).unwrap()), -ln_3, 1e-14, "unsure batch");
    // Certain beyond what f32 can hold as a probability: no NaN, in value or gradient.
    let one_class = Tensor::new(&[[2000f32, 0.0, -2000.0], [2000.0, 0.0, -2000.0]], &Device::Cpu).unwrap();
    let balanced = Tensor::new(&[[2000f32, 0., 0.], [0., 2000., 0.], [0., 0., 2000.]], &Device::Cpu).unwrap();
    for (logits, expected) in [(&one_class, 0.0), (&balanced, -ln_3)] {
        let var = candle_core::Var::from_tensor(logits).unwrap();
        assert_eq!(scalar(&instance_entropy(&var).unwrap()), 0.0);
        let loss = batch_entropy(&var).unwrap();
        assert_close(scalar(&loss), expected, 1e-6, "batch entropy");
        let gradient = loss.backward().unwrap().get(&var).unwrap().clone();
        assert!(flat(&gradient).iter().all(|it| it.is_finite()));
    }
    let single = unsure.narrow(1, 0, 1).unwrap();
    assert_eq!(scalar(&batch_entropy(&single).unwrap()), 0.0);
    assert_eq!(scalar(&instance_entropy(&single).unwrap()), 0.0);
    assert!(batch_entropy(&unsure.narrow(0, 0, 0).unwrap()).is_err());
}

#[test]
fn diversity_matches_torch() {
    let pairs = pairs_within_labels(&LABELS);
    let case = Case::load(GOLDEN, "ratio");
    let noise = case.tensor("noise");
    case.check(&["images"], |it| Ok(mode_seeking_ratio(&it[0], &noise, &pairs)?.unwrap()));
    Case::load(GOLDEN, "diversity").check(&["images"], |it| Ok(diversity(&it[0], &noise, &pairs)?.unwrap()));
}

#[test]
fn diversity_sees_a_collapsed_generator() {
    let noise = Case::load(GOLDEN, "diversity").tensor("noise");
    let images = Tensor::ones((5, 1, 2, 2), DType::F64, &Device::Cpu).unwrap();
    let var = candle_core::Var::from_tensor(&images).unwrap();
    let loss = diversity(&var, &noise, &pairs_of_halves(5)).unwrap().unwrap();
    assert_close(scalar(&loss), 1e5, 1e-10, "collapsed");
    assert!(flat(loss.backward().unwrap().get(&var).unwrap()).iter().all(|it| *it == 0.0));
    let same_noise = Tensor::ones((5, 4), DType::F64, &Device::Cpu).unwrap();
    assert!(scalar(&diversity(&images, &same_noise, &[(0, 1)]).unwrap().unwrap()).is_finite());
    assert!(diversity(&images, &noise, &[]).unwrap().is_none());
    assert!(diversity(&images, &noise.narrow(0, 0, 4).unwrap(), &[]).is_err());
}

#[test]
fn pairs_are_what_they_say() {
    assert_eq!(pairs_within_labels(&LABELS), [(0, 2), (1, 4), (2, 3)]);
    assert_eq!(pairs_within_labels(&[3, 1, 2]), []);
    assert_eq!(pairs_of_halves(5), [(0, 2), (1, 3)]);
    assert_eq!(pairs_of_halves(1), []);
}

#[test]
fn smoothness_matches_torch_and_is_zero_on_one_colour() {
    Case::load(GOLDEN, "smoothness").check(&["images"], |it| smoothness(&it[0]));
    let flat_image = Tensor::ones((1, 3, 4, 5), DType::F64, &Device::Cpu).unwrap();
    assert_eq!(scalar(&smoothness(&flat_image).unwrap()), 0.0);
    let pixel = flat_image.narrow(2, 0, 1).unwrap().narrow(3, 0, 1).unwrap();
    assert_eq!(scalar(&smoothness(&pixel).unwrap()), 0.0);
    assert!(smoothness(&flat_image.narrow(0, 0, 0).unwrap()).is_err());
}

#[test]
fn balance_matches_torch_and_is_zero_where_all_classes_are_alike() {
    Case::load(GOLDEN, "balance").check(&["logits"], |it| Ok(balance(&it[0])?.unwrap()));
    let each = Tensor::new(&[[1000f64, 0.0], [0.0, 1000.0]], &Device::Cpu).unwrap();
    assert_close(scalar(&balance(&each).unwrap().unwrap()), 0.0, 1e-12, "balanced");
    let one = each.narrow(0, 0, 1).unwrap();
    assert_close(scalar(&balance(&one).unwrap().unwrap()), 1.0, 1e-12, "one class");
    assert!(balance(&each.narrow(1, 0, 1).unwrap()).unwrap().is_none());
}

#[test]
fn blur_matches_torch_and_is_zero_on_one_colour() {
    Case::load(GOLDEN, "blur").check(&["images"], |it| blur(&it[0]));
    let flat_image = Tensor::ones((1, 3, 3, 4), DType::F64, &Device::Cpu).unwrap();
    assert_close(scalar(&blur(&flat_image).unwrap()), 0.0, 1e-25, "one colour");
    assert!(blur(&flat_image.narrow(2, 0, 2).unwrap()).unwrap_err().to_string().contains("2x4"));
    assert!(blur(&flat_image.narrow(0, 0, 0).unwrap()).is_err());
}
