//! Tensor names of other programs' ResNets, and the architecture recognised from them.

use std::collections::BTreeMap;

use candle_core::{Result, bail};

use crate::head::HeadKind;
use crate::resnet::{Architecture, Variant};

/// The network that tensor names and shapes describe.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) architecture: Architecture,
    /// Channels of an image.
    pub(super) channels: usize,
    /// Rows of the classifier.
    pub(super) classes: usize,
    /// Whether the classifier has biases.
    biased: bool,
}

impl Layout {
    /// Of tensors by name and dimensions.
    ///
    /// # Errors
    /// Naming the tensor that is missing or of a shape that no such network has.
    pub(super) fn of(tensors: &BTreeMap<&str, &[usize]>) -> Result<Self> {
        let stages = (1..=4).take_while(|stage| block_count(tensors, *stage) > 0).count();
        let is_cifar = stages == 3;
        if !is_cifar && stages != 4 {
            let first = tensors.keys().next().copied().unwrap_or("none at all");
            bail!(
                "the tensors (the first is {first}) are of an unknown network; this program reads ResNet-20 to \
                 -110 of akamaster/pytorch_resnet_cifar10 (layer1 to layer3, linear) and ResNet-18 to -152 of \
                 torchvision or timm (layer1 to layer4, fc)"
            );
        }
        let dims = |name: &str| match tensors.get(name) {
            Some(dims) => Ok(*dims),
            None => bail!("tensor {name} is missing; a ResNet begins or ends with it"),
        };
        let stem = dims("conv1.weight")?;
        let &[width, channels, kernel, _] = stem else {
            bail!("tensor conv1.weight is {stem:?}; a convolution's is [out, in, kernel, kernel]");
        };
        let variant = match (is_cifar, kernel) {
            (true, 3) => Variant::He,
            (false, 7) => Variant::Torchvision,
            (false, 3) => Variant::TorchvisionSmall,
            _ => bail!("tensor conv1.weight is {stem:?}; the first kernel of a ResNet is 3x3 or 7x7"),
        };
        let blocks: Vec<usize> = (1..=stages).map(|stage| block_count(tensors, stage)).collect();
        let bottlenecks = tensors.contains_key("layer1.0.conv3.weight");
        let depths: Vec<usize> = match is_cifar {
            true => vec![6 * blocks[0] + 2],
            false if bottlenecks => vec![50, 101, 152],
            false => vec![18, 34],
        };
        let mut architectures = depths.into_iter().map(|depth| Architecture { variant, depth, width });
        let Some(architecture) = architectures.find(|it| it.blocks().as_ref() == Some(&blocks)) else {
            let kind = if bottlenecks { "bottlenecks" } else { "blocks" };
            bail!(
                "layer1 and the next have {blocks:?} {kind}; no ResNet that this program reads has so many"
            );
        };
        let name = if is_cifar { "linear" } else { "fc" };
        let head = dims(&format!("{name}.weight"))?;
        let &[classes, _] = head else {
            bail!("tensor {name}.weight is {head:?}; a classifier's is [classes, width]");
        };
        let biased = tensors.contains_key(format!("{name}.bias").as_str());
        architecture.check()?;
        Ok(Self { architecture, channels, classes, biased })
    }

    /// The classifier's form, and the names of its tensors.
    pub(super) fn head_names(&self) -> (HeadKind, &'static [&'static str]) {
        match (self.architecture.variant == Variant::He, self.biased) {
            (true, true) => (HeadKind::Linear, &["linear.weight", "linear.bias"]),
            (true, false) => (HeadKind::WithoutBias, &["linear.weight"]),
            (false, true) => (HeadKind::Linear, &["fc.weight", "fc.bias"]),
            (false, false) => (HeadKind::WithoutBias, &["fc.weight"]),
        }
    }

    /// Height and width of the images that such networks were mostly trained on.
    pub(super) fn usual_side(&self) -> usize {
        if self.architecture.variant == Variant::Torchvision { 224 } else { 32 }
    }
}

/// How many blocks the tensors of a stage name, counted without a gap.
fn block_count(tensors: &BTreeMap<&str, &[usize]>, stage: usize) -> usize {
    let is_there =
        |block: &usize| tensors.contains_key(format!("layer{stage}.{block}.conv1.weight").as_str());
    (0..).take_while(is_there).count()
}

/// Their name of a backbone's tensor: `stage2.block0.shortcut.norm.bias` is `layer2.0.downsample.1.bias`.
pub(super) fn foreign_name(own: &str) -> String {
    if let Some(stem) = own.strip_prefix("stem.") {
        return stem.replacen("conv.", "conv1.", 1).replacen("norm.", "bn1.", 1);
    }
    let name = own.replacen("stage", "layer", 1).replacen("block", "", 1);
    name.replacen("shortcut.conv.", "downsample.0.", 1)
        .replacen("shortcut.norm.", "downsample.1.", 1)
        .replacen("norm", "bn", 1)
}

/// Axes of a tensor of [`Variant::He`] that run over the channels of a stage's output, and which stage, from 0: those
/// are in another order here than in the source.
pub(super) fn reordered_axes(own: &str) -> Vec<(usize, usize)> {
    if own == "head.0.weight" {
        return vec![(1, 2)];
    }
    let Some((stage, rest)) = own.strip_prefix("stage").and_then(|rest| rest.split_once(".block")) else {
        return Vec::new();
    };
    let Some((block, layer)) = rest.split_once('.') else { return Vec::new() };
    let Ok(stage) = stage.parse::<usize>() else { return Vec::new() };
    let stage = stage.saturating_sub(1);
    match layer {
        // Between its convolutions a block has an order of its own, which is left alone.
        "conv1.weight" if block == "0" => vec![(1, stage.saturating_sub(1))],
        "conv1.weight" => vec![(1, stage)],
        _ if layer.starts_with("conv2.") || layer.starts_with("norm2.") => vec![(0, stage)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_theirs() {
        for (own, theirs) in [
            ("stem.conv.weight", "conv1.weight"),
            ("stem.norm.running_var", "bn1.running_var"),
            ("stage2.block0.shortcut.norm.bias", "layer2.0.downsample.1.bias"),
            ("stage2.block10.shortcut.conv.weight", "layer2.10.downsample.0.weight"),
            ("stage4.block2.norm3.running_mean", "layer4.2.bn3.running_mean"),
            ("stage1.block0.conv1.weight", "layer1.0.conv1.weight"),
        ] {
            assert_eq!(foreign_name(own), theirs);
        }
    }

    #[test]
    fn orders_begin_with_the_input_s_channels() {
        let order = |stage| super::super::channel_order(2, stage).unwrap();
        assert_eq!(order(0), [0, 1]);
        assert_eq!(order(1), [1, 2, 0, 3]);
        assert_eq!(order(2), [3, 4, 2, 5, 0, 1, 6, 7]);
        assert!(super::super::channel_order(3, 1).is_err());
        assert_eq!(reordered_axes("stage2.block0.conv1.weight"), [(1, 0)]);
        assert_eq!(reordered_axes("stage2.block1.conv1.weight"), [(1, 1)]);
        assert_eq!(reordered_axes("stage3.block0.norm2.running_mean"), [(0, 2)]);
        assert!(reordered_axes("stage3.block0.norm1.running_mean").is_empty());
    }
}
