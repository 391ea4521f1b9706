//! Generator networks: noise, and perhaps a label, to images.
//!
//! The closing batch norm has no scale and shift, so images come out in the normalised space that the classifier takes
//! (zero mean, unit variance per colour), and no dataset's mean or deviation is needed here. This module only describes
//! networks; an executor runs them.

use candle_core::{Result, bail};
use cil_engine::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use serde::{Deserialize, Serialize};

/// Name of the tap that returns the images.
pub const IMAGES: &str = "images";

/// Most numbers of a vector and most maps, 512 in the published networks: memory grows with the square.
const WIDEST: usize = 4096;

/// Which published network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeneratorKind {
    /// DAFL's, also ABD's and R-DFCIL's: starts at 8x8, for 32x32 images two upsamplings. Its inner batch norms add 0.8
    /// to the variance, as the released code does (where the number was meant as a momentum).
    Dafl,
    /// DFQ's (Choi et al. 2020) as re-implemented: starts at 4x4 with four times the channels, for 32x32 three
    /// upsamplings, ReLU.
    Dfq,
    /// ABD's and R-DFCIL's for ImageNet: starts at 7x7, for 224x224 five upsamplings, 64 channels throughout, and
    /// otherwise as [`Self::Dafl`].
    Imagenet,
}

/// A generator's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Which network.
    pub kind: GeneratorKind,
    /// Width of the noise.
    pub latent: usize,
    /// Whether a label is asked for. The input is then noise and one-hot label side by side.
    pub conditional: bool,
    /// Width of the label's embedding; read only if `conditional`.
    #[serde(rename = "label-width", alias = "label_width")]
    pub label_width: usize,
    /// Channels of the widest map: 128 in DAFL's, 512 in DFQ's. A multiple of 2 or 8; all other widths follow.
    pub channels: usize,
}

impl GeneratorConfig {
    /// DAFL's network without labels at `latent` 256: the form that did not collapse in our sketch.
    pub fn dafl() -> Self {
        Self { kind: GeneratorKind::Dafl, latent: 256, conditional: false, label_width: 50, channels: 128 }
    }

    /// DFQ's network, noise of width 512, conditioned on a label embedding of width 50.
    pub fn dfq_conditional() -> Self {
        Self { kind: GeneratorKind::Dfq, latent: 512, conditional: true, label_width: 50, channels: 512 }
    }

    /// The network for images of 224 pixels, noise of width 1000, without labels.
    pub fn imagenet() -> Self {
        Self {
            kind: GeneratorKind::Imagenet,
            latent: 1000,
            conditional: false,
            label_width: 50,
            channels: 64,
        }
    }

    /// Width of the network's input vector for a teacher of `classes` classes.
    pub fn input_width(&self, classes: usize) -> usize {
        self.latent + if self.conditional { classes } else { 0 }
    }

    /// Refuses widths that no network can have.
    ///
    /// # Errors
    /// Naming the field and its value.
    pub fn check(&self) -> Result<()> {
        let widths =
            [("latent", self.latent), ("label-width", self.label_width), ("channels", self.channels)];
        if let Some((key, width)) = widths.iter().find(|(_, width)| *width > WIDEST) {
            bail!("generator.{key} is {width}; use at most {WIDEST}");
        }
        if self.latent == 0 {
            bail!("generator.latent is 0");
        }
        if self.conditional && self.label_width == 0 {
            bail!("generator.label-width is 0 in a conditional generator");
        }
        let divisor = self.kind.form().divisor;
        if self.channels == 0 || !self.channels.is_multiple_of(divisor) {
            bail!("generator.channels is {}, {:?} needs a multiple of {divisor}", self.channels, self.kind);
        }
        Ok(())
    }
}

/// The differences between the published networks.
struct Form {
    /// Side of the first map at full image size.
    start: usize,
    /// Least number of upsamplings.
    stages: usize,
    /// The divisors of the widest map's channels after each of the last stages.
    divisors: &'static [usize],
    /// The largest of them.
    divisor: usize,
    /// Added to the variance by inner batch norms.
    epsilon: f64,
    /// Whether the first map is normalised.
    first_norm: bool,
    activation: Op,
}

