//! Networks to run: those that are trained here in small, and random ones.

use candle_core::Result;

use super::Dice;
use crate::{Graph, GraphBuilder, NodeId, Op, Shape};

pub(crate) fn conv(out_channels: usize, kernel: usize, stride: usize, padding: usize, bias: bool) -> Op {
    Op::Conv2d { out_channels, kernel, stride, padding, bias }
}

pub(crate) fn map(channels: usize, height: usize, width: usize) -> Shape {
    Shape::Map { channels, height, width }
}

/// A residual network with an identity and a projected shortcut, the shape of everything that is trained here.
pub(crate) fn residual_net(height: usize, width: usize) -> Result<Graph> {
    let mut builder = GraphBuilder::new(map(3, height, width));
    let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
    let stem = builder.add("stem", conv(16, 3, 1, 1, false), &[NodeId(0)])?;
    let stem = builder.add("stem_norm", norm.clone(), &[stem])?;
    let mut x = builder.add("stem_relu", Op::Relu, &[stem])?;
    for (at, (out, stride)) in [(16, 1), (24, 2), (24, 1)].into_iter().enumerate() {
        let y = builder.add(&format!("{at}.conv1"), conv(out, 3, stride, 1, false), &[x])?;
        let y = builder.add(&format!("{at}.bn1"), norm.clone(), &[y])?;
        let y = builder.add(&format!("{at}.relu1"), Op::Relu, &[y])?;
        let y = builder.add(&format!("{at}.conv2"), conv(out, 3, 1, 1, false), &[y])?;
        let y = builder.add(&format!("{at}.bn2"), norm.clone(), &[y])?;
        let short = if stride == 1 {
            x
        } else {
            let short = builder.add(&format!("{at}.short"), conv(out, 1, stride, 0, false), &[x])?;
            builder.add(&format!("{at}.short_bn"), norm.clone(), &[short])?
        };
        let sum = builder.add(&format!("{at}.add"), Op::Add, &[y, short])?;
        builder.tap(&format!("{at}.sum"), sum);
        x = builder.add(&format!("{at}.relu2"), Op::Relu, &[sum])?;
        builder.tap(&format!("{at}.out"), x);
    }
    let pooled = builder.add("pool", Op::GlobalAvgPool, &[x])?;
    let head = builder.add("head", Op::Linear { out_features: 7, bias: true }, &[pooled])?;
    builder.tap("pooled", pooled);
    builder.tap("logits", head);
    builder.build()
}

/// As [`residual_net`], without taps between the units, so that they fuse.
pub(crate) fn fused(graph: &Graph) -> Result<Graph> {
    let mut builder = GraphBuilder::new(graph.input_shape());
    for node in graph.nodes().iter().skip(1) {
        builder.add(&node.name, node.op.clone(), &node.inputs)?;
    }
    builder.tap("logits", NodeId(graph.nodes().len() - 1));
    builder.build()
}

pub(crate) fn generator() -> Result<Graph> {
    let mut builder = GraphBuilder::new(Shape::Vector { width: 10 });
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let x = builder.add("linear", Op::Linear { out_features: 20 * 4 * 3, bias: true }, &[NodeId(0)])?;
    let x = builder.reshape("map", x, map(20, 4, 3))?;
    let x = builder.add("bn0", norm(true), &[x])?;
    let x = builder.add("up1", Op::UpsampleNearest { factor: 2 }, &[x])?;
    let x = builder.add("conv1", conv(24, 3, 1, 1, true), &[x])?;
    let x = builder.add("bn1", norm(true), &[x])?;
    let x = builder.add("act1", Op::LeakyRelu { slope: 0.2 }, &[x])?;
    let x = builder.add("up2", Op::UpsampleNearest { factor: 3 }, &[x])?;
    let x = builder.add("conv2", conv(3, 3, 1, 1, true), &[x])?;
    let x = builder.add("tanh", Op::Tanh, &[x])?;
    let x = builder.add("bn2", norm(false), &[x])?;
    builder.tap("image", x);
    builder.build()
}

