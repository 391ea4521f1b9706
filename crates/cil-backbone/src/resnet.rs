//! Residual networks for small images, as published class-incremental methods used them.
//!
//! One decision: a network is named by family and depth, and the two families keep the quirks of the code they come
//! from, because published numbers depend on them. Taps `stage1`, `stage2`, ... are maps before any closing ReLU.

use candle_core::{Result, bail};
use cil_engine::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use serde::{Deserialize, Serialize};

use crate::POOLED;

/// Layers of the deepest network that He et al. 2016 trained.
const DEEPEST: usize = 1202;
/// Side of the largest image; a bound, so that a damaged model file is refused before its sizes are multiplied.
const LARGEST: usize = 8192;

/// Whose ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// LUCIR's (Hou et al. 2019, `modified_resnet_cifar`): 1x1 convolution and batch norm where a shortcut changes
    /// shape; no ReLU after the last block, so features may be negative.
    Lucir,
    /// PODNet's (Douillard et al. 2020, `rebuffi`): no ReLU after any addition, parameter-free shortcuts, second batch
    /// norm of a block starting at zero; the last block counts as a stage of its own.
    Podnet,
}

/// A backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Architecture {
    /// Whose ResNet.
    pub variant: Variant,
    /// Layers as the literature counts them: `6 n + 2`, three stages of `n` blocks; 32 in the published runs.
    pub depth: usize,
    /// Channels of the first stage; the others have twice and four times as many. 16 in the published runs.
    pub width: usize,
}

impl Architecture {
    /// LUCIR's network of that depth at the published width.
    pub fn lucir(depth: usize) -> Self {
        Self { variant: Variant::Lucir, depth, width: 16 }
    }

    /// PODNet's network of that depth at the published width.
    pub fn podnet(depth: usize) -> Self {
        Self { variant: Variant::Podnet, depth, width: 16 }
    }

    /// Width of the pooled features.
    pub fn feature_width(&self) -> usize {
        4 * self.width
    }

    /// Refuses what no ResNet is.
    ///
    /// # Errors
    /// Naming the field and its value.
    pub fn check(&self) -> Result<()> {
        if !(8..=DEEPEST).contains(&self.depth) || !(self.depth - 2).is_multiple_of(6) {
            bail!(
                "architecture.depth is {}; a ResNet for small images has 8, 14, 20, 26, 32, ... {DEEPEST} layers",
                self.depth
            );
        }
        if self.width == 0 || self.width > 1024 {
            bail!(
                "architecture.width is {}; it should be from 1 to 1024, and is 16 in the published runs",
                self.width
            );
        }
        Ok(())
    }

    /// The backbone for images of that shape, with the taps `stage1`, ... and [`POOLED`].
    ///
    /// PODNet's network of depth 8 has no block between its second stage and the last block, so `stage3` is `stage2`.
    ///
    /// # Errors
    /// If the architecture does not pass its check, or the images are too small for it.
    pub fn graph(&self, images: Shape) -> Result<Graph> {
        self.check()?;
        if !matches!(images, Shape::Map { channels: 1..=1024, height: 4..=LARGEST, width: 4..=LARGEST }) {
            bail!(
                "a ResNet takes images of 1 to 1024 channels and 4x4 to {LARGEST}x{LARGEST} pixels, not {images:?}"
            );
        }
        let blocks = (self.depth - 2) / 6;
        let mut net = Net { it: GraphBuilder::new(images), variant: self.variant };
        let input = net.it.input();
        let x = net.convolution("stem.conv", self.width, 3, 1, input)?;
        let x = net.norm("stem.norm", x, 1.0)?;
        let mut x = net.it.add("stem.relu", Op::Relu, &[x])?;
        for stage in 0..3 {
            let width = self.width << stage;
            for block in 0..blocks {
                let last = stage == 2 && block + 1 == blocks;
                let prefix = if last && self.variant == Variant::Podnet {
                    "stage4.block0".to_owned()
                } else {
                    format!("stage{}.block{block}", stage + 1)
                };
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let before = x;
                let sum = net.block(&prefix, width, stride, x)?;
                match self.variant {
                    Variant::Lucir => {
                        x = if last {
                            sum
                        } else {
                            net.it.add(&format!("{prefix}.relu2"), Op::Relu, &[sum])?
                        };
                        if block + 1 == blocks {
                            net.it.tap(&format!("stage{}", stage + 1), sum);
                        }
                    }
                    Variant::Podnet => {
                        x = sum;
                        if last {
                            net.it.tap("stage3", before);
                            net.it.tap("stage4", sum);
                        } else if stage < 2 && block + 1 == blocks {
                            net.it.tap(&format!("stage{}", stage + 1), sum);
                        }
                    }
                }
            }
        }
        let pooled = net.it.add("pool", Op::GlobalAvgPool, &[x])?;
        net.it.tap(POOLED, pooled);
        net.it.build()
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variant = match self.variant {
            Variant::Lucir => "LUCIR's",
            Variant::Podnet => "PODNet's",
        };
        write!(formatter, "{variant} ResNet-{} of width {}", self.depth, self.width)
    }
}

struct Net {
    it: GraphBuilder,
    variant: Variant,
}

