//! Frozen networks and snapshots: nothing trains them, nothing reaches them, and the way back to the images is
//! PyTorch's (`golden/backbones.py`).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use cil_backbone::{Architecture, Frozen, HeadKind, Network, POOLED, Snapshot, StageCells, cells};
use cil_engine::{ExecutorFactory, ForwardSpec, Gradients, MomentGradient, Parameters, Upstream};

use crate::backbones::{IMAGES, ROWS, architecture, golden};
use crate::support::{bits, check_summary, cpu, golden_network, noise, reference, tiny, values};

fn images(rows: usize) -> Tensor {
    noise("images 3", &[rows, 3, 4, 4]).unwrap().to_dtype(DType::F32).unwrap()
}

/// A gradient to the pooled features alone.
fn pooled(gradient: Tensor) -> BTreeMap<String, Tensor> {
    BTreeMap::from([(POOLED.to_owned(), gradient)])
}

fn compare_probe(executors: &ExecutorFactory, dtype: DType, tolerance: f64) -> Result<()> {
    for golden in golden()["networks"].as_array().unwrap() {
        let frozen = golden_network(architecture(golden), IMAGES, executors, dtype)?.freeze()?;
        assert_eq!((frozen.dtype(), frozen.classes()), (dtype, 0));
        let images = noise("images 3", &IMAGES.dims(ROWS))?.to_dtype(dtype)?;
        let to = |name: &str, dims: &[usize]| noise(&format!("to {name}"), dims)?.to_dtype(dtype);
        let gradients = |probe: &cil_backbone::Probe| -> Result<BTreeMap<String, MomentGradient>> {
            let one = |seen: &cil_engine::BatchMoments| {
                let mean = to(&format!("{}.mean", seen.name), seen.mean.dims())?;
                let variance = to(&format!("{}.variance", seen.name), seen.variance.dims())?;
                Ok((seen.name.clone(), MomentGradient { mean, variance }))
            };
            probe.moments.iter().map(one).collect()
        };

        let probe = frozen.probe(&images)?;
        check_summary("pooled", &probe.features, &golden["running"]["taps"]["pooled"], tolerance);
        for (seen, golden) in probe.moments.iter().zip(golden["running"]["moments"].as_array().unwrap()) {
            assert_eq!(golden[0], seen.name);
            check_summary(&format!("{}.mean", seen.name), &seen.mean, &golden[1], tolerance);
            check_summary(&format!("{}.variance", seen.name), &seen.variance, &golden[2], tolerance);
        }
        let moments = gradients(&probe)?;
        let to_features = to("pooled", probe.features.dims())?;
        let both = frozen.probe_backward(probe, pooled(to_features.clone()), moments.clone())?;
        check_summary("input", &both, &golden["probe"], tolerance);

        // Each gradient alone, too: together they are the sum.
        let one = frozen.probe_backward(frozen.probe(&images)?, pooled(to_features), BTreeMap::new())?;
        let other = frozen.probe_backward(frozen.probe(&images)?, BTreeMap::new(), moments)?;
        check_summary("input", &(one + other)?, &golden["probe"], tolerance);
    }
    Ok(())
}

#[test]
fn the_way_back_to_the_images_is_pytorch_s() -> Result<()> {
    compare_probe(&reference(), DType::F64, 1e-10)?;
    compare_probe(&cpu(), DType::F32, 1e-4)
}

#[test]
fn running_statistics_are_handed_out_in_order() -> Result<()> {
    let network = tiny(HeadKind::Linear);
    let frozen = network.freeze()?;
    let running = frozen.running_statistics()?;
    let names: Vec<_> = running.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, network.executor().graph().batch_norms());
    let probe = frozen.probe(&images(2))?;
    assert_eq!(names, probe.moments.iter().map(|it| it.name.as_str()).collect::<Vec<_>>());
    assert!(running.iter().all(|it| values(&it.mean) == vec![0.0; it.mean.dims()[0]]));
    assert!(running.iter().all(|it| values(&it.variance) == vec![1.0; it.mean.dims()[0]]));
    Ok(())
}

