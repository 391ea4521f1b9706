//! Model files: there and back bit for bit, and every damage is an error.

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::file::{self, ModelCard, from_bytes, to_bytes};
use cil_backbone::{Architecture, HeadKind, Model, Network, Snapshot};
use cil_engine::{Parameters, Shape};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{bits, card, cpu, tiny};

fn read(bytes: &[u8]) -> Result<(Snapshot, ModelCard)> {
    from_bytes(bytes, &Device::Cpu)
}

fn written() -> Vec<u8> {
    to_bytes(&tiny(HeadKind::Cosine).snapshot(), &card()).unwrap()
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let message = read(bytes).unwrap_err().to_string();
    assert!(message.contains(part), "{message}");
}

/// Header and values of a safetensors file.
fn split(file: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = file.split_at(8);
    let (header, values) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    (serde_json::from_slice(header).unwrap(), values)
}

fn joined(header: &Value, values: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

/// The file with another header.
fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let file = written();
    let (mut header, values) = split(&file);
    change(&mut header);
    joined(&header, values)
}

/// The file with another description of the model.
fn with_metadata(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    with_header(|header| {
        let text = &mut header["__metadata__"]["cil"];
        let mut metadata = serde_json::from_str(text.as_str().unwrap()).unwrap();
        change(&mut metadata);
        *text = Value::String(metadata.to_string());
    })
}

#[test]
fn a_model_comes_back_bit_for_bit() -> Result<()> {
    for kind in [HeadKind::Linear, HeadKind::Cosine, HeadKind::MultiProxy { proxies: 3 }] {
        let mut network = tiny(kind);
        let odd = [f32::NAN, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 2.0].repeat(4 * kind.proxies());
        let odd = Tensor::from_vec(odd, (2 * kind.proxies(), 8), &Device::Cpu)?;
        network.parameters_mut().set("head.1.weight", odd);
        let strided = network.parameters().get("head.0.weight")?.t()?.contiguous()?.t()?;
        network.parameters_mut().set("head.0.weight", strided);
        let snapshot = network.snapshot();
        let bytes = to_bytes(&snapshot, &card())?;
        assert_eq!(to_bytes(&snapshot, &card())?, bytes, "equal models give equal files");
        let (read, card_read) = read(&bytes)?;
        assert_eq!(bits(&read.parameters), bits(&snapshot.parameters));
        assert_eq!(
            (&read.backbone, read.images, &read.head),
            (&snapshot.backbone, snapshot.images, &snapshot.head)
        );
        assert_eq!(card_read, card());
        assert_eq!(to_bytes(&read, &card_read)?, bytes);
    }
    Ok(())
}

#[test]
fn a_model_that_was_read_runs_and_learns_on() -> Result<()> {
    let network = tiny(HeadKind::Cosine);
    let images = Tensor::ones((2, 3, 4, 4), DType::F32, &Device::Cpu)?;
    let (snapshot, _) = read(&written())?;
    let mut again = Network::from_snapshot(snapshot, &cpu(), 5, &Device::Cpu)?;
    let logits = |network: &Network| network.freeze()?.forward(&images)?.logits.to_vec2::<f32>();
    assert_eq!(logits(&network)?, logits(&again)?);
    again.grow(1)?;
    assert_eq!(again.head().classes(), 6);
    Ok(())
}

#[test]
fn models_without_classes_and_of_either_family_are_files_too() -> Result<()> {
    let images = Shape::Map { channels: 1, height: 8, width: 6 };
    let architecture = Architecture { width: 3, ..Architecture::podnet(14) };
    let network = Network::new(architecture, images, HeadKind::Cosine, &cpu(), 0, &Device::Cpu)?;
    let card =
        ModelCard { class_names: Vec::new(), mean: vec![0.5], deviation: vec![0.25], trained_on: None };
    let (snapshot, read) = read(&to_bytes(&network.snapshot(), &card)?)?;
    assert_eq!((snapshot.backbone, snapshot.images, read), (architecture.into(), images, card));
    Ok(())
}