impl GeneratorKind {
    fn form(self) -> Form {
        match self {
            Self::Dafl => Form {
                start: 8,
                stages: 2,
                divisors: &[1, 2],
                divisor: 2,
                epsilon: 0.8,
                first_norm: true,
                activation: Op::LeakyRelu { slope: 0.2 },
            },
            Self::Imagenet => Form {
                start: 7,
                stages: 5,
                divisors: &[1, 1, 1, 1, 1],
                divisor: 1,
                epsilon: 0.8,
                first_norm: true,
                activation: Op::LeakyRelu { slope: 0.2 },
            },
            Self::Dfq => Form {
                start: 4,
                stages: 3,
                divisors: &[2, 4, 8],
                divisor: 8,
                epsilon: 1e-5,
                first_norm: false,
                activation: Op::Relu,
            },
        }
    }
}

/// The network that makes images of `images` shape for a teacher of `classes` classes, with the tap [`IMAGES`].
///
/// Images larger than 32 get further upsamplings at the widest width, in front; smaller ones start from a smaller map.
///
/// # Errors
/// If the config does not pass its check, or the image's sides are unequal or not a multiple of `2^stages`.
pub fn generator(config: &GeneratorConfig, classes: usize, images: Shape) -> Result<Graph> {
    config.check()?;
    let Shape::Map { channels: colours, height: side, width } = images else {
        bail!("a generator makes images, not {images:?}");
    };
    if side != width {
        bail!("a generator makes square images, not {side}x{width}");
    }
    if config.conditional && classes == 0 {
        bail!("a conditional generator needs at least one class");
    }
    let form = config.kind.form();
    let mut stages = form.stages;
    while side > form.start << stages {
        stages += 1;
    }
    let start = side >> stages;
    if start == 0 || start << stages != side {
        bail!("{:?} cannot make images of side {side}: not a multiple of {}", config.kind, 1 << stages);
    }
    let mut it = GraphBuilder::new(Shape::Vector { width: config.input_width(classes) });
    let code = code(&mut it, config, classes)?;
    let out_features = config.channels * start * start;
    let flat = it.add("start.linear", Op::Linear { out_features, bias: true }, &[code])?;
    let mut x =
        it.reshape("start.map", flat, Shape::Map { channels: config.channels, height: start, width: start })?;
    if form.first_norm {
        x = it.add("start.norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])?;
    }
    for stage in 0..stages {
        let divisor = (stage + form.stages).checked_sub(stages).map_or(1, |at| form.divisors[at]);
        x = it.add(&format!("stage{stage}.up"), Op::UpsampleNearest { factor: 2 }, &[x])?;
        x = it.add(&format!("stage{stage}.conv"), convolution(config.channels / divisor), &[x])?;
        let norm = Op::BatchNorm { affine: true, epsilon: form.epsilon };
        x = it.add(&format!("stage{stage}.norm"), norm, &[x])?;
        x = it.add(&format!("stage{stage}.activation"), form.activation.clone(), &[x])?;
    }
    x = it.add("end.conv", convolution(colours), &[x])?;
    x = it.add("end.tanh", Op::Tanh, &[x])?;
    x = it.add("end.norm", Op::BatchNorm { affine: false, epsilon: 1e-5 }, &[x])?;
    it.tap(IMAGES, x);
    it.build()
}

/// The noise, joined by the label's embedding if there is one.
fn code(it: &mut GraphBuilder, config: &GeneratorConfig, classes: usize) -> Result<NodeId> {
    let input = it.input();
    if !config.conditional {
        return Ok(input);
    }
    let noise = it.add("noise", Op::Narrow { start: 0, length: config.latent }, &[input])?;
    let label = it.add("label", Op::Narrow { start: config.latent, length: classes }, &[input])?;
    // Unit variance, as PyTorch's embedding starts; a default that shrinks with the classes would drown in the noise.
    let init = Init::Uniform { bound: 3f64.sqrt() };
    let embedding = Op::Linear { out_features: config.label_width, bias: false };
    let embedded = it.add_with("embedding", embedding, &[label], init)?;
    it.add("code", Op::Concat, &[noise, embedded])
}

fn convolution(out_channels: usize) -> Op {
    Op::Conv2d { out_channels, kernel: 3, stride: 1, padding: 1, bias: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(side: usize) -> Shape {
        Shape::Map { channels: 3, height: side, width: side }
    }

    /// Names and shapes of the maps behind `start.map` and the convolutions.
    fn maps(config: &GeneratorConfig, side: usize) -> Vec<(usize, usize)> {
        let graph = generator(config, 10, image(side)).unwrap();
        assert_eq!(graph.tap_shape(IMAGES), Some(image(side)));
        assert_eq!(graph.input_shape(), Shape::Vector { width: config.input_width(10) });
        let wanted = graph.nodes().iter().filter(|it| it.name == "start.map" || it.name.ends_with(".conv"));
        let sizes = wanted.map(|it| match it.shape {
            Shape::Map { channels, height, .. } => (channels, height),
            Shape::Vector { .. } => panic!("{} is a vector", it.name),
        });
        sizes.collect()
    }

    #[test]
    fn maps_are_the_published_ones() {
        let dafl = GeneratorConfig::dafl();
        assert_eq!(maps(&dafl, 32), [(128, 8), (128, 16), (64, 32), (3, 32)]);
        assert_eq!(maps(&dafl, 64), [(128, 8), (128, 16), (128, 32), (64, 64), (3, 64)]);
        let dfq = GeneratorConfig::dfq_conditional();
        assert_eq!(maps(&dfq, 32), [(512, 4), (256, 8), (128, 16), (64, 32), (3, 32)]);
        assert_eq!(maps(&dfq, 64), [(512, 4), (512, 8), (256, 16), (128, 32), (64, 64), (3, 64)]);
        let wide = [(64, 7), (64, 14), (64, 28), (64, 56), (64, 112), (64, 224), (3, 224)];
        assert_eq!(maps(&GeneratorConfig::imagenet(), 224), wide);
        let narrow = [(64, 2), (64, 4), (64, 8), (64, 16), (64, 32), (64, 64), (3, 64)];
        assert_eq!(maps(&GeneratorConfig::imagenet(), 64), narrow);
        let dafl_wide = [(128, 7), (128, 14), (128, 28), (128, 56), (128, 112), (64, 224), (3, 224)];
        assert_eq!(maps(&dafl, 224), dafl_wide);
        assert_eq!(maps(&GeneratorConfig { channels: 8, ..dafl }, 8), [(8, 2), (8, 4), (4, 8), (3, 8)]);
    }

    #[test]
    fn parameters_are_the_published_ones() {
        let count = |config: &GeneratorConfig| -> usize {
            let specs = generator(config, 10, image(32)).unwrap().parameter_specs();
            let weights = specs.iter().filter(|it| it.kind == cil_engine::ParameterKind::Weight);
            weights.map(|it| it.dims.iter().product::<usize>()).sum()
        };
        let dafl = GeneratorConfig { latent: 1000, ..GeneratorConfig::dafl() };
        let (linear, norms) = (1000 * 8192 + 8192, 2 * (128 + 128 + 64));
        let convolutions = (128 * 128 * 9 + 128) + (128 * 64 * 9 + 64) + (64 * 3 * 9 + 3);
        assert_eq!(count(&dafl), linear + norms + convolutions);
        let conditional = GeneratorConfig { conditional: true, ..dafl };
        assert_eq!(count(&conditional), linear + norms + convolutions + 10 * 50 + 50 * 8192);
    }

    #[test]
    fn wrong_forms_are_named() {
        let refused = |config: GeneratorConfig, shape: Shape, part: &str| {
            let message = generator(&config, 10, shape).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        let dafl = GeneratorConfig::dafl;
        refused(GeneratorConfig { latent: 0, ..dafl() }, image(32), "generator.latent is 0");
        refused(GeneratorConfig { channels: 3, ..dafl() }, image(32), "a multiple of 2");
        refused(GeneratorConfig { channels: 12, ..GeneratorConfig::dfq_conditional() }, image(32), "12");
        refused(dafl(), image(30), "side 30");
        refused(dafl(), Shape::Vector { width: 3 }, "images");
        refused(dafl(), Shape::Map { channels: 3, height: 32, width: 16 }, "32x16");
    }
}
