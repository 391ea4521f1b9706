//! Features of several stages against PyTorch (`golden/cells.py`), and a head that reads them.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::file::{from_bytes, to_bytes};
use cil_backbone::{Architecture, Frozen, Head, HeadKind, Network, StageCells, Variant, cells};
use cil_engine::Shape;
use serde_json::Value;

use crate::support::{card, check, cpu, noise, tiny, values};

fn golden() -> (BTreeMap<String, Tensor>, Vec<StageCells>, Value) {
    let golden: Value = serde_json::from_str(include_str!("../golden/cells.json")).unwrap();
    let map = |(name, it): (&String, &Value)| {
        let dims: Vec<usize> = serde_json::from_value(it["dims"].clone()).unwrap();
        let values: Vec<f64> = serde_json::from_value(it["values"].clone()).unwrap();
        (name.clone(), Tensor::from_vec(values, dims, &Device::Cpu).unwrap())
    };
    let maps = golden["maps"].as_object().unwrap().iter().map(map).collect();
    (maps, serde_json::from_value(golden["stages"].clone()).unwrap(), golden["features"].clone())
}

#[test]
fn cells_equal_pytorch_s_adaptive_pooling() -> Result<()> {
    let (mut maps, stages, expected) = golden();
    check("features", &cells::features(&maps, &stages)?, &expected, 1e-12);
    check("by candle", &cells::differentiable(&maps, &stages)?, &expected, 1e-12);
    for map in maps.values_mut() {
        *map = map.to_dtype(DType::F32)?;
    }
    let features = cells::features(&maps, &stages)?;
    assert_eq!((features.dtype(), features.dims()), (DType::F32, &[2, 2 * 4 + 3 * 16 + 4 * 9][..]));
    check("features in f32", &features, &expected, 1e-6);
    check("by candle in f32", &cells::differentiable(&maps, &stages)?, &expected, 1e-6);
    maps.remove("stage2");
    assert!(cells::features(&maps, &stages).unwrap_err().to_string().contains("no map of stage2"));
    assert!(cells::differentiable(&maps, &stages).unwrap_err().to_string().contains("no map of stage2"));
    Ok(())
}

/// Of [`tiny`]: three stages of 2, 4 and 8 channels for maps of 4x4, 2x2 and 1x1 pixels.
fn stages() -> Vec<StageCells> {
    let stage = |stage, cells, normalised| StageCells { stage, cells, normalised };
    vec![stage(3, 1, true), stage(1, 2, false)]
}

/// [`tiny`] with a head of several stages.
fn answering() -> Frozen {
    let width = 8 + 2 * 4;
    let head = Head { blocks: vec![3, 2], stages: stages(), ..Head::new(HeadKind::Linear, width) };
    let tensor = |spec: cil_engine::ParameterSpec| {
        let value = noise(&spec.name, &spec.dims).unwrap().to_dtype(DType::F32).unwrap();
        (spec.name, value)
    };
    let tensors = head.specs().into_iter().map(tensor).collect();
    tiny(HeadKind::Cosine).freeze().unwrap().with_head(head, tensors).unwrap()
}

#[test]
fn a_head_of_several_stages_reads_their_maps() -> Result<()> {
    let images = noise("images", &[3, 3, 4, 4])?.to_dtype(DType::F32)?;
    let (trained, answering) = (tiny(HeadKind::Cosine).freeze()?, answering());
    let names = ["stage1", "stage3"].map(str::to_owned);
    let (view, seen) = (answering.forward(&images)?, trained.with_maps(&names)?.forward(&images)?);
    // Pooled features are returned as ever, so class means and the trained head work as before.
    assert_eq!(values(&view.features), values(&seen.features));
    assert!(view.maps.is_empty());
    let features = cells::features(&seen.maps, &stages())?;
    let head = &answering.snapshot().head;
    let expected = head.weights(&answering.snapshot().parameters)?.forward(&features)?.logits;
    assert_eq!(values(&view.logits), values(&expected));
    let with_maps = answering.with_maps(&names[..1])?.forward(&images)?;
    assert_eq!(with_maps.maps.keys().collect::<Vec<_>>(), ["stage1"]);
    assert_eq!(values(&with_maps.logits), values(&expected));
    assert_eq!(answering.feature_width(), 8);
    let error = answering.head(&seen.features).unwrap_err().to_string();
    assert!(error.contains("base.safetensors"), "{error}");
    // And back to a head of pooled features.
    let own = trained.snapshot();
    let tensors =
        own.head.names().into_iter().map(|name| Ok((name.clone(), own.parameters.get(&name)?.clone())));
    let back = answering.with_head(own.head.clone(), tensors.collect::<Result<_>>()?)?;
    assert_eq!(values(&back.forward(&images)?.logits), values(&trained.forward(&images)?.logits));
    Ok(())
}

