//! Residual networks, as published class-incremental methods used them.
//!
//! A network is named by family and depth, and the families keep the quirks of the code they come from, because
//! published numbers depend on them. Taps `stage1`, `stage2`, ... are maps before any closing ReLU.

use candle_core::{Result, bail};
use cil_engine::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use serde::{Deserialize, Serialize};

use crate::POOLED;

/// Layers of the deepest network that He et al. 2016 trained.
const DEEPEST: usize = 1202;
/// Side of the largest image; a bound, so that a damaged model file is refused before its sizes are multiplied.
pub(crate) const LARGEST: usize = 8192;

/// The published code that the ResNet follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// LUCIR's (Hou et al. 2019, `modified_resnet_cifar`): 1x1 convolution and batch norm where a shortcut changes
    /// shape; no ReLU after the last block, so features may be negative.
    Lucir,
    /// PODNet's (Douillard et al. 2020, `rebuffi`): no ReLU after any addition, parameter-free shortcuts, second batch
    /// norm of a block starting at zero; the last block counts as a stage of its own.
    Podnet,
    /// [`Variant::Lucir`] with a ReLU after the last block too (`resnet_cifar` of its code, what it runs iCaRL with).
    LucirRelu,
    /// He et al. 2016's for CIFAR, as ABD's code has it: parameter-free shortcuts, a ReLU after every block. The code's
    /// shortcuts put old channels in the midst of the new ones, these first: the same network with channels in another
    /// order. Classifiers trained elsewhere have this form too (akamaster/pytorch_resnet_cifar10; see
    /// [`crate::foreign`]).
    He,
    /// [`Variant::He`] without the ReLU after the last block (iCaRL's code).
    Icarl,
    /// LUCIR's for ImageNet (`modified_resnet`): 7x7 stem of stride 2 and 3x3 max-pool of stride 2, four stages of two
    /// blocks, and otherwise as [`Variant::Lucir`]. 18 layers.
    Imagenet,
    /// [`Variant::Imagenet`] with the stem of networks for small images, as it is often run on 32x32 pixels: 3x3 of
    /// stride 1, no max-pool.
    ImagenetSmall,
    /// torchvision's and timm's: [`Variant::Imagenet`] with a ReLU after every addition. 18 and 34 layers of two
    /// convolutions a block; 50, 101 and 152 of three (bottlenecks), the second of which has the block's stride.
    Torchvision,
    /// [`Variant::Torchvision`] with the stem of networks for small images: 3x3 of stride 1, no max-pool.
    TorchvisionSmall,
}

impl Variant {
    /// Whether there is a ReLU after the last block.
    fn closes_with_relu(self) -> bool {
        matches!(self, Self::LucirRelu | Self::He) || self.is_torchvision()
    }

    /// Whether it is one of those of four stages with twice as many channels each.
    fn is_imagenet(self) -> bool {
        matches!(self, Self::Imagenet | Self::ImagenetSmall) || self.is_torchvision()
    }

    fn is_torchvision(self) -> bool {
        matches!(self, Self::Torchvision | Self::TorchvisionSmall)
    }

    /// Whether the stem has stride 2 and a max-pool.
    fn has_large_stem(self) -> bool {
        matches!(self, Self::Imagenet | Self::Torchvision)
    }

    /// Whether a shortcut that changes shape has no weights.
    fn has_free_shortcuts(self) -> bool {
        matches!(self, Self::Podnet | Self::He | Self::Icarl)
    }
}

/// Channels of a bottleneck's output by those of its inner convolutions.
const EXPANSION: usize = 4;