#[test]
fn a_view_is_that_of_the_network_in_eval_mode() -> Result<()> {
    for kind in [HeadKind::Linear, HeadKind::Cosine, HeadKind::MultiProxy { proxies: 3 }] {
        let network = tiny(kind);
        let frozen = network.freeze()?;
        let view = frozen.forward(&images(3))?;
        let pass = network.executor().forward(network.parameters(), &images(3), ForwardSpec::EVAL)?;
        let features = pass.tap(POOLED)?;
        let head = network.head().weights(network.parameters())?.forward(features)?;
        assert_eq!(values(&view.features), values(features));
        assert_eq!(values(&view.logits), values(&head.logits));
        assert_eq!(view.similarities.as_ref().map(values), head.similarities.as_ref().map(values));
        assert_eq!(values(&frozen.head(features)?.logits), values(&view.logits));
        // A row is seen the same in any company.
        let alone = frozen.forward(&images(3).narrow(0, 2, 1)?)?;
        assert_eq!(values(&alone.features), values(&view.features.narrow(0, 2, 1)?));
    }
    Ok(())
}

#[test]
fn maps_are_handed_out_where_they_are_asked_for_and_change_nothing_else() -> Result<()> {
    let (plain, maps) = (tiny(HeadKind::Cosine), ["stage1".to_owned(), "stage3".to_owned()]);
    let network = tiny(HeadKind::Cosine).with_maps(&maps)?;
    assert_eq!(bits(&network.snapshot().parameters), bits(&plain.snapshot().parameters));
    let (frozen, seeing) = (plain.freeze()?, network.freeze()?.with_maps(&maps)?);
    let (without, with) = (frozen.forward(&images(3))?, seeing.forward(&images(3))?);
    assert_eq!(values(&with.logits), values(&without.logits));
    assert!(without.maps.is_empty() && network.freeze()?.forward(&images(3))?.maps.is_empty());
    let dims: Vec<_> = with.maps.iter().map(|(name, map)| (name.clone(), map.dims().to_vec())).collect();
    assert_eq!(dims, [(maps[0].clone(), vec![3, 2, 4, 4]), (maps[1].clone(), vec![3, 8, 1, 1])]);
    let pass = network.executor().forward(network.parameters(), &images(3), ForwardSpec::EVAL)?;
    assert_eq!(values(pass.tap("stage1")?), values(&with.maps["stage1"]));
    let error = frozen.with_maps(&["stage4".to_owned()]).unwrap_err().to_string();
    assert!(error.starts_with("the network has no tap named stage4, only [\"stage1\""), "{error}");
    Ok(())
}

/// A snapshot whose every tensor is a variable, and those variables.
fn of_variables(snapshot: &Snapshot) -> Result<(Snapshot, Vec<Var>)> {
    let (mut tensors, mut variables) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in snapshot.parameters.iter() {
        let variable = Var::from_tensor(tensor)?;
        tensors.insert(name.to_owned(), variable.as_tensor().clone());
        variables.push(variable);
    }
    Ok((Snapshot { parameters: Parameters::from_tensors(tensors), ..snapshot.clone() }, variables))
}

fn frozen_of_variables(kind: HeadKind) -> Result<(Frozen, Vec<Var>)> {
    let (snapshot, variables) = of_variables(&tiny(kind).snapshot())?;
    let network = Network::from_snapshot(snapshot, &cpu(), 0, &Device::Cpu)?;
    Ok((network.freeze()?, variables))
}

#[test]
fn no_variable_is_reachable_through_a_frozen_network() -> Result<()> {
    for kind in [HeadKind::Linear, HeadKind::Cosine, HeadKind::MultiProxy { proxies: 3 }] {
        let (frozen, variables) = frozen_of_variables(kind)?;
        for (name, tensor) in frozen.snapshot().parameters.iter() {
            assert!(!tensor.is_variable() && !tensor.track_op(), "{name}");
        }
        let pixels = Var::from_tensor(&images(2))?;
        let view = frozen.forward(&pixels)?;
        let probe = frozen.probe(&pixels)?;
        let seen: Vec<&Tensor> = [&view.features, &view.logits, &probe.features]
            .into_iter()
            .chain(&view.similarities)
            .chain(probe.moments.iter().flat_map(|it| [&it.mean, &it.variance]))
            .collect();
        assert!(seen.iter().all(|tensor| !tensor.track_op() && !tensor.is_variable()));

        // Through the head a gradient reaches the features and nothing else.
        let features = Var::from_tensor(&view.features)?;
        let gradients = frozen.head(&features)?.logits.sqr()?.sum_all()?.backward()?;
        assert!(gradients.get(&features).is_some());
        assert!(variables.iter().all(|variable| gradients.get(variable).is_none()));
    }
    Ok(())
}

