//! Classifier heads that grow by one block of weights a task.
//!
//! One decision: a head is a function of plain tensors ([`HeadWeights`]), so a learner hands in variables where it wants
//! gradients and constants where it does not, and a frozen network hands in constants only. Blocks are stored as
//! `head.<block>.weight`, so an old block can be left alone by leaving its name out of the optimiser's groups.

use candle_core::{D, Device, Result, Tensor, bail};
use cil_engine::{Init, ParameterKind, ParameterSpec, Parameters};
use serde::{Deserialize, Serialize};

/// Form of the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// Weights and biases.
    Linear,
    /// Cosines times one learned scale (LUCIR, Hou et al. 2019, eq. 4).
    Cosine,
}

/// What a head says about features.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// `[rows, classes]`.
    pub logits: Tensor,
    /// `[rows, classes]` cosines before the scale, for a cosine head.
    pub similarities: Option<Tensor>,
}

/// Name of the cosine head's scale.
pub const SCALE: &str = "head.scale";

/// A head's form: which kind, how wide its input, and the classes of each block in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
    /// Form of the classifier.
    pub kind: HeadKind,
    /// Width of the features.
    pub width: usize,
    /// Classes of each block.
    pub blocks: Vec<usize>,
}

/// The tensors of a head, in block order.
#[derive(Clone, Debug)]
pub struct HeadWeights {
    /// `[classes of the block, width]` each.
    pub weights: Vec<Tensor>,
    /// `[classes of the block]` each; empty for a cosine head.
    pub biases: Vec<Tensor>,
    /// `[1]`, for a cosine head.
    pub scale: Option<Tensor>,
}

impl Head {
    /// A head without classes.
    pub fn new(kind: HeadKind, width: usize) -> Self {
        Self { kind, width, blocks: Vec::new() }
    }

    /// Classes of all blocks.
    pub fn classes(&self) -> usize {
        self.blocks.iter().sum()
    }

    /// Names of one block's weight and, for a linear head, bias.
    pub fn block_names(&self, block: usize) -> Vec<String> {
        let bias = (self.kind == HeadKind::Linear).then(|| format!("head.{block}.bias"));
        [format!("head.{block}.weight")].into_iter().chain(bias).collect()
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        let scale = (self.kind == HeadKind::Cosine).then(|| SCALE.to_owned());
        (0..self.blocks.len()).flat_map(|block| self.block_names(block)).chain(scale).collect()
    }

    /// Appends a block of `classes` with its initial values: uniform within `1 / sqrt(width)`, as LUCIR's and PyTorch's.
    ///
    /// # Errors
    /// If `classes` is 0, or the device refuses the tensors.
    pub fn grow(
        &mut self,
        classes: usize,
        parameters: &mut Parameters,
        seed: u64,
        device: &Device,
    ) -> Result<()> {
        if classes == 0 {
            bail!("a head cannot grow by 0 classes");
        }
        let block = self.blocks.len();
        self.blocks.push(classes);
        let init = Init::Uniform { bound: 1.0 / (self.width as f64).sqrt() };
        for name in self.block_names(block) {
            let dims = if name.ends_with("weight") { vec![classes, self.width] } else { vec![classes] };
            let spec = ParameterSpec { name, dims, kind: ParameterKind::Weight, init };
            parameters.set(&spec.name, cil_engine::parameters::initial_value(&spec, seed, device)?);
        }
        if self.kind == HeadKind::Cosine && !parameters.contains(SCALE) {
            parameters.set(SCALE, Tensor::ones(1, candle_core::DType::F32, device)?);
        }
        Ok(())
    }

    /// The head's tensors, made by `tensor` from their names.
    ///
    /// # Errors
    /// As `tensor`.
    pub fn weights_from(&self, mut tensor: impl FnMut(&str) -> Result<Tensor>) -> Result<HeadWeights> {
        let linear = self.kind == HeadKind::Linear;
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for block in 0..self.blocks.len() {
            weights.push(tensor(&format!("head.{block}.weight"))?);
            if linear {
                biases.push(tensor(&format!("head.{block}.bias"))?);
            }
        }
        Ok(HeadWeights { weights, biases, scale: if linear { None } else { Some(tensor(SCALE)?) } })
    }

    /// The head's tensors as constants.
    ///
    /// # Errors
    /// If one is missing.
    pub fn weights(&self, parameters: &Parameters) -> Result<HeadWeights> {
        self.weights_from(|name| parameters.get(name).cloned())
    }
}

impl HeadWeights {
    /// Classifies `[rows, width]` features; differentiable in features and weights.
    ///
    /// # Errors
    /// If the head has no block, or widths differ.
    pub fn forward(&self, features: &Tensor) -> Result<HeadOutput> {
        if self.weights.is_empty() {
            bail!("the head has no classes yet");
        }
        let weight = Tensor::cat(&self.weights, 0)?;
        match &self.scale {
            Some(scale) => {
                let cosines = normalized(features)?.matmul(&normalized(&weight)?.t()?)?;
                Ok(HeadOutput { logits: cosines.broadcast_mul(scale)?, similarities: Some(cosines) })
            }
            None => {
                let bias = Tensor::cat(&self.biases, 0)?;
                Ok(HeadOutput {
                    logits: features.matmul(&weight.t()?)?.broadcast_add(&bias)?,
                    similarities: None,
                })
            }
        }
    }
}

/// Rows divided by their length; a row of zeros stays, and has a finite gradient.
///
/// # Errors
/// If the tensor has no last axis.
pub fn normalized(rows: &Tensor) -> Result<Tensor> {
    rows.broadcast_div(&(rows.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?)
}

/// The weight rows of new classes from their images' features: the direction of the mean normalised feature, with the
/// mean length of `old` weight rows (LUCIR's imprinting).
///
/// `features`: per new class `[images, width]`; `old`: `[old classes, width]`.
///
/// # Errors
/// If a class has no image, or widths differ.
pub fn imprinted(features: &[Tensor], old: &Tensor) -> Result<Tensor> {
    let length = old.sqr()?.sum(D::Minus1)?.sqrt()?.mean_all()?;
    let mut rows = Vec::with_capacity(features.len());
    for (class, features) in features.iter().enumerate() {
        if features.dim(0)? == 0 {
            bail!("new class {class} has no image to imprint its weight from");
        }
        rows.push(normalized(&normalized(features)?.mean_keepdim(0)?)?);
    }
    Tensor::cat(&rows, 0)?.broadcast_mul(&length)
}