#[test]
fn what_no_file_can_hold_is_not_written() -> Result<()> {
    let snapshot = tiny(HeadKind::Linear).snapshot();
    let refused = |snapshot: &Snapshot, card: &ModelCard, part: &str| {
        let message = to_bytes(snapshot, card).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let doubles = Snapshot { parameters: snapshot.parameters.to_dtype(DType::F64)?, ..snapshot.clone() };
    refused(&doubles, &card(), "is F64, a model file holds F32");
    let mut broken = snapshot.clone();
    broken.parameters.remove("head.0.bias");
    refused(&broken, &card(), "head.0.bias is missing");
    let changed = |change: &dyn Fn(&mut ModelCard)| {
        let mut card = card();
        change(&mut card);
        card
    };
    refused(&snapshot, &changed(&|card| card.class_names.truncate(4)), "4 class names, the model 5 classes");
    refused(&snapshot, &changed(&|card| card.mean.truncate(2)), "mean is of 2 channels, the images have 3");
    refused(&snapshot, &changed(&|card| card.mean[1] = f32::NAN), "mean holds NaN");
    refused(&snapshot, &changed(&|card| card.deviation[2] = 0.0), "deviation holds 0");
    refused(&snapshot, &changed(&|card| card.deviation[0] = f32::INFINITY), "deviation holds inf");
    Ok(())
}

#[test]
fn a_file_of_any_other_length_is_refused() {
    let file = written();
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length} of {} bytes", file.len());
    }
    refused(&file[..file.len() - 1], "not a whole safetensors file");
    refused(&[file.as_slice(), &[0]].concat(), "not a whole safetensors file");
    for length in [1 << 20, 100_000_000, 100_000_001, u64::MAX / 2, u64::MAX] {
        refused(&[&length.to_le_bytes(), &file[8..]].concat(), "not a whole safetensors file");
    }
}

#[test]
fn a_flipped_bit_in_the_header_never_gives_other_values() {
    let file = written();
    let values = bits(&read(&file).unwrap().0.parameters);
    let header = file.len() - split(&file).1.len();
    for at in (0..header).flat_map(|byte| [8 * byte + byte % 8, 8 * byte + (byte + 3) % 8]) {
        let mut flipped = file.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        // What is left may be another class name or image size; nothing in the file could tell.
        if let Ok((snapshot, _)) = read(&flipped) {
            snapshot.check().unwrap();
            assert_eq!(bits(&snapshot.parameters), values, "bit {at}");
        }
    }
}

#[test]
fn tensors_that_are_not_the_model_s_are_named() {
    let rename = |from: &'static str, to: &'static str| {
        with_header(move |header| {
            let header = header.as_object_mut().unwrap();
            let tensor = header.remove(from).unwrap();
            header.insert(to.to_owned(), tensor);
        })
    };
    refused(&rename("stem.norm.weight", "stem.norm.scale"), "stem.norm.weight is missing");
    refused(&rename("head.scale", "head.9.weight"), "head.scale is missing");
    let empty = json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] });
    refused(&with_header(|header| header["extra"] = empty), "extra is too many");
    refused(
        &with_header(|header| header["head.0.weight"]["shape"] = json!([8, 3])),
        "head.0.weight is [8, 3]",
    );
    refused(&with_header(|header| header["head.0.weight"]["shape"] = json!([24])), "head.0.weight is [24]");
    refused(&with_header(|header| header["head.0.weight"]["dtype"] = json!("I32")), "head.0.weight is I32");
    refused(
        &with_header(|header| header["head.0.weight"]["dtype"] = json!("F64")),
        "not a whole safetensors",
    );
    refused(
        &with_header(|header| header["head.0.weight"]["dtype"] = json!("F99")),
        "not a whole safetensors",
    );
    let huge = json!([u64::MAX, u64::MAX]);
    refused(&with_header(|header| header["head.0.weight"]["shape"] = huge), "not a whole safetensors");
}