#[test]
fn a_variable_set_in_place_does_not_reach_a_frozen_network() -> Result<()> {
    let (frozen, variables) = frozen_of_variables(HeadKind::Cosine)?;
    let (before, view) = (bits(&frozen.snapshot().parameters), frozen.forward(&images(2))?);
    variables.iter().try_for_each(|variable| variable.set(&variable.zeros_like()?))?;
    assert_eq!(bits(&frozen.snapshot().parameters), before);
    let again = frozen.forward(&images(2))?;
    assert_eq!(values(&again.logits), values(&view.logits));
    Ok(())
}

/// One step down the pooled features times noise, statistics included, and a step of the head.
fn train(network: &mut Network) -> Result<()> {
    let pass = network.executor().forward(network.parameters(), &images(4), ForwardSpec::TRAIN)?;
    let features = pass.tap(POOLED)?;
    let gradient = noise("to pooled", features.dims())?.to_dtype(features.dtype())?;
    let taps = BTreeMap::from([(POOLED.to_owned(), gradient)]);
    let upstream = Upstream { taps, moments: BTreeMap::new() };
    let mut gradients = Gradients::default();
    let (tape, statistics) = (pass.tape.expect("kept"), pass.statistics.expect("of a batch"));
    network.executor().backward(network.parameters(), tape, &upstream, &mut gradients)?;
    let mut moved: Vec<(String, Tensor)> = Vec::new();
    for (name, gradient) in gradients.iter() {
        moved.push((name.to_owned(), (network.parameters().get(name)? - (gradient * 0.1)?)?));
    }
    for name in network.head().names() {
        moved.push((name.clone(), (network.parameters().get(&name)? + 0.25)?));
    }
    moved.into_iter().for_each(|(name, value)| network.parameters_mut().set(&name, value));
    network.parameters_mut().update_statistics(&statistics, 0.1)
}

#[test]
fn later_training_reaches_neither_snapshot_nor_frozen_network() -> Result<()> {
    let mut network = tiny(HeadKind::Cosine);
    let (snapshot, frozen) = (network.snapshot(), network.freeze()?);
    let (before, view) = (bits(&snapshot.parameters), frozen.forward(&images(2))?);
    for _ in 0..3 {
        train(&mut network)?;
    }
    network.grow(2)?;
    let trained: BTreeMap<_, _> = bits(network.parameters()).into_iter().map(|it| (it.0, it.2)).collect();
    assert!(before.iter().all(|(name, _, bits)| trained[name] != *bits), "every tensor was trained");
    assert_eq!(bits(&snapshot.parameters), before);
    assert_eq!(bits(&frozen.snapshot().parameters), before);
    assert_eq!((snapshot.head.classes(), frozen.classes(), network.head().classes()), (5, 5, 7));
    assert_eq!(values(&frozen.forward(&images(2))?.logits), values(&view.logits));

    // And a network that starts from a frozen one does not train it.
    let mut student = Network::from_snapshot(frozen.snapshot().clone(), &cpu(), 5, &Device::Cpu)?;
    train(&mut student)?;
    assert_eq!(bits(&frozen.snapshot().parameters), before);
    Ok(())
}

#[test]
fn another_network_s_probe_is_refused() -> Result<()> {
    let mut network = tiny(HeadKind::Linear);
    let old = network.freeze()?;
    train(&mut network)?;
    let new = network.freeze()?;
    let probe = old.probe(&images(2))?;
    let gradient = probe.features.ones_like()?;
    let refused = new.probe_backward(probe, pooled(gradient), BTreeMap::new()).unwrap_err();
    assert!(refused.to_string().contains("other parameter values"), "{refused}");
    Ok(())
}

