//! Classifiers of other programs: the logits that torchvision and akamaster's code have, and every misfit named.
//! `golden/foreign.py` made the numbers.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::foreign::{self, Hints, to_torch};
use cil_backbone::{Architecture, Backbone, HeadKind, Model, Network, Variant};
use cil_engine::{ExecutorFactory, Shape};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::support::{check_summary, cpu, noise, reference};

fn golden() -> BTreeMap<String, Value> {
    serde_json::from_str(include_str!("../golden/foreign.json")).unwrap()
}

/// The value of a tensor in `golden/foreign.py`.
fn value(name: &str, dims: &[usize]) -> Result<Tensor> {
    let noise = noise(name, dims)?;
    match dims {
        [_, fan_in @ ..] if dims.len() == 4 => noise * (6.0 / fan_in.iter().product::<usize>() as f64).sqrt(),
        [_, _] => noise * 0.1,
        _ if name.ends_with("weight") || name.ends_with("running_var") => (noise * 0.5)? + 1.0,
        _ => noise * 0.25,
    }
}

/// Tensors by name and dimensions.
fn forms(golden: &Value) -> BTreeMap<String, Vec<usize>> {
    serde_json::from_value(golden["tensors"].clone()).unwrap()
}

fn file(tensors: &BTreeMap<String, Tensor>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<(&String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> =
                tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            (name, tensor.dims().to_vec(), values.iter().flat_map(|it| it.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, dims, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap())
    });
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata)).unwrap()
}

fn tensors(forms: &BTreeMap<String, Vec<usize>>) -> BTreeMap<String, Tensor> {
    forms.iter().map(|(name, dims)| (name.clone(), value(name, dims).unwrap())).collect()
}

fn hints(classes: usize, side: Option<usize>) -> Hints {
    Hints {
        class_names: Some((0..classes).map(|at| format!("class {at}")).collect()),
        mean: Some(vec![0.5; 3]),
        deviation: Some(vec![0.25; 3]),
        side,
    }
}

fn logits(model: &Model, images: &Tensor, executors: &ExecutorFactory) -> Result<Tensor> {
    let network = Network::from_snapshot(model.snapshot.clone(), executors, 0, &Device::Cpu)?;
    Ok(network.freeze()?.forward(images)?.logits)
}

#[test]
fn logits_are_those_of_the_programs_that_the_networks_come_from() -> Result<()> {
    for (name, golden) in golden() {
        let side = golden["side"].as_u64().unwrap() as usize;
        let tensors = tensors(&forms(&golden));
        let model = foreign::from_bytes(&file(&tensors, &[]), None, &hints(7, Some(side)), &Device::Cpu)?;
        let images = noise(&format!("images {name}"), &[3, 3, side, side])?.to_dtype(DType::F32)?;
        for (executors, kind) in [(reference(), "reference"), (cpu(), "cpu")] {
            let found = logits(&model, &images, &executors)?;
            check_summary("logits", &found, &golden["logits"], 2e-5);
            assert_eq!(found.dims(), [3, 7], "{name} on {kind}");
        }
        // And back, bit for bit.
        let back = to_torch(&model.snapshot)?;
        assert_eq!(back.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
        for (name, tensor) in back {
            let own = tensors[&name].to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(tensor.flatten_all()?.to_vec1::<f32>()?, own, "{name}");
        }
    }
    Ok(())
}

/// A CIFAR network of eight layers and width 2 with random weights, as a file of another program.
fn small() -> BTreeMap<String, Tensor> {
    let mut forms: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let norm = |name: &str, width: usize, forms: &mut BTreeMap<String, Vec<usize>>| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            forms.insert(format!("{name}.{part}"), vec![width]);
        }
    };
    forms.insert("conv1.weight".into(), vec![2, 3, 3, 3]);
    norm("bn1", 2, &mut forms);
    let mut inputs = 2;
    for stage in 1..=3 {
        let width = 2 << (stage - 1);
        forms.insert(format!("layer{stage}.0.conv1.weight"), vec![width, inputs, 3, 3]);
        forms.insert(format!("layer{stage}.0.conv2.weight"), vec![width, width, 3, 3]);
        norm(&format!("layer{stage}.0.bn1"), width, &mut forms);
        norm(&format!("layer{stage}.0.bn2"), width, &mut forms);
        inputs = width;
    }
    forms.insert("linear.weight".into(), vec![4, 8]);
    forms.insert("linear.bias".into(), vec![4]);
    tensors(&forms)
}