impl Net {
    fn convolution(
        &mut self,
        name: &str,
        out: usize,
        kernel: usize,
        stride: usize,
        x: NodeId,
    ) -> Result<NodeId> {
        let op = Op::Conv2d { out_channels: out, kernel, stride, padding: kernel / 2, bias: false };
        self.it.add_with(name, op, &[x], Init::KaimingNormalFanOut)
    }

    fn norm(&mut self, name: &str, x: NodeId, scale: f64) -> Result<NodeId> {
        self.it.add_with(name, Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x], Init::Constant(scale))
    }

    /// Two convolutions and the shortcut, up to the addition.
    fn block(&mut self, name: &str, out: usize, stride: usize, x: NodeId) -> Result<NodeId> {
        let y = self.convolution(&format!("{name}.conv1"), out, 3, stride, x)?;
        let y = self.norm(&format!("{name}.norm1"), y, 1.0)?;
        let y = self.it.add(&format!("{name}.relu1"), Op::Relu, &[y])?;
        let y = self.convolution(&format!("{name}.conv2"), out, 3, 1, y)?;
        let y =
            self.norm(&format!("{name}.norm2"), y, if self.variant == Variant::Podnet { 0.0 } else { 1.0 })?;
        let changes = stride > 1 || self.it.shape(x).channels() != out;
        let shortcut = match (changes, self.variant) {
            (false, _) => x,
            (true, Variant::Lucir) => {
                let short = self.convolution(&format!("{name}.shortcut.conv"), out, 1, stride, x)?;
                self.norm(&format!("{name}.shortcut.norm"), short, 1.0)?
            }
            (true, Variant::Podnet) => self.it.add(
                &format!("{name}.shortcut"),
                Op::SubsamplePad { stride, out_channels: out },
                &[x],
            )?,
        };
        self.it.add(&format!("{name}.add"), Op::Add, &[y, shortcut])
    }
}

#[cfg(test)]
mod tests {
    use cil_engine::ParameterKind;

    use super::*;

    const IMAGES: Shape = Shape::Map { channels: 3, height: 32, width: 32 };

    fn weights(architecture: Architecture) -> usize {
        let specs = architecture.graph(IMAGES).unwrap().parameter_specs();
        let weights = specs.iter().filter(|spec| spec.kind == ParameterKind::Weight);
        weights.map(|spec| spec.dims.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_the_published_ones() {
        // He et al. 2016: 0.46 M with parameter-free shortcuts and a linear head of 10 classes (650).
        assert_eq!(weights(Architecture::podnet(32)), 464_154 - 650);
        // LUCIR's adds two 1x1 convolutions and their batch norms.
        assert_eq!(weights(Architecture::lucir(32)), 464_154 - 650 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64);
        let norms = |it: Architecture| it.graph(IMAGES).unwrap().batch_norms().len();
        assert_eq!((norms(Architecture::lucir(32)), norms(Architecture::podnet(32))), (33, 31));
    }

    #[test]
    fn taps_are_the_stages_before_any_closing_relu() {
        let taps = |it: Architecture| -> Vec<(String, String, Shape)> {
            let graph = it.graph(IMAGES).unwrap();
            let tap = |(name, id): &(String, NodeId)| {
                (name.clone(), graph.node(*id).name.clone(), graph.node(*id).shape)
            };
            graph.taps().iter().map(tap).collect()
        };
        let map = |channels, side| Shape::Map { channels, height: side, width: side };
        let entry = |tap: &str, node: &str, shape| (tap.to_owned(), node.to_owned(), shape);
        assert_eq!(
            taps(Architecture::lucir(14)),
            [
                entry("stage1", "stage1.block1.add", map(16, 32)),
                entry("stage2", "stage2.block1.add", map(32, 16)),
                entry("stage3", "stage3.block1.add", map(64, 8)),
                entry(POOLED, "pool", Shape::Vector { width: 64 }),
            ]
        );
        let podnet = taps(Architecture::podnet(32));
        assert_eq!(podnet[2], entry("stage3", "stage3.block3.add", map(64, 8)));
        assert_eq!(podnet[3], entry("stage4", "stage4.block0.add", map(64, 8)));
        assert_eq!(taps(Architecture::podnet(8)).len(), 5);
    }

    #[test]
    fn wrong_forms_are_named() {
        let refused = |architecture: Architecture, images, part: &str| {
            let message = architecture.graph(images).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused(Architecture::lucir(18), IMAGES, "architecture.depth is 18");
        refused(Architecture { width: 0, ..Architecture::lucir(8) }, IMAGES, "architecture.width is 0");
        refused(Architecture::lucir(6_000_002), IMAGES, "architecture.depth is 6000002");
        refused(Architecture { width: 1025, ..Architecture::lucir(8) }, IMAGES, "architecture.width is 1025");
        let map = |channels, height, width| Shape::Map { channels, height, width };
        for images in [Shape::Vector { width: 3 }, map(3, 3, 32), map(3, 32, 3), map(0, 32, 32)] {
            refused(Architecture::lucir(8), images, "4x4 to");
        }
        for images in [map(usize::MAX, 32, 32), map(3, usize::MAX, 32), map(3, 32, usize::MAX)] {
            refused(Architecture::podnet(8), images, "4x4 to");
        }
    }
}