/// A backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Architecture {
    /// The published code that the ResNet follows.
    pub variant: Variant,
    /// Layers as the literature counts them: `6 n + 2`, three stages of `n` blocks; 32 in the published runs. 18 for
    /// the two that methods were published with on ImageNet; 18, 34, 50, 101 or 152 for torchvision's.
    pub depth: usize,
    /// Channels of the first stage, within its blocks if they are bottlenecks; each later one has twice as many. 16 in
    /// the published runs, 64 on ImageNet.
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

    /// The network of that depth and variant for small images at the published width.
    pub fn small(variant: Variant, depth: usize) -> Self {
        Self { variant, ..Self::lucir(depth) }
    }

    /// LUCIR's ResNet-18 for ImageNet at the published width.
    pub fn imagenet() -> Self {
        Self { variant: Variant::Imagenet, depth: 18, width: 64 }
    }

    /// ResNet-18 with a stem for small images, at the published width.
    pub fn imagenet_small() -> Self {
        Self { variant: Variant::ImagenetSmall, depth: 18, width: 64 }
    }

    /// Width of the pooled features.
    pub fn feature_width(&self) -> usize {
        let stages = if self.variant.is_imagenet() { 8 } else { 4 };
        self.width * stages * if self.has_bottlenecks() { EXPANSION } else { 1 }
    }

    /// Whether there is a ReLU after the last block, so that pooled features are averages of values from 0 up.
    pub fn ends_in_relu(&self) -> bool {
        self.variant.closes_with_relu()
    }

    /// Whether a block is three convolutions, the outer ones 1x1.
    pub fn has_bottlenecks(&self) -> bool {
        self.variant.is_torchvision() && self.depth >= 50
    }

    /// Blocks of each stage, if the family has a network of that depth.
    pub(crate) fn blocks(&self) -> Option<Vec<usize>> {
        let of_depth: &[usize] = match (self.variant.is_imagenet(), self.depth) {
            (false, depth) => {
                let fits = (8..=DEEPEST).contains(&depth) && (depth - 2).is_multiple_of(6);
                return fits.then(|| vec![(depth - 2) / 6; 3]);
            }
            (true, 18) => &[2, 2, 2, 2],
            (true, _) if !self.variant.is_torchvision() => return None,
            (true, 34 | 50) => &[3, 4, 6, 3],
            (true, 101) => &[3, 4, 23, 3],
            (true, 152) => &[3, 8, 36, 3],
            _ => return None,
        };
        Some(of_depth.to_vec())
    }

    /// How many taps `stage1`, `stage2`, ... it has.
    pub fn stages(&self) -> usize {
        match self.variant {
            Variant::Lucir | Variant::LucirRelu | Variant::He | Variant::Icarl => 3,
            _ => 4,
        }
    }

    /// Channels of the map that is returned as `stage1`, `stage2`, ...
    pub fn stage_channels(&self, stage: usize) -> usize {
        let last = self.stages();
        let doublings = match self.variant {
            // The last block alone is its fourth stage, behind the third of the same width; at depth 8 there is no
            // other block in the third, whose map is then the second's.
            Variant::Podnet if stage == last => 2,
            Variant::Podnet if stage == 3 && self.depth == 8 => 1,
            _ => stage.clamp(1, last) - 1,
        };
        (self.width << doublings) * if self.has_bottlenecks() { EXPANSION } else { 1 }
    }

    /// Refuses what no ResNet is.
    ///
    /// # Errors
    /// Naming the field and its value.
    pub fn check(&self) -> Result<()> {
        if self.blocks().is_none() {
            let depth = self.depth;
            if self.variant.is_torchvision() {
                bail!(
                    "architecture.depth is {depth}; torchvision's ResNets have 18, 34, 50, 101 or 152 layers"
                );
            }
            if self.variant.is_imagenet() {
                bail!("architecture.depth is {depth}; the ResNet for ImageNet has 18 layers");
            }
            bail!(
                "architecture.depth is {depth}; a ResNet for small images has 8, 14, 20, 26, 32, ... {DEEPEST} layers"
            );
        }
        if self.width == 0 || self.width > 1024 {
            bail!(
                "architecture.width is {}; use a value from 1 to 1024; published runs have {}",
                self.width,
                if self.variant.is_imagenet() { 64 } else { 16 }
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
        let Some(blocks) = self.blocks() else { bail!("{self} has no such depth") };
        let stages = blocks.len();
        let mut net =
            Net { it: GraphBuilder::new(images), variant: self.variant, bottlenecks: self.has_bottlenecks() };
        let mut x = net.stem(self.width)?;
        for (stage, blocks) in blocks.into_iter().enumerate() {
            let width = self.width << stage;
            for block in 0..blocks {
                let last_of_stage = block + 1 == blocks;
                let last = stage + 1 == stages && last_of_stage;
                let prefix = if last && self.variant == Variant::Podnet {
                    "stage4.block0".to_owned()
                } else {
                    format!("stage{}.block{block}", stage + 1)
                };
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let before = x;
                let sum = net.block(&prefix, width, stride, x)?;
                let ends = last && !self.variant.closes_with_relu();
                x = if ends || self.variant == Variant::Podnet {
                    sum
                } else {
                    let number = if net.bottlenecks { 3 } else { 2 };
                    net.it.add(&format!("{prefix}.relu{number}"), Op::Relu, &[sum])?
                };
                if last && self.variant == Variant::Podnet {
                    net.it.tap("stage3", before);
                    net.it.tap("stage4", sum);
                } else if last_of_stage {
                    net.it.tap(&format!("stage{}", stage + 1), sum);
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
            Variant::LucirRelu => "LUCIR's (with a last ReLU)",
            Variant::He => "He's",
            Variant::Icarl => "iCaRL's",
            Variant::Imagenet => "the ImageNet",
            Variant::ImagenetSmall => "the small-image ImageNet",
            Variant::Torchvision => "torchvision's",
            Variant::TorchvisionSmall => "torchvision's small-image",
        };
        write!(formatter, "{variant} ResNet-{} of width {}", self.depth, self.width)
    }
}

struct Net {
    it: GraphBuilder,
    variant: Variant,
    bottlenecks: bool,
}

impl Net {
    /// From the images to the first block.
    fn stem(&mut self, width: usize) -> Result<NodeId> {
        let (kernel, stride) = if self.variant.has_large_stem() { (7, 2) } else { (3, 1) };
        let x = self.convolution("stem.conv", width, kernel, stride, self.it.input())?;
        let x = self.norm("stem.norm", x, 1.0)?;
        let x = self.it.add("stem.relu", Op::Relu, &[x])?;
        if self.variant.has_large_stem() {
            return self.it.add("stem.pool", Op::MaxPool { kernel: 3, stride: 2, padding: 1 }, &[x]);
        }
        Ok(x)
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
        let init = match self.variant {
            Variant::He | Variant::Icarl => Init::KaimingNormalFanIn,
            _ => Init::KaimingNormalFanOut,
        };
        self.it.add_with(name, op, &[x], init)
    }

    fn norm(&mut self, name: &str, x: NodeId, scale: f64) -> Result<NodeId> {
        self.it.add_with(name, Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x], Init::Constant(scale))
    }

    /// The convolutions of a block and its shortcut, up to the addition; `width` are the channels within it.
    fn block(&mut self, name: &str, width: usize, stride: usize, x: NodeId) -> Result<NodeId> {
        // Kernel and stride of each convolution, and its channels.
        let (layers, out) = match self.bottlenecks {
            true => {
                let out = EXPANSION * width;
                (vec![(1, 1, width), (3, stride, width), (1, 1, out)], out)
            }
            false => (vec![(3, stride, width), (3, 1, width)], width),
        };
        let last_scale = if self.variant == Variant::Podnet { 0.0 } else { 1.0 };
        let (mut y, count) = (x, layers.len());
        for (at, (kernel, stride, channels)) in layers.into_iter().enumerate() {
            let number = at + 1;
            y = self.convolution(&format!("{name}.conv{number}"), channels, kernel, stride, y)?;
            let scale = if number == count { last_scale } else { 1.0 };
            y = self.norm(&format!("{name}.norm{number}"), y, scale)?;
            if number < count {
                y = self.it.add(&format!("{name}.relu{number}"), Op::Relu, &[y])?;
            }
        }
        let changes = stride > 1 || self.it.shape(x).channels() != out;
        let shortcut = match (changes, self.variant.has_free_shortcuts()) {
            (false, _) => x,
            (true, false) => {
                let short = self.convolution(&format!("{name}.shortcut.conv"), out, 1, stride, x)?;
                self.norm(&format!("{name}.shortcut.norm"), short, 1.0)?
            }
            (true, true) => self.it.add(
                &format!("{name}.shortcut"),
                Op::SubsamplePad { stride, out_channels: out },
                &[x],
            )?,
        };
        self.it.add(&format!("{name}.add"), Op::Add, &[y, shortcut])
    }
}

#[cfg(test)]
mod tests;
