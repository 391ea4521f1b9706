//! A network of one's own: `cargo run -p cil --example own_backbone`.
//!
//! A backbone is a graph, built by a function. This one has two convolutions and a fully connected layer; no ResNet is
//! in it. Its batch norms have the running statistics that a generator is trained from, so both schemes work with it.
//! The run is saved after the first task and gone on with by another learner, to the same bits, and the model file
//! holds the graph, so whoever reads it needs no code of this program.
//!
//! With a file's name behind it (`cargo run -p cil --example own_backbone my-net.safetensors`) it writes the network
//! alone, for `cil-runner run demo lucir --set 'architecture={ file = "my-net.safetensors" }'`.

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use cil::parts::backbone::file::{Model, ModelCard, untrained};
use cil::parts::candle::{Device as Place, Result};
use cil::parts::engine::{GraphBuilder, Op, Shape};
use cil::prelude::*;

/// Two convolutions of stride 2 and a layer of `width` features, for colour images of that side.
fn two_layers(side: usize, width: usize) -> Result<Backbone> {
    let convolution =
        |out_channels| Op::Conv2d { out_channels, kernel: 3, stride: 2, padding: 1, bias: false };
    let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
    let mut net = GraphBuilder::new(Shape::Map { channels: 3, height: side, width: side });
    let x = net.add("first.conv", convolution(width / 2), &[net.input()])?;
    let x = net.add("first.norm", norm.clone(), &[x])?;
    // Maps that a loss may compare are tapped as stages, before their ReLU.
    net.tap("stage1", x);
    let x = net.add("first.relu", Op::Relu, &[x])?;
    let x = net.add("second.conv", convolution(width), &[x])?;
    let x = net.add("second.norm", norm, &[x])?;
    net.tap("stage2", x);
    let x = net.add("second.relu", Op::Relu, &[x])?;
    let x = net.add("pool", Op::GlobalAvgPool, &[x])?;
    let x = net.add("features", Op::Linear { out_features: width, bias: true }, &[x])?;
    net.tap("pooled", x);
    Backbone::own("two-layers", net.build()?)
}

fn main() -> cil::Result<()> {
    match std::env::args().nth(1) {
        Some(file) => Ok(std::fs::write(file, untrained(&two_layers(32, 32)?, [3, 32, 32])?)?),
        None => learn(),
    }
}

fn learn() -> cil::Result<()> {
    let data = Dataset::procedural(4).images(100, 30).build()?;
    let (train, test) = data.in_order(ClassOrder::as_labelled()).split()?;
    let method = lucir(Sgd::epochs(20).batch(16))
        .later_tasks(Sgd::epochs(15).batch(16).rate(0.02))
        .with(DfGr::iterations(100).batch(16).channels(16))
        .with(DtId::logits());
    let builder = Learner::builder(method).network(two_layers(32, 32)?).tasks([2, 2]);

    let mut learner = builder.clone().build()?;
    for learned in learner.tasks(&train).take(1) {
        let learned = learned?;
        println!("task {}: {:.1} %", learned.task, 100.0 * learned.evaluate(&test)?.accuracy());
    }
    let saved = learner.save()?;

    let mut resumed = builder.restore(&saved, &train)?;
    for (learned, again) in learner.tasks(&train).zip(resumed.tasks(&train)) {
        let (learned, again) = (learned?, again?);
        let model = |of: &cil::Learned| {
            let class_names = (0..4).map(|class| format!("class {class}")).collect();
            let card =
                ModelCard { class_names, mean: vec![0.5; 3], deviation: vec![0.25; 3], trained_on: None };
            Model::new(of.classifier().snapshot().clone(), card).to_bytes()
        };
        let bytes = model(&learned)?;
        assert!(bytes == model(&again)?, "both learned the same");
        let read = Model::from_bytes(&bytes, &Place::Cpu)?;
        assert!(read.snapshot.backbone == two_layers(32, 32)?, "the file holds the graph");
        println!("task {}: {:.1} %", learned.task, 100.0 * learned.evaluate(&test)?.accuracy());
        println!("{} in {} bytes", read.snapshot.backbone, bytes.len());
    }
    Ok(())
}

#[test]
fn the_example_runs() -> cil::Result<()> {
    learn()
}
