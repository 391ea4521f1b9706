//! Heads against PyTorch (`golden/heads.py`) and finite differences; growth and imprinting.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use cil_backbone::align::{Length, alignment};
use cil_backbone::{Head, HeadKind, HeadWeights, StageCells, head};
use cil_engine::Parameters;
use serde_json::Value;

use crate::support::{bits, check, noise, tiny, values};

const ROWS: usize = 5;
const WIDTH: usize = 6;
const PROXIES: HeadKind = HeadKind::MultiProxy { proxies: 3 };
const KINDS: [HeadKind; 5] =
    [HeadKind::Linear, HeadKind::LinearOfDirections, HeadKind::WithoutBias, HeadKind::Cosine, PROXIES];

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/heads.json")).unwrap()
}

/// The head of `golden/heads.py`, its tensors as variables by name.
fn variables(kind: HeadKind) -> Result<(HeadWeights, BTreeMap<String, Var>)> {
    let form = Head { blocks: vec![3, 1, 2], ..Head::new(kind, WIDTH) };
    let mut variables = BTreeMap::new();
    for spec in form.specs() {
        let value = if spec.name == head::SCALE {
            Tensor::new(&[2.5f64], &Device::Cpu)?
        } else {
            noise(&spec.name, &spec.dims)?
        };
        variables.insert(spec.name, Var::from_tensor(&value)?);
    }
    Ok((form.weights_from(|name| Ok(variables[name].as_tensor().clone()))?, variables))
}

/// The loss of `golden/heads.py`: logits and cosines, each times noise.
fn loss(head: &HeadWeights, features: &Tensor) -> Result<Tensor> {
    let output = head.forward(features)?;
    let dims = output.logits.dims();
    let loss = (&output.logits * noise("to logits", dims)?)?.sum_all()?;
    match &output.similarities {
        Some(similarities) => loss + (similarities * noise("to similarities", dims)?)?.sum_all()?,
        None => Ok(loss),
    }
}

fn compare(kind: HeadKind, golden: &Value) -> Result<()> {
    let (head, variables) = variables(kind)?;
    let features = Var::from_tensor(&noise("features", &[ROWS, WIDTH])?)?;
    let output = head.forward(&features)?;
    assert_eq!(output.logits.dims(), [ROWS, 6]);
    check("logits", &output.logits, &golden["logits"], 1e-12);
    assert_eq!(output.similarities.is_some(), kind.is_scaled());
    assert_eq!(output.scale.is_some(), kind.is_scaled());
    if let Some(similarities) = &output.similarities {
        check("similarities", similarities, &golden["similarities"], 1e-12);
    }
    let gradients = loss(&head, &features)?.backward()?;
    check("features", gradients.get(&features).unwrap(), &golden["features"], 1e-12);
    assert_eq!(golden["gradients"].as_object().unwrap().len(), variables.len());
    for (name, variable) in &variables {
        check(name, gradients.get(variable).unwrap(), &golden["gradients"][name], 1e-12);
    }
    Ok(())
}

#[test]
fn the_linear_head_equals_pytorch() -> Result<()> {
    compare(HeadKind::Linear, &golden()["linear"])
}

#[test]
fn the_linear_head_of_directions_equals_pytorch() -> Result<()> {
    compare(HeadKind::LinearOfDirections, &golden()["linear-of-directions"])
}

#[test]
fn the_cosine_head_equals_pytorch() -> Result<()> {
    compare(HeadKind::Cosine, &golden()["cosine"])
}

#[test]
fn the_head_of_several_proxies_equals_podnet_s_code_in_pytorch() -> Result<()> {
    compare(PROXIES, &golden()["multi-proxy"])
}