#[test]
fn a_model_file_holds_what_the_head_reads() -> Result<()> {
    let images = noise("images", &[3, 3, 4, 4])?.to_dtype(DType::F32)?;
    let answering = answering();
    let bytes = to_bytes(answering.snapshot(), &card())?;
    let (snapshot, _) = from_bytes(&bytes, &Device::Cpu)?;
    assert_eq!(snapshot.head, answering.snapshot().head);
    let again = Network::from_snapshot(snapshot.clone(), &cpu(), 0, &Device::Cpu)?.freeze()?;
    assert_eq!(values(&again.forward(&images)?.logits), values(&answering.forward(&images)?.logits));
    // A head without stages is written as it always was.
    let plain = to_bytes(&tiny(HeadKind::Cosine).snapshot(), &card())?;
    assert!(!String::from_utf8_lossy(&plain).contains("stages"));

    let refused = |change: &dyn Fn(&mut Head), part: &str| {
        let mut wrong = snapshot.clone();
        change(&mut wrong.head);
        let message = to_bytes(&wrong, &card()).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(
        &|head| head.stages[1].stage = 4,
        "head.stages.1.stage is 4; LUCIR's ResNet-8 of width 2 has stages 1 to 3",
    );
    refused(&|head| head.stages[1].stage = 0, "head.stages.1.stage is 0");
    refused(&|head| head.stages[1].stage = 3, "head.stages.1.stage is 3 again");
    refused(&|head| head.stages[0].cells = 0, "head.stages.0.cells is 0; use a value from 1 to 16");
    refused(&|head| head.stages[0].cells = usize::MAX, "use a value from 1 to 16");
    refused(&|head| head.stages[0].cells = 2, "the head takes features of width 16");
    refused(&|head| head.kind = HeadKind::Cosine, "a head of several stages is linear");
    Ok(())
}

#[test]
fn stages_have_as_many_channels_as_their_maps() -> Result<()> {
    let images = Shape::Map { channels: 3, height: 32, width: 32 };
    let of = |variant, depth, width| Architecture { variant, depth, width };
    for architecture in [
        of(Variant::Lucir, 20, 16),
        of(Variant::Podnet, 20, 16),
        of(Variant::Podnet, 8, 4),
        of(Variant::Imagenet, 18, 8),
        of(Variant::ImagenetSmall, 18, 8),
    ] {
        let every: Vec<StageCells> = (1..=architecture.stages())
            .map(|stage| StageCells { stage, cells: 1, normalised: true })
            .collect();
        let network = Network::new(architecture, images, HeadKind::Linear, &cpu(), 0, &Device::Cpu)?;
        let mut network = network.with_maps(&cells::taps(&every))?;
        network.grow(1)?;
        let frozen = network.freeze()?.with_maps(&cells::taps(&every))?;
        let maps = frozen.forward(&noise("images", &images.dims(1))?.to_dtype(DType::F32)?)?.maps;
        let found: Vec<usize> = every.iter().map(|it| maps[&it.tap()].dims()[1]).collect();
        let said: Vec<usize> = every.iter().map(|it| architecture.stage_channels(it.stage)).collect();
        assert_eq!(found, said, "{architecture}");
        assert_eq!(cells::features(&maps, &every)?.dims()[1], cells::width(&architecture.into(), &every));
    }
    let wide = [1, 2, 3].map(|stage| StageCells { stage, cells: 16, normalised: true });
    let message = cells::check(&of(Variant::Lucir, 32, 16).into(), &wide).unwrap_err().to_string();
    assert!(
        message.starts_with(
            "stages have 28672 features together; use fewer cells or stages, so that they have at most 8192"
        ),
        "{message}"
    );
    Ok(())
}