#[test]
fn descriptions_that_do_not_fit_are_named() {
    let metadata = |change: &dyn Fn(&mut Value), part: &str| refused(&with_metadata(change), part);
    metadata(&|it| it["architecture"]["variant"] = json!("podnet"), "stage4.block0.conv1.weight is missing");
    metadata(&|it| it["architecture"]["variant"] = json!("densenet"), "unknown variant");
    metadata(&|it| it["architecture"]["depth"] = json!(14), "is missing");
    metadata(
        &|it| it["architecture"]["depth"] = json!(6_000_000_000_002u64),
        "architecture.depth is 6000000000002",
    );
    metadata(&|it| it["architecture"]["width"] = json!(u64::MAX), "architecture.width is");
    metadata(&|it| it["architecture"]["width"] = json!(4), "the head takes features of width 8");
    metadata(&|it| it["head"]["kind"] = json!("linear"), "head.0.bias is missing");
    metadata(&|it| it["head"]["width"] = json!(16), "the head takes features of width 16");
    metadata(&|it| it["head"]["blocks"] = json!([5]), "head.0.weight is [3, 8]");
    metadata(&|it| it["head"]["blocks"] = json!([3, 2, 1]), "head.2.weight is missing");
    metadata(&|it| it["head"]["blocks"] = json!([3, 0]), "head.blocks[1] is 0");
    metadata(&|it| it["head"]["blocks"] = json!([u64::MAX, u64::MAX]), "more classes than");
    metadata(&|it| it["head"]["blocks"] = json!([u64::MAX / 8]), "head.0.weight is [3, 8]");
    metadata(&|it| it["image-dims"] = json!([1, 4, 4]), "stem.conv.weight is [2, 3, 3, 3]");
    metadata(&|it| it["image-dims"] = json!([3, 4, u64::MAX]), "4x4 to");
    metadata(&|it| it["image-dims"] = json!([3, 4]), "cannot be read");
    metadata(&|it| it["card"]["class-names"] = json!(["one"]), "1 class names, the model 5 classes");
    metadata(&|it| it["card"]["mean"] = json!([0.5]), "mean is of 1 channels");
    metadata(&|it| it["card"]["mean"] = json!([1e300, 0, 0]), "number out of range");
    metadata(&|it| it["card"]["deviation"] = json!([1, -1, 1]), "deviation holds -1");
}

#[test]
fn a_file_that_does_not_say_what_it_was_trained_on_is_read() {
    let bytes = with_metadata(|it| {
        assert!(it["card"].as_object_mut().unwrap().remove("trained-on").is_some());
    });
    assert_eq!(read(&bytes).unwrap().1, ModelCard { trained_on: None, ..card() });
}

#[test]
fn other_versions_and_unknown_keys_are_named() {
    let metadata = |change: &dyn Fn(&mut Value), part: &str| refused(&with_metadata(change), part);
    metadata(&|it| *it = json!({ "format": 4, "layers": [] }), "of format 4, this program reads 1 to 3");
    metadata(&|it| it["format"] = json!(0), "of format 0, this program reads 1 to 3");
    metadata(&|it| it["format"] = json!("one"), "cannot be read");
    metadata(&|it| drop(it.as_object_mut().unwrap().remove("format")), "missing field `format`");
    metadata(&|it| drop(it.as_object_mut().unwrap().remove("card")), "missing field `card`");
    for part in ["", "architecture", "head", "card"] {
        let unknown = |it: &mut Value| {
            let part = if part.is_empty() { it } else { &mut it[part] };
            part["surprise"] = json!(1);
        };
        metadata(&unknown, "unknown field `surprise`");
    }
    refused(&with_header(|header| header["__metadata__"]["cil"] = json!("{")), "cannot be read");
    let foreign = "without the metadata \"cil\"";
    refused(&with_header(|header| header["__metadata__"] = json!({ "format": "pt" })), foreign);
    refused(&with_header(|header| drop(header.as_object_mut().unwrap().remove("__metadata__"))), foreign);
    // Other programs may add theirs beside ours.
    assert!(read(&with_header(|header| header["__metadata__"]["format"] = json!("pt"))).is_ok());
}

/// Any card that suits five classes and three channels.
fn cards() -> impl Strategy<Value = ModelCard> {
    let mean = prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 3);
    let deviation = prop::collection::vec(prop::num::f32::POSITIVE | prop::num::f32::SUBNORMAL, 3)
        .prop_filter("divided by", |values| values.iter().all(|it| *it > 0.0));
    (prop::collection::vec(".*", 5), mean, deviation).prop_map(|(class_names, mean, deviation)| ModelCard {
        class_names,
        mean,
        deviation,
        trained_on: None,
    })
}

