//! Backbones that a program built: what they are refused for, and their model files.

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::file::{Model, ModelCard};
use cil_backbone::{Architecture, Backbone, HeadKind, Network, POOLED, StageCells, cells};
use cil_engine::{Graph, GraphBuilder, Op, Shape};
use serde_json::{Value, json};

use crate::support::cpu;

const IMAGES: Shape = Shape::Map { channels: 3, height: 6, width: 5 };

/// A convolution, its batch norm as a stage, and averages after a ReLU as features; names may be wrong.
fn graph(conv: &str, stage: &str, pooled: &str) -> Result<Graph> {
    let mut net = GraphBuilder::new(IMAGES);
    let op = Op::Conv2d { out_channels: 4, kernel: 3, stride: 2, padding: 1, bias: false };
    let x = net.add(conv, op, &[net.input()])?;
    let norm = net.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])?;
    let x = net.add("relu", Op::Relu, &[norm])?;
    let x = net.add("pool", Op::GlobalAvgPool, &[x])?;
    net.tap(stage, norm);
    net.tap(pooled, x);
    net.build()
}

fn own() -> Result<Backbone> {
    Backbone::own("tiny", graph("conv", "stage1", POOLED)?)
}

fn model() -> Result<Model> {
    let mut network = Network::new(own()?, IMAGES, HeadKind::Cosine, &cpu(), 3, &Device::Cpu)?;
    network.grow(2)?;
    let class_names = vec!["one".to_owned(), "two".to_owned()];
    let card = ModelCard { class_names, mean: vec![0.5; 3], deviation: vec![0.25; 3], trained_on: None };
    Ok(Model::new(network.snapshot(), card))
}

#[test]
fn a_graph_answers_what_a_learner_asks_of_a_network() -> Result<()> {
    let own = own()?;
    assert_eq!((own.feature_width(), own.stages(), own.stage_channels(1)), (4, 1, 4));
    assert!(own.ends_in_relu() && own.architecture().is_none());
    assert_eq!(own.to_string(), "the network tiny of 5 nodes");
    let wide = own.graph(Shape::Map { channels: 3, height: 6, width: 6 }).unwrap_err().to_string();
    assert!(wide.contains("tiny of 5 nodes takes Map"), "{wide}");
    let stages = [StageCells { stage: 2, cells: 1, normalised: false }];
    assert!(cells::check(&own, &stages).unwrap_err().to_string().contains("has stages 1 to 1"));
    Ok(())
}

#[test]
fn what_no_learner_can_use_is_refused_by_name() -> Result<()> {
    let refused = |name: &str, graph: Graph, expected: &str| {
        let error = Backbone::own(name, graph).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused("", graph("conv", "stage1", POOLED)?, "is named \"\"");
    refused("tiny", graph("head.0", "stage1", POOLED)?, "has a node head.0");
    refused("tiny", graph("conv", "stage1", "features")?, "tap a vector as \"pooled\"");
    refused("tiny", graph("conv", "stage2", POOLED)?, "no map stage1");
    let mut net = GraphBuilder::new(Shape::Vector { width: 3 });
    let x = net.add("first", Op::Linear { out_features: 2, bias: true }, &[net.input()])?;
    net.tap(POOLED, x);
    refused("tiny", net.build()?, "takes Vector");
    Ok(())
}

#[test]
fn a_model_file_holds_the_graph() -> Result<()> {
    let model = model()?;
    let bytes = model.to_bytes()?;
    let read = Model::from_bytes(&bytes, &Device::Cpu)?;
    assert_eq!(read.snapshot.backbone, own()?);
    assert_eq!(read.to_bytes()?, bytes);
    let images = Tensor::ones((2, 3, 6, 5), DType::F32, &Device::Cpu)?;
    let logits = |model: Model| -> Result<Vec<Vec<f32>>> {
        let network = Network::from_snapshot(model.snapshot, &cpu(), 0, &Device::Cpu)?;
        network.freeze()?.forward(&images)?.logits.to_vec2()
    };
    assert_eq!(logits(read)?, logits(model)?);
    Ok(())
}

#[test]
fn a_file_whose_graph_is_another_is_refused_by_name() -> Result<()> {
    let bytes = model()?.to_bytes()?;
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let mut metadata: Value =
            serde_json::from_str(header["__metadata__"]["cil"].as_str().unwrap()).unwrap();
        change(&mut metadata);
        header["__metadata__"]["cil"] = json!(metadata.to_string());
        let header = header.to_string().into_bytes();
        let changed =
            [&(header.len() as u64).to_le_bytes(), header.as_slice(), &bytes[8 + length..]].concat();
        let error = Model::from_bytes(&changed, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let graph = |it: &mut Value, change: &dyn Fn(&mut Value)| change(&mut it["architecture"]["graph"]);
    let conv = |it: &mut Value, key: &str, value: u64| {
        graph(it, &|graph| graph["nodes"][0]["op"]["conv2d"][key] = json!(value));
    };
    refused(&|it| conv(it, "out-channels", 5), "the head takes features of width 4");
    refused(
        &|it| conv(it, "kernel", 5),
        "tensor conv.weight is [4, 3, 3, 3], the network tiny of 5 nodes needs",
    );
    refused(&|it| conv(it, "out-channels", u64::MAX >> 8), "node conv: ");
    refused(&|it| graph(it, &|graph| graph["nodes"][1]["name"] = json!("head")), "has a node head");
    refused(&|it| graph(it, &|graph| graph["taps"][0][0] = json!("stage3")), "no map stage1");
    refused(&|it| it["architecture"]["more"] = json!(1), "unknown field `more`");
    refused(&|it| it["architecture"]["depth"] = json!(8), "unknown field `depth`");
    refused(&|it| it["image-dims"] = json!([3, 6, 6]), "takes Map");
    refused(&|it| it["format"] = json!(2), "a model file of format 2 has another form");
    refused(&|it| it["architecture"] = json!(Architecture::lucir(8)), "a model file of format 3 has another");
    Ok(())
}