#[test]
fn values_that_are_not_those_of_the_form_are_named() -> Result<()> {
    let good = tiny(HeadKind::Linear).snapshot();
    good.check()?;
    let refused = |change: &dyn Fn(&mut Snapshot), part: &str| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        let message = snapshot.check().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(Network::from_snapshot(snapshot, &cpu(), 0, &Device::Cpu).is_err());
    };
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
    refused(&|it| drop(it.parameters.remove("stem.norm.running_mean")), "stem.norm.running_mean is missing");
    refused(&|it| drop(it.parameters.remove("head.1.bias")), "head.1.bias is missing");
    refused(
        &|it| it.parameters.set("head.2.weight", zeros(&[1, 8], DType::F32)),
        "head.2.weight is too many",
    );
    refused(&|it| it.parameters.set("head.scale", zeros(&[1], DType::F32)), "head.scale is too many");
    refused(&|it| it.parameters.set("head.0.weight", zeros(&[3, 9], DType::F32)), "head.0.weight is [3, 9]");
    refused(&|it| it.parameters.set("stem.norm.bias", zeros(&[2], DType::F64)), "stem.norm.bias is F64");
    refused(&|it| it.head.width = 9, "width 9");
    refused(&|it| it.head.blocks[1] = 0, "head.blocks[1] is 0");
    refused(&|it| it.head.kind = HeadKind::Cosine, "head.scale is missing");
    refused(&|it| it.backbone = Architecture { width: 2, ..Architecture::lucir(14) }.into(), "is missing");

    let mut network = tiny(HeadKind::Linear);
    network.parameters_mut().remove("stem.conv.weight");
    assert!(network.freeze().unwrap_err().to_string().contains("stem.conv.weight is missing"));
    Ok(())
}

/// A step against the gradient of half the squared distance, by features of cells, comes nearer by what the gradient
/// says.
#[test]
fn features_of_cells_lead_back_to_the_images() -> Result<()> {
    let cell = |stage, cells, normalised| StageCells { stage, cells, normalised };
    let stages = [cell(3, 1, false), cell(1, 2, true), cell(2, 2, false)];
    let golden = golden();
    let architecture = architecture(&golden["networks"][0]);
    let images = noise("images 3", &IMAGES.dims(ROWS))?;
    let gradient = |executors: &ExecutorFactory, dtype: DType| -> Result<(Frozen, Tensor, Tensor)> {
        let network = golden_network(architecture, IMAGES, executors, dtype)?;
        let frozen = network.freeze()?.with_maps(&cells::taps(&stages))?;
        let images = images.to_dtype(dtype)?;
        let target = cells::features(&frozen.probe(&(&images * 0.5)?)?.maps, &stages)?;
        let probe = frozen.probe(&images)?;
        let apart = (cells::features(&probe.maps, &stages)? - &target)?;
        let taps = cells::backward(&probe.maps, &stages, &apart)?;
        let gradient = frozen.probe_backward(probe, taps, BTreeMap::new())?.to_dtype(DType::F64)?;
        Ok((frozen, target, gradient))
    };
    let (frozen, target, expected) = gradient(&reference(), DType::F64)?;
    let half = |images: &Tensor| -> Result<f64> {
        let apart = (cells::features(&frozen.probe(images)?.maps, &stages)? - &target)?;
        (apart.sqr()?.sum_all()? / 2.0)?.to_scalar::<f64>()
    };
    let direction = noise("direction", images.dims())?;
    let moved = |step: f64| half(&(&images + (&direction * step)?)?);
    let slope = (moved(1e-6)? - moved(-1e-6)?) / 2e-6;
    let along = (&expected * &direction)?.sum_all()?.to_scalar::<f64>()?;
    assert!((slope - along).abs() < 1e-5 * (1.0 + along.abs()), "{slope}, {along}");
    assert!(along.abs() > 1e-3, "{along}");
    let (_, _, found) = gradient(&cpu(), DType::F32)?;
    let largest = |of: &Tensor| of.abs()?.max_all()?.to_scalar::<f64>();
    assert!(largest(&(found - &expected)?)? < 1e-4 * largest(&expected)?);
    Ok(())
}

#[test]
fn a_network_without_classes_gives_features_only() -> Result<()> {
    for kind in [HeadKind::Linear, HeadKind::Cosine, HeadKind::MultiProxy { proxies: 3 }] {
        let architecture = tiny(kind).backbone().clone();
        let network = Network::new(architecture, tiny(kind).images(), kind, &cpu(), 0, &Device::Cpu)?;
        let frozen = network.freeze()?;
        assert_eq!(frozen.probe(&images(2))?.features.dims(), [2, frozen.feature_width()]);
        assert!(frozen.forward(&images(2)).unwrap_err().to_string().contains("no classes yet"));
    }
    Ok(())
}