proptest! {
    #[test]
    fn any_card_comes_back(card in cards()) {
        let bytes = to_bytes(&tiny(HeadKind::Linear).snapshot(), &card).unwrap();
        prop_assert_eq!(read(&bytes).unwrap().1, card);
    }

    #[test]
    fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..200) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(&[&length.to_le_bytes(), bytes.as_slice()].concat()).is_err());
    }

    #[test]
    fn any_splice_is_an_error_or_a_whole_model(
        at in any::<prop::sample::Index>(),
        removed in 0usize..40,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut file = written();
        let at = at.index(file.len());
        file.splice(at..(at + removed).min(written().len()), bytes);
        if let Ok((snapshot, card)) = read(&file) {
            prop_assert!(snapshot.check().is_ok());
            prop_assert!(to_bytes(&snapshot, &card).is_ok());
        }
    }

    #[test]
    fn any_numbers_in_the_description_are_an_error_or_a_whole_model(
        depth in any::<u64>(), width in any::<u64>(), dims in any::<[u64; 3]>(),
        blocks in prop::collection::vec(any::<u64>(), 0..4), head_width in any::<u64>(),
        which in 0..5,
    ) {
        let file = with_metadata(|it| match which {
            0 => it["architecture"]["depth"] = json!(depth),
            1 => it["architecture"]["width"] = json!(width),
            2 => it["image-dims"] = json!(dims),
            3 => it["head"]["blocks"] = json!(blocks),
            _ => it["head"]["width"] = json!(head_width),
        });
        if let Ok((snapshot, _)) = read(&file) {
            prop_assert!(snapshot.check().is_ok());
        }
    }
}

/// A model with everything that a file can hold.
fn extended() -> Model {
    let mut attached = Parameters::default();
    attached.set(
        "statistics.means",
        Tensor::new(&[[1f64, f64::MIN_POSITIVE], [0.1, -3.0]], &Device::Cpu).unwrap(),
    );
    attached.set("head.0.weight", Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap());
    let record = Some(json!({ "tasks": [{ "classes": ["a"], "rate": 0.1 }], "a": null }));
    let model = Model::new(tiny(HeadKind::Cosine).snapshot(), card());
    Model { resize: Some(9), record, attached, ..model }
}

#[test]
fn what_a_file_holds_beside_the_network_comes_back_and_is_checked() -> Result<()> {
    let model = extended();
    let bytes = model.to_bytes()?;
    let read = Model::from_bytes(&bytes, &Device::Cpu)?;
    assert_eq!((&read.resize, &read.record), (&model.resize, &model.record));
    assert_eq!(
        read.attached.get("statistics.means")?.to_vec2::<f64>()?,
        [[1.0, f64::MIN_POSITIVE], [0.1, -3.0]]
    );
    assert_eq!(read.attached.get("head.0.weight")?.to_vec1::<f32>()?, [1.0, 2.0]);
    assert_eq!(bits(&read.snapshot.parameters), bits(&model.snapshot.parameters));
    assert_eq!(read.to_bytes()?, bytes);
    assert!(file::is_own(&bytes)?);
    // Who asks for the network alone has it.
    assert_eq!(bits(&from_bytes(&bytes, &Device::Cpu)?.0.parameters), bits(&model.snapshot.parameters));
    let (header, values) = split(&bytes);
    let mut changed = header.clone();
    changed["attached.head.0.weight"]["dtype"] = json!("I32");
    refused(&joined(&changed, values), "attached.head.0.weight is I32");
    let mut changed = header.clone();
    let text = changed["__metadata__"]["cil"].as_str().unwrap().replace("\"resize\":9", "\"resize\":3");
    changed["__metadata__"]["cil"] = json!(text);
    refused(&joined(&changed, values), "resize is 3; the model takes a side of 4");
    let attached =
        Parameters::from_tensors([("a".to_owned(), Tensor::zeros(1, DType::U8, &Device::Cpu)?)].into());
    let message = Model { attached, ..extended() }.to_bytes().unwrap_err().to_string();
    assert!(message.contains("tensor a is U8"), "{message}");
    Ok(())
}

#[test]
fn a_network_and_its_card_alone_are_written_as_ever() -> Result<()> {
    let (header, _) = split(&written());
    let metadata: Value = serde_json::from_str(header["__metadata__"]["cil"].as_str().unwrap()).unwrap();
    let keys: Vec<&String> = metadata.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["architecture", "card", "format", "head", "image-dims"]);
    assert_eq!(metadata["format"], 1);
    assert!(file::is_own(&written())?);
    assert!(file::is_own(b"no").is_err());
    Ok(())
}