#[track_caller]
fn refused(tensors: &BTreeMap<String, Tensor>, metadata: &[(&str, &str)], config: Option<&str>, part: &str) {
    let message =
        foreign::from_bytes(&file(tensors, metadata), config, &Hints::default(), &Device::Cpu).unwrap_err();
    assert!(message.to_string().contains(part), "{message}");
}

const GIVEN: [(&str, &str); 3] =
    [("classes", "a,b, c,d"), ("mean", "[0.5, 0.5, 0.5]"), ("std", "0.25,0.25,0.25")];

#[test]
fn what_does_not_fit_is_named_with_its_shape() -> Result<()> {
    let changed = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = small();
        change(&mut tensors);
        tensors
    };
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    foreign::from_bytes(&file(&small(), &GIVEN), None, &Hints::default(), &Device::Cpu)?;
    let without = |name: &'static str| changed(&|it| drop(it.remove(name)));
    let with = |name: &'static str, dims: &'static [usize]| {
        changed(&|it| drop(it.insert(name.to_owned(), zeros(dims))))
    };
    refused(&without("layer2.0.bn2.bias"), &GIVEN, None, "tensor layer2.0.bn2.bias is missing");
    refused(&without("conv1.weight"), &GIVEN, None, "tensor conv1.weight is missing");
    refused(&without("linear.weight"), &GIVEN, None, "tensor linear.weight is missing");
    refused(
        &with("layer2.0.downsample.0.weight", &[4, 2, 1, 1]),
        &GIVEN,
        None,
        "tensor layer2.0.downsample.0.weight [4, 2, 1, 1] is too many",
    );
    refused(
        &with("layer3.0.conv1.weight", &[8, 4, 1, 1]),
        &GIVEN,
        None,
        "tensor layer3.0.conv1.weight is [8, 4, 1, 1], He's ResNet-8 of width 2 needs [8, 4, 3, 3]",
    );
    refused(&with("conv1.weight", &[2, 3, 5, 5]), &GIVEN, None, "the first kernel of a ResNet is 3x3 or 7x7");
    refused(&with("conv1.weight", &[2, 3]), &GIVEN, None, "tensor conv1.weight is [2, 3]");
    refused(&with("linear.weight", &[4, 9]), &GIVEN, None, "tensor linear.weight is [4, 9]");
    refused(&with("linear.weight", &[0, 8]), &GIVEN, None, "head.blocks[0] is 0");
    refused(&with("layer1.1.conv1.weight", &[2, 2, 3, 3]), &GIVEN, None, "have [2, 1, 1] blocks");
    let other = BTreeMap::from([("encoder.weight".to_owned(), zeros(&[2]))]);
    refused(&other, &GIVEN, None, "(the first is encoder.weight) are of an unknown network");
    let infinite = changed(&|it| {
        it.insert("bn1.bias".to_owned(), Tensor::new(&[0f32, f32::NAN], &Device::Cpu).unwrap());
    });
    refused(&infinite, &GIVEN, None, "tensor bn1.bias holds NaN");
    let twice = changed(&|it| drop(it.insert("module.bn1.bias".to_owned(), zeros(&[2]))));
    refused(&twice, &GIVEN, None, "one and the same");
    Ok(())
}