pub(crate) fn random_graph(dice: &mut Dice) -> Result<Graph> {
    let (height, width) = (5 + dice.below(6), 5 + dice.below(6));
    let mut builder = GraphBuilder::new(map(dice.pick(&[1, 3, 5, 16, 18]), height, width));
    let mut nodes = vec![builder.input()];
    let count = 5 + dice.below(8);
    for at in 0..count {
        let name = format!("node{at}");
        let id = if dice.below(3) == 0 { dice.pick(&nodes) } else { nodes[nodes.len() - 1] };
        let kernel = 1 + dice.below(3);
        let stride = 1 + dice.below(2);
        let channels = builder.shape(id).channels();
        let Shape::Map { height, width, .. } = builder.shape(id) else { continue };
        let other = nodes
            .iter()
            .rev()
            .copied()
            .find(|other| *other != id && builder.shape(*other) == builder.shape(id));
        let op = match dice.below(13) {
            0..3 => conv(dice.pick(&[3, 16, 20]), kernel, stride, dice.below(kernel + 1), dice.below(2) > 0),
            3 | 4 => Op::BatchNorm { affine: dice.below(2) > 0, epsilon: 1e-5 },
            5 => Op::Relu,
            6 => Op::LeakyRelu { slope: dice.pick(&[0.2, 0.0, -0.3]) },
            7 => Op::Tanh,
            8 => Op::AvgPool { kernel, stride },
            9 => Op::MaxPool { kernel, stride, padding: dice.below(kernel / 2 + 1) },
            10 if height * width < 60 => Op::UpsampleNearest { factor: 2 },
            11 => Op::SubsamplePad { stride, out_channels: channels + dice.below(10) },
            _ => Op::Add,
        };
        let inputs = match (&op, other) {
            (Op::Add, Some(other)) => vec![id, other],
            (Op::Add, None) => vec![id, id],
            _ => vec![id],
        };
        // Windows may not fit, and then there is no node.
        let Ok(id) = builder.add(&name, op, &inputs) else { continue };
        nodes.push(id);
        if dice.below(4) == 0 {
            builder.tap(&name, id);
        }
        if dice.below(5) == 0 {
            nodes.push(builder.add(&format!("join{at}"), Op::Concat, &[id, id])?);
        }
    }
    let last = nodes[nodes.len() - 1];
    let flat = if dice.below(2) == 0 {
        builder.add("pool", Op::GlobalAvgPool, &[last])?
    } else {
        let width = builder.shape(last).elements();
        builder.reshape("flat", last, Shape::Vector { width })?
    };
    let linear = builder.add("linear", Op::Linear { out_features: 21, bias: true }, &[flat])?;
    let both = builder.add("both", Op::Concat, &[linear, flat])?;
    let narrow = builder.add("narrow", Op::Narrow { start: 3, length: 19 }, &[both])?;
    let norm = builder.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[narrow])?;
    let square = builder.add("narrower", Op::Narrow { start: 1, length: 18 }, &[norm])?;
    let square = builder.reshape("square", square, map(2, 3, 3))?;
    builder.tap("end", square);
    builder.build()
}

/// ResNet-32 for small images (He et al. 2016, section 4.2, with parameter-free shortcuts), up to its pooled features.
#[cfg(feature = "cuda")]
pub(crate) fn resnet32(side: usize) -> Result<Graph> {
    let mut builder = GraphBuilder::new(map(3, side, side));
    let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
    let unit = |builder: &mut GraphBuilder, name: &str, out, stride, x| {
        let y = builder.add(&format!("{name}.conv"), conv(out, 3, stride, 1, false), &[x])?;
        builder.add(&format!("{name}.norm"), norm.clone(), &[y])
    };
    let x = unit(&mut builder, "stem", 16, 1, NodeId(0))?;
    let mut x = builder.add("stem.relu", Op::Relu, &[x])?;
    for (stage, out_channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..5 {
            let name = format!("{stage}.{block}");
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = unit(&mut builder, &format!("{name}.a"), out_channels, stride, x)?;
            let y = builder.add(&format!("{name}.relu"), Op::Relu, &[y])?;
            let y = unit(&mut builder, &format!("{name}.b"), out_channels, 1, y)?;
            if stride > 1 {
                let shortcut = Op::SubsamplePad { stride, out_channels };
                x = builder.add(&format!("{name}.shortcut"), shortcut, &[x])?;
            }
            let sum = builder.add(&format!("{name}.sum"), Op::Add, &[y, x])?;
            x = builder.add(&format!("{name}.out"), Op::Relu, &[sum])?;
        }
    }
    let pooled = builder.add("pool", Op::GlobalAvgPool, &[x])?;
    builder.tap("pooled", pooled);
    builder.build()
}