#[test]
fn a_class_s_nearest_proxy_counts_most() -> Result<()> {
    let at = |rows: &[[f64; 2]]| Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu);
    let head = HeadWeights {
        kind: HeadKind::MultiProxy { proxies: 2 },
        // One class looks east and west, the other north twice.
        weights: vec![at(&[[2.0, 0.0], [-1.0, 0.0]])?, at(&[[0.0, 3.0], [0.0, 1.0]])?],
        biases: Vec::new(),
        scale: Some(Tensor::new(&[10f64], &Device::Cpu)?),
        projection: None,
        power: None,
    };
    let output = head.forward(&at(&[[5.0, 0.0]])?)?;
    // Scores 0 and -4 by softmax of the same; both norths at -2.
    let expected = [-4.0 * (-4f64).exp() / (1.0 + (-4f64).exp()), -2.0];
    check("scores", &output.similarities.unwrap(), &serde_json::json!(expected), 1e-12);
    check("logits", &output.logits, &serde_json::json!(expected.map(|it| 10.0 * it)), 1e-12);
    Ok(())
}

/// `at` with element `index` moved by `step`.
fn moved(at: &Tensor, index: usize, step: f64) -> Result<Tensor> {
    let mut moved = values(at);
    moved[index] += step;
    Tensor::from_vec(moved, at.dims(), &Device::Cpu)
}

#[test]
fn the_gradients_of_heads_of_directions_are_finite_differences() -> Result<()> {
    [HeadKind::Cosine, HeadKind::LinearOfDirections, HeadKind::Mahalanobis, PROXIES]
        .into_iter()
        .try_for_each(finite_differences)
}

#[test]
fn distances_by_hand() -> Result<()> {
    let tensor = |rows: &[[f64; 2]]| Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu);
    let head = HeadWeights {
        kind: HeadKind::Mahalanobis,
        weights: vec![tensor(&[[1.0, 0.0], [0.0, 1.0]])?, tensor(&[[2.0, 0.0], [1.0, 3.0]])?],
        biases: vec![Tensor::new(&[-1f64, 0.0], &Device::Cpu)?, Tensor::new(&[0f64, -1.0], &Device::Cpu)?],
        scale: None,
        projection: None,
        power: Some(Tensor::new(&[0.5f64], &Device::Cpu)?),
    };
    // Roots 3 and 4 have length 5; 0 stays 0.
    let logits = head.forward(&tensor(&[[9.0, 16.0], [0.0, 25.0]])?)?.logits;
    let of = |x: f64, y: f64| {
        let second = (2.0 * x).powi(2) + (x + 3.0 * y - 1.0).powi(2);
        [-0.5 * ((x - 1.0).powi(2) + y.powi(2)), -0.5 * second]
    };
    check("logits", &logits, &serde_json::json!([of(0.6, 0.8), of(0.0, 1.0)].concat()), 1e-12);
    Ok(())
}

#[test]
fn a_power_goes_with_directions_alone() {
    let error_text = |head: Head| head.check().unwrap_err().to_string();
    for kind in [HeadKind::Linear, HeadKind::Cosine, HeadKind::WithoutBias] {
        let wrong = Head { powered: true, ..Head::new(kind, WIDTH) };
        assert!(error_text(wrong).contains("head.powered is true"));
    }
    let random = Head { powered: true, random: Some(3), ..Head::new(HeadKind::LinearOfDirections, WIDTH) };
    assert!(error_text(random).contains("without random ones"));
    let head = Head { powered: true, blocks: vec![2, 1], ..Head::new(HeadKind::Mahalanobis, WIDTH) };
    head.check().unwrap();
    let dims: Vec<_> = head.specs().into_iter().map(|it| (it.name, it.dims)).collect();
    assert_eq!(dims[0].1, vec![2 * WIDTH, WIDTH]);
    assert_eq!((&dims[3], &dims[4].0), (&("head.1.bias".to_owned(), vec![WIDTH]), &head::POWER.to_owned()));
}

