//! The networks of the race: those of `benches/pytorch/step_server.py`, layer by layer.
//!
//! They are their own, not the project's backbones, so that a ratio compares equal work; the learning step is measured
//! on the project's backbone instead, see [`super::learning`].

use candle_core::Result;
use cil_engine::{Graph, GraphBuilder, NodeId, Op, Shape};

/// Name of the tap with a classifier's output.
pub const LOGITS: &str = "logits";
/// Name of the tap with a generator's output.
pub const IMAGES: &str = "images";
/// Height and width of ResNet-18's images, unless another is asked for: Tiny-ImageNet's.
pub const RESNET18_SIDE: usize = 64;
/// Width of the generator's noise.
pub const LATENT: usize = 100;

struct Net(GraphBuilder);

impl Net {
    fn image(side: usize) -> Self {
        Self(GraphBuilder::new(Shape::Map { channels: 3, height: side, width: side }))
    }

    fn convolution(
        &mut self,
        name: &str,
        out: usize,
        kernel: usize,
        stride: usize,
        x: NodeId,
    ) -> Result<NodeId> {
        let op = Op::Conv2d { out_channels: out, kernel, stride, padding: kernel / 2, bias: false };
        self.0.add(name, op, &[x])
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.0.add(name, Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])
    }

    fn stem(&mut self, out: usize, kernel: usize, stride: usize) -> Result<NodeId> {
        let x = self.convolution("stem.conv", out, kernel, stride, self.0.input())?;
        let x = self.norm("stem.norm", x)?;
        self.0.add("stem.relu", Op::Relu, &[x])
    }

    fn block(&mut self, name: &str, out: usize, stride: usize, x: NodeId) -> Result<NodeId> {
        let y = self.convolution(&format!("{name}.conv1"), out, 3, stride, x)?;
        let y = self.norm(&format!("{name}.norm1"), y)?;
        let y = self.0.add(&format!("{name}.relu1"), Op::Relu, &[y])?;
        let y = self.convolution(&format!("{name}.conv2"), out, 3, 1, y)?;
        let y = self.norm(&format!("{name}.norm2"), y)?;
        let mut shortcut = x;
        if stride > 1 || self.0.shape(x).channels() != out {
            shortcut = self.convolution(&format!("{name}.shortcut.conv"), out, 1, stride, x)?;
            shortcut = self.norm(&format!("{name}.shortcut.norm"), shortcut)?;
        }
        let sum = self.0.add(&format!("{name}.add"), Op::Add, &[y, shortcut])?;
        self.0.add(&format!("{name}.relu2"), Op::Relu, &[sum])
    }

    fn classifier(mut self, widths: &[usize], blocks: usize, classes: usize, stem: NodeId) -> Result<Graph> {
        let mut x = stem;
        for (stage, width) in widths.iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.block(&format!("stage{stage}.block{block}"), *width, stride, x)?;
            }
        }
        let x = self.0.add("pool", Op::GlobalAvgPool, &[x])?;
        let x = self.0.add("head", Op::Linear { out_features: classes, bias: true }, &[x])?;
        self.0.tap(LOGITS, x);
        self.0.build()
    }
}

/// ResNet-32 for 3x32x32 and 100 classes; 1x1 convolutions where a shortcut changes shape.
///
/// # Errors
/// Never, if the graph's rules are what they were.
pub fn resnet32() -> Result<Graph> {
    let mut net = Net::image(32);
    let stem = net.stem(16, 3, 1)?;
    net.classifier(&[16, 32, 64], 5, 100, stem)
}

/// ResNet-18 for images of three channels, `side` pixels high and wide, and 200 classes: with ImageNet's stem, or with
/// one 3x3 convolution up to 32 pixels, as the field does.
///
/// # Errors
/// Never, if the graph's rules are what they were.
pub fn resnet18(side: usize) -> Result<Graph> {
    let mut net = Net::image(side);
    let stem = if side <= 32 {
        net.stem(64, 3, 1)?
    } else {
        let stem = net.stem(64, 7, 2)?;
        net.0.add("stem.pool", Op::MaxPool { kernel: 3, stride: 2, padding: 1 }, &[stem])?
    };
    net.classifier(&[64, 128, 256, 512], 2, 200, stem)
}

/// DAFL's generator of 3x32x32, with the usual epsilon in every batch norm.
///
/// # Errors
/// Never, if the graph's rules are what they were.
pub fn generator() -> Result<Graph> {
    let mut builder = GraphBuilder::new(Shape::Vector { width: LATENT });
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let convolution =
        |out_channels| Op::Conv2d { out_channels, kernel: 3, stride: 1, padding: 1, bias: true };
    let x = builder.add("linear", Op::Linear { out_features: 128 * 64, bias: true }, &[builder.input()])?;
    let x = builder.reshape("map", x, Shape::Map { channels: 128, height: 8, width: 8 })?;
    let mut x = builder.add("norm0", norm(true), &[x])?;
    for (at, width) in [(1, 128), (2, 64)] {
        x = builder.add(&format!("up{at}"), Op::UpsampleNearest { factor: 2 }, &[x])?;
        x = builder.add(&format!("conv{at}"), convolution(width), &[x])?;
        x = builder.add(&format!("norm{at}"), norm(true), &[x])?;
        x = builder.add(&format!("act{at}"), Op::LeakyRelu { slope: 0.2 }, &[x])?;
    }
    let x = builder.add("conv3", convolution(3), &[x])?;
    let x = builder.add("tanh", Op::Tanh, &[x])?;
    let x = builder.add("norm3", norm(false), &[x])?;
    builder.tap(IMAGES, x);
    builder.build()
}

#[cfg(test)]
mod tests {
    use cil_engine::ParameterKind;

    use super::*;

    /// The counts are `sum(p.numel() for p in net.parameters())` of step_server.py's networks.
    #[test]
    fn weights_are_as_many_as_pytorchs() {
        let count = |graph: Graph| -> usize {
            let specs = graph.parameter_specs();
            let weights = specs.iter().filter(|it| it.kind == ParameterKind::Weight);
            weights.map(|it| it.dims.iter().product::<usize>()).sum()
        };
        assert_eq!(count(resnet32().unwrap()), 472_756);
        assert_eq!(count(resnet18(RESNET18_SIDE).unwrap()), 11_279_112);
        assert_eq!(count(resnet18(32).unwrap()), 11_271_432);
        assert_eq!(count(generator().unwrap()), 1_051_139);
    }
}