#[test]
fn the_images_of_a_model_are_read_or_asked_for() -> Result<()> {
    refused(&small(), &GIVEN[1..], None, "does not name its 4 classes; name them with --classes");
    refused(&small(), &GIVEN[..2], None, "say it with --mean and --std");
    refused(
        &small(),
        &[("classes", "a,b,c"), GIVEN[1], GIVEN[2]],
        None,
        "3 class names for a classifier of 4",
    );
    refused(&small(), &[GIVEN[0], GIVEN[1], ("std", "0,1,1")], None, "deviation holds 0");
    refused(&small(), &[GIVEN[0], GIVEN[1], ("std", "one")], None, "std is not a list of numbers");
    refused(&small(), &GIVEN, Some("{"), "config.json: it is not JSON");
    let gap = r#"{"id2label": {"0": "a", "2": "b"}}"#;
    refused(&small(), &GIVEN[1..], Some(gap), "config.json: id2label has no name for class 1");

    let read = |config: &Value, hints: &Hints| {
        foreign::from_bytes(&file(&small(), &[]), Some(&config.to_string()), hints, &Device::Cpu)
    };
    let config = json!({
        "id2label": { "0": "ant", "1": "bee", "2": "cat", "3": "dog" },
        "pretrained_cfg": { "mean": [0.5, 0.25, 0.5], "std": [0.25, 0.25, 0.5], "input_size": [3, 16, 16] },
    });
    let model = read(&config, &Hints::default())?;
    assert_eq!(model.card.class_names, ["ant", "bee", "cat", "dog"]);
    assert_eq!((model.card.mean, model.card.deviation), (vec![0.5, 0.25, 0.5], vec![0.25, 0.25, 0.5]));
    assert_eq!(model.snapshot.images, Shape::Map { channels: 3, height: 16, width: 16 });
    let read_so = read(&config, &Hints { side: Some(24), mean: Some(vec![0.0; 3]), ..Hints::default() })?;
    assert_eq!(read_so.card.mean, [0.0; 3]);
    assert_eq!(read_so.snapshot.images, Shape::Map { channels: 3, height: 24, width: 24 });
    Ok(())
}

#[test]
fn files_saved_from_several_gpus_and_without_biases_are_read_too() -> Result<()> {
    let mut tensors: BTreeMap<String, Tensor> =
        small().into_iter().map(|(name, it)| (format!("module.{name}"), it)).collect();
    tensors.insert("module.bn1.num_batches_tracked".to_owned(), Tensor::zeros((), DType::F32, &Device::Cpu)?);
    let prefixed = foreign::from_bytes(&file(&tensors, &GIVEN), None, &Hints::default(), &Device::Cpu)?;
    tensors.remove("module.linear.bias");
    let bare = foreign::from_bytes(&file(&tensors, &GIVEN), None, &Hints::default(), &Device::Cpu)?;
    let expected = Architecture { variant: Variant::He, depth: 8, width: 2 };
    assert_eq!(
        (prefixed.snapshot.backbone, bare.snapshot.backbone),
        (Backbone::from(expected), expected.into())
    );
    assert_eq!(
        (prefixed.snapshot.head.kind, bare.snapshot.head.kind),
        (HeadKind::Linear, HeadKind::WithoutBias)
    );
    Ok(())
}

#[test]
fn what_torchvision_has_no_counterpart_of_is_not_written_for_it() -> Result<()> {
    let images = Shape::Map { channels: 3, height: 8, width: 8 };
    let network = |architecture, kind| -> Result<Network> {
        let mut network = Network::new(architecture, images, kind, &cpu(), 0, &Device::Cpu)?;
        network.grow(2)?;
        Ok(network)
    };
    let cifar = Architecture { variant: Variant::He, depth: 8, width: 4 };
    let refused = |network: &Network| to_torch(&network.snapshot()).unwrap_err().to_string();
    assert!(refused(&network(Architecture::lucir(8), HeadKind::Linear)?).contains("no counterpart"));
    assert!(refused(&network(cifar, HeadKind::Cosine)?).contains("normalises the features"));
    let mut grown = network(cifar, HeadKind::Linear)?;
    grown.grow(3)?;
    assert_eq!(to_torch(&grown.snapshot())?["linear.weight"].dims(), [5, 16]);
    Ok(())
}

proptest! {
    #[test]
    fn any_splice_is_an_error_or_a_whole_model(
        at in any::<prop::sample::Index>(),
        removed in 0usize..40,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes_of_file = file(&small(), &GIVEN);
        let at = at.index(bytes_of_file.len());
        let end = (at + removed).min(bytes_of_file.len());
        bytes_of_file.splice(at..end, bytes);
        if let Ok(model) = foreign::from_bytes(&bytes_of_file, None, &Hints::default(), &Device::Cpu) {
            prop_assert!(model.snapshot.check().is_ok());
            prop_assert_eq!(model.card.class_names.len(), 4);
        }
    }

    #[test]
    fn any_config_is_read_or_refused(text in ".{0,60}") {
        let bytes = file(&small(), &GIVEN);
        if let Ok(model) = foreign::from_bytes(&bytes, Some(&text), &Hints::default(), &Device::Cpu) {
            prop_assert_eq!(model.card.class_names.len(), 4);
        }
    }
}