fn finite_differences(kind: HeadKind) -> Result<()> {
    let (head, variables) = variables(kind)?;
    let features = Var::from_tensor(&noise("features", &[ROWS, WIDTH])?)?;
    let gradients = loss(&head, &features)?.backward()?;
    let step = 1e-6;
    let check = |name: &str, variable: &Var, at: &dyn Fn(Tensor) -> Result<f64>| -> Result<()> {
        let gradient = values(gradients.get(variable).unwrap());
        for (index, gradient) in gradient.iter().enumerate() {
            let difference =
                (at(moved(variable, index, step)?)? - at(moved(variable, index, -step)?)?) / (2.0 * step);
            assert!((gradient - difference).abs() < 1e-8, "{name}[{index}]: {gradient}, {difference}");
        }
        Ok(())
    };
    check("features", &features, &|it| loss(&head, &it)?.to_scalar())?;
    let form = Head { blocks: vec![3, 1, 2], ..Head::new(kind, WIDTH) };
    for (name, variable) in &variables {
        check(name, variable, &|it| {
            let tensor =
                |other: &str| Ok(if other == name { &it } else { variables[other].as_tensor() }.clone());
            loss(&form.weights_from(tensor)?, &features)?.to_scalar()
        })?;
    }
    Ok(())
}

#[test]
fn features_without_length_have_no_cosine_and_a_finite_gradient() -> Result<()> {
    for (kind, dtype) in
        [(HeadKind::Cosine, DType::F32), (HeadKind::Cosine, DType::F64), (PROXIES, DType::F32)]
    {
        let mut tensors = tiny(kind).head().weights(tiny(kind).parameters())?;
        for tensor in tensors.weights.iter_mut().chain(&mut tensors.scale) {
            *tensor = tensor.to_dtype(dtype)?;
        }
        let features = Var::zeros((2, 8), dtype, &Device::Cpu)?;
        let output = tensors.forward(&features)?;
        let nothing = if kind == PROXIES { -2.0 } else { 0.0 };
        assert!(values(&output.logits).iter().all(|value| (*value - nothing).abs() < 1e-6));
        let gradients = output.logits.sqr()?.sum_all()?.backward()?;
        assert!(values(gradients.get(&features).unwrap()).iter().all(|value| value.is_finite()));
    }
    Ok(())
}

#[test]
fn features_that_do_not_fit_are_named() -> Result<()> {
    for kind in KINDS {
        let network = tiny(kind);
        let head = network.head().weights(network.parameters())?;
        for dims in [&[2, 7][..], &[8], &[1, 2, 8]] {
            let refused =
                head.forward(&Tensor::zeros(dims, DType::F32, &Device::Cpu)?).unwrap_err().to_string();
            assert!(refused.contains("[rows, 8]"), "{refused}");
        }
        let empty = Head::new(kind, 8).weights(&Parameters::default())?;
        let refused = empty.forward(&Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?).unwrap_err();
        assert!(refused.to_string().contains("no classes yet"), "{refused}");
    }
    let mut head = tiny(HeadKind::Linear).head().weights(tiny(HeadKind::Linear).parameters())?;
    head.biases.pop();
    let refused = head.forward(&Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
    assert!(refused.contains("2 blocks has 1 biases"), "{refused}");
    let mut head = tiny(PROXIES).head().weights(tiny(PROXIES).parameters())?;
    head.scale = None;
    let refused = head.forward(&Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
    assert!(refused.contains("no scale"), "{refused}");
    Ok(())
}

#[test]
fn growing_leaves_every_other_value_alone() -> Result<()> {
    for kind in KINDS {
        let mut network = tiny(kind);
        if kind.is_scaled() {
            network.parameters_mut().set(head::SCALE, Tensor::new(&[7f32], &Device::Cpu)?);
        }
        let before = bits(network.parameters());
        let features = noise("features", &[3, 8])?.to_dtype(DType::F32)?;
        let logits = network.head().weights(network.parameters())?.forward(&features)?.logits;
        network.grow(4)?;
        let after: BTreeMap<_, _> =
            bits(network.parameters()).into_iter().map(|(name, dims, bits)| (name, (dims, bits))).collect();
        for (name, dims, bits) in &before {
            assert_eq!(after[name], (dims.clone(), bits.clone()), "{name}");
        }
        let grown = if kind.is_biased() { 2 } else { 1 };
        assert_eq!(after.len(), before.len() + grown);
        assert_eq!((network.head().classes(), &network.head().blocks), (9, &vec![3, 2, 4]));
        network.snapshot().check()?;
        let wider = network.head().weights(network.parameters())?.forward(&features)?.logits;
        assert_eq!(values(&wider.narrow(1, 0, 5)?), values(&logits));
    }
    Ok(())
}

#[test]
fn a_block_is_drawn_by_seed_and_name_within_the_bound() -> Result<()> {
    let (mut one, mut other) = (tiny(HeadKind::Linear), tiny(HeadKind::Linear));
    other.grow(1)?;
    one.grow(1)?;
    assert_eq!(bits(one.parameters()), bits(other.parameters()));
    let drawn = |seed| -> Result<Vec<f64>> {
        let (mut head, mut parameters) = (Head::new(HeadKind::Linear, 64), Parameters::default());
        head.grow(50, &mut parameters, seed, &Device::Cpu)?;
        Ok([values(parameters.get("head.0.weight")?), values(parameters.get("head.0.bias")?)].concat())
    };
    assert_ne!(drawn(1)?, drawn(2)?);
    let largest = drawn(1)?.into_iter().map(f64::abs).fold(0.0, f64::max);
    assert!(largest <= 0.125 && largest > 0.12, "{largest}");
    // Proxies are normal with variance 1 / width, as many a class as the form says.
    let (mut head, mut parameters) =
        (Head::new(HeadKind::MultiProxy { proxies: 10 }, 64), Parameters::default());
    head.grow(50, &mut parameters, 1, &Device::Cpu)?;
    let drawn = parameters.get("head.0.weight")?;
    assert_eq!(drawn.dims(), [500, 64]);
    let deviation = drawn.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    assert!((deviation / 0.125 - 1.0).abs() < 0.02, "{deviation}");
    Ok(())
}

#[test]
fn the_scale_begins_at_one_with_the_first_block() -> Result<()> {
    let (mut head, mut parameters) = (Head::new(HeadKind::Cosine, 8), Parameters::default());
    assert!(head.names().is_empty());
    head.grow(2, &mut parameters, 0, &Device::Cpu)?;
    assert_eq!(head.names(), ["head.0.weight", "head.scale"]);
    assert_eq!(parameters.get(head::SCALE)?.to_vec1::<f32>()?, [1.0]);
    Ok(())
}

#[test]
fn a_refused_growth_changes_nothing() -> Result<()> {
    let mut network = tiny(HeadKind::Cosine);
    let (before, form) = (bits(network.parameters()), network.head().clone());
    assert!(network.grow(0).unwrap_err().to_string().contains("0 classes"));
    assert_eq!((bits(network.parameters()), network.head()), (before, &form));
    Ok(())
}

#[test]
fn a_head_of_another_type_grows_in_that_type() -> Result<()> {
    let (mut head, mut parameters) = (Head::new(HeadKind::Cosine, 8), Parameters::default());
    head.grow(2, &mut parameters, 0, &Device::Cpu)?;
    let mut parameters = parameters.to_dtype(DType::F64)?;
    head.grow(2, &mut parameters, 0, &Device::Cpu)?;
    assert!(parameters.iter().all(|(_, tensor)| tensor.dtype() == DType::F64));
    Ok(())
}

#[test]
fn forms_that_are_no_head_are_named() {
    let refused = |head: Head, part: &str| {
        let message = head.check().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let head =
        |width, blocks: &[usize]| Head { blocks: blocks.to_vec(), ..Head::new(HeadKind::Linear, width) };
    refused(head(0, &[1]), "head.width is 0");
    refused(head(8, &[3, 0]), "head.blocks[1] is 0");
    refused(head(8, &[usize::MAX, 1]), "more classes than");
    refused(Head { kind: PROXIES, ..head(8, &[usize::MAX / 2]) }, "more classes than");
    refused(Head { kind: HeadKind::MultiProxy { proxies: 0 }, ..head(8, &[1]) }, "proxies is 0");
    let stages = vec![StageCells { stage: 1, cells: 2, normalised: true }];
    refused(Head { kind: HeadKind::Cosine, stages, ..head(8, &[1]) }, "a head of several stages is linear");
    assert!(head(8, &[]).check().is_ok());
}

#[test]
fn imprinting_equals_pytorch() -> Result<()> {
    let features = [noise("first", &[4, WIDTH])?, noise("second", &[1, WIDTH])?];
    let rows = head::imprinted(&features, &noise("old", &[4, WIDTH])?)?;
    assert_eq!(rows.dims(), [2, WIDTH]);
    check("imprinted", &rows, &golden()["imprinted"], 1e-12);
    Ok(())
}

#[test]
fn imprinting_by_hand() -> Result<()> {
    let tensor = |rows: &[[f64; 2]]| Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu);
    // Directions east and north average to north-east, however long each was; old lengths 5 and 1 average to 3.
    let rows = head::imprinted(&[tensor(&[[10.0, 0.0], [0.0, 0.1]])?], &tensor(&[[3.0, -4.0], [0.0, 1.0]])?)?;
    check("imprinted", &rows, &serde_json::json!([3.0 / 2f64.sqrt(), 3.0 / 2f64.sqrt()]), 1e-12);
    // The head then says cosine 1 of the class's own direction.
    let head = HeadWeights {
        kind: HeadKind::Cosine,
        weights: vec![rows],
        biases: Vec::new(),
        scale: Some(Tensor::new(&[1f64], &Device::Cpu)?),
        projection: None,
        power: None,
    };
    check("cosine", &head.forward(&tensor(&[[2.0, 2.0]])?)?.logits, &serde_json::json!([1.0]), 1e-12);
    Ok(())
}

#[test]
fn imprinting_from_nothing_is_refused() -> Result<()> {
    let zeros = |rows, width| Tensor::zeros((rows, width), DType::F64, &Device::Cpu);
    let refused = |features: &[Tensor], old: Tensor, part: &str| {
        let message = head::imprinted(features, &old).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&[zeros(2, 3)?, zeros(0, 3)?], zeros(4, 3)?, "new class 1 has no image");
    refused(&[zeros(2, 3)?], zeros(0, 3)?, "0 old ones");
    refused(&[], zeros(4, 3)?, "0 new classes");
    refused(&[zeros(2, 4)?], zeros(4, 3)?, "width 4");
    Ok(())
}

#[test]
fn a_head_without_biases_is_a_linear_one_whose_biases_are_zero() -> Result<()> {
    let network = tiny(HeadKind::WithoutBias);
    let weights = network.head().weights(network.parameters())?;
    assert!(weights.biases.is_empty() && weights.scale.is_none());
    let zeros = |weight: &Tensor| Tensor::zeros(weight.dim(0)?, DType::F32, &Device::Cpu);
    let biases = weights.weights.iter().map(zeros).collect::<Result<_>>()?;
    let linear = HeadWeights { biases, ..weights.clone() };
    let features = noise("features", &[3, 8])?.to_dtype(DType::F32)?;
    let logits = |head: &HeadWeights| Ok::<_, candle_core::Error>(values(&head.forward(&features)?.logits));
    assert_eq!(logits(&weights)?, logits(&linear)?);
    Ok(())
}

#[test]
fn new_weights_are_aligned_to_the_mean_length_of_old_ones() -> Result<()> {
    // Lengths by hand: L1 (7 + 3) / 2 = 5 and L2 (5 + 3) / 2 = 4 of old rows; 20 and 20 of the new one.
    let old = Tensor::new(&[[3f64, -4.0], [0.0, 3.0]], &Device::Cpu)?;
    let new = Tensor::new(&[[0f64, -20.0]], &Device::Cpu)?;
    assert_eq!(alignment(&old, &new, Length::L1)?, 0.25);
    assert_eq!(alignment(&old, &new, Length::L2)?, 0.2);
    assert_eq!(alignment(&new, &old, Length::L1)?, 4.0);
    let refused = |old: &Tensor, new: &Tensor, part: &str| {
        let message = alignment(old, new, Length::L1).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&old, &new.zeros_like()?, "every weight of the 1 new classes is 0");
    refused(&old, &Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?, "[2, 3]");
    refused(&old.narrow(0, 0, 0)?, &new, "[0, 2]");
    Ok(())
}
