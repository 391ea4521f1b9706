//! Classifier heads that grow by one block of weights a task.
//!
//! A head is a function of plain tensors ([`HeadWeights`]), so a learner passes variables where it wants gradients and
//! constants elsewhere, and a frozen network passes constants only. Blocks are stored as `head.<block>.weight`, so an
//! old block can be left alone by leaving its name out of the optimiser's groups.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use cil_engine::parameters::initial_value;
use cil_engine::{Init, ParameterKind, ParameterSpec, Parameters};
use serde::{Deserialize, Serialize};

use crate::cells::StageCells;

mod imprint;

pub use imprint::{at_mean_length, imprinted};

/// Form of the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum HeadKind {
    /// Weights and biases.
    Linear,
    /// Cosines times one learned scale (LUCIR, Hou et al. 2019, eq. 4).
    Cosine,
    /// Several weights a class, its proxies; a class's score is that of its proxies, each counting by their softmax,
    /// and one learned scale is common to all (PODNet's local similarity classifier, Douillard et al. 2020, eq. 4).
    MultiProxy {
        /// Proxies of each class; 10 in PODNet.
        proxies: usize,
    },
    /// Weights alone (WA and R-DFCIL).
    WithoutBias,
    /// Weights and biases of features brought to length 1 (a discriminant of directions).
    LinearOfDirections,
    /// Half the squared distance of features brought to length 1 to each class's mean, in the class's own metric, with
    /// a minus sign: `-|W x + b|^2 / 2`, where a class has `width` rows of `W` and as many biases (FeCAM with a
    /// covariance of each class, Goswami et al. 2023).
    Mahalanobis,
}

impl HeadKind {
    /// Weights of each class: its proxies. One with a matrix of its own has that.
    pub fn proxies(self) -> usize {
        match self {
            Self::Linear
            | Self::LinearOfDirections
            | Self::WithoutBias
            | Self::Cosine
            | Self::Mahalanobis => 1,
            Self::MultiProxy { proxies } => proxies,
        }
    }

    /// Whether classes have biases.
    pub fn is_biased(self) -> bool {
        matches!(self, Self::Linear | Self::LinearOfDirections | Self::Mahalanobis)
    }

    /// Whether scores are cosines, times a scale.
    pub fn is_scaled(self) -> bool {
        matches!(self, Self::Cosine | Self::MultiProxy { .. })
    }
}

/// The outputs of a head.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// `[rows, classes]`.
    pub logits: Tensor,
    /// `[rows, classes]` before the scale, for a head that has one: cosines, or scores of classes from -4 to 0.
    pub similarities: Option<Tensor>,
    /// `[1]`, the learned scale, for a head that has one.
    pub scale: Option<Tensor>,
}

/// Name of the scale of a head that has one.
pub const SCALE: &str = "head.scale";
/// Name of the projection of a head of random features.
pub const PROJECTION: &str = "head.projection";
/// Name of the exponent of a head that takes powers of its features.
pub const POWER: &str = "head.power";

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
    /// The stages that it reads, and their cells; if empty, it reads the pooled features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageCells>,
    /// How many random features stand between what it reads and its weights: ReLU of a projection that nobody trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<usize>,
    /// Whether features, which are then not below 0, are raised to a power before they are brought to length 1 (Tukey's
    /// transform).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub powered: bool,
}

/// The tensors of a head, in block order.
#[derive(Clone, Debug)]
pub struct HeadWeights {
    /// Form of the classifier.
    pub kind: HeadKind,
    /// `[classes of the block, width]` each; `[classes of the block * proxies, width]` for a head of several proxies,
    /// and `[classes of the block * width, width]` for one of Mahalanobis distances, those of a class following each
    /// other.
    pub weights: Vec<Tensor>,
    /// `[classes of the block]` each, for a head with biases, times `width` for one of Mahalanobis distances; empty for
    /// others.
    pub biases: Vec<Tensor>,
    /// `[1]`, for a head of cosines.
    pub scale: Option<Tensor>,
    /// `[random features, width]`, for a head of random features.
    pub projection: Option<Tensor>,
    /// `[1]`, the exponent of a head that takes powers of its features.
    pub power: Option<Tensor>,
}

impl Head {
    /// A head without classes.
    pub fn new(kind: HeadKind, width: usize) -> Self {
        Self { kind, width, blocks: Vec::new(), stages: Vec::new(), random: None, powered: false }
    }

    /// Classes of all blocks.
    pub fn classes(&self) -> usize {
        self.blocks.iter().sum()
    }

    /// Refuses what no head is.
    ///
    /// # Errors
    /// Naming the field and its value.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            bail!("head.width is 0; a head takes features of at least 1");
        }
        if self.random == Some(0) {
            bail!("head.random is 0; a head of random features has at least one");
        }
        if self.random.is_some() && !matches!(self.kind, HeadKind::Linear | HeadKind::LinearOfDirections) {
            bail!("head.kind is {:?} and head.random is set; a head of random features is linear", self.kind);
        }
        let of_directions = matches!(self.kind, HeadKind::LinearOfDirections | HeadKind::Mahalanobis);
        if !self.stages.is_empty() && self.kind != HeadKind::Linear && !of_directions {
            bail!(
                "head.kind is {:?} and head.stages is set; a head of several stages is linear or of distances",
                self.kind
            );
        }
        if self.powered && (!of_directions || self.random.is_some()) {
            bail!(
                "head.powered is true and head.kind is {:?}; powers are taken before features are brought to length 1, \
                 without random ones",
                self.kind
            );
        }
        if let Some(block) = self.blocks.iter().position(|classes| *classes == 0) {
            bail!("head.blocks[{block}] is 0; a block has at least one class");
        }
        let rows = self.rows_of_class();
        if rows == 0 {
            bail!("head.kind.multi-proxy.proxies is 0; a class has at least one");
        }
        let add = |sum: usize, classes: &usize| sum.checked_add(classes.checked_mul(rows)?);
        match self.blocks.iter().try_fold(0, add) {
            Some(_) => Ok(()),
            None => bail!("head.blocks has more classes than can be counted"),
        }
    }

    /// Weight rows of each class.
    pub fn rows_of_class(&self) -> usize {
        if self.kind == HeadKind::Mahalanobis { self.width } else { self.kind.proxies() }
    }

    /// Names of one block's weight and, for a head with biases, bias.
    pub fn block_names(&self, block: usize) -> Vec<String> {
        self.block_specs(block, 0).into_iter().map(|spec| spec.name).collect()
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.specs().into_iter().map(|spec| spec.name).collect()
    }

    /// All tensors: blocks in order, then the scale of a head that has one and a block.
    ///
    /// Initial values are LUCIR's and PyTorch's: uniform within `1 / sqrt(width)`, and a scale of 1; those of proxies
    /// are PODNet's: normal with variance `1 / width`.
    pub fn specs(&self) -> Vec<ParameterSpec> {
        let blocks = self.blocks.iter().enumerate();
        let mut specs: Vec<_> = blocks.flat_map(|(at, classes)| self.block_specs(at, *classes)).collect();
        if self.kind.is_scaled() && !specs.is_empty() {
            specs.push(weight(SCALE.to_owned(), vec![1], Init::Constant(1.0)));
        }
        specs.extend(self.projection_spec().filter(|_| !self.blocks.is_empty()));
        if self.powered && !self.blocks.is_empty() {
            specs.push(weight(POWER.to_owned(), vec![1], Init::Constant(1.0)));
        }
        specs
    }

    /// The projection of a head of random features; its initial value is the one that it keeps, PyTorch's of a linear
    /// layer.
    pub fn projection_spec(&self) -> Option<ParameterSpec> {
        let bound = 1.0 / (self.width as f64).sqrt();
        let dims = vec![self.random?, self.width];
        Some(weight(PROJECTION.to_owned(), dims, Init::Uniform { bound }))
    }

    fn block_specs(&self, block: usize, classes: usize) -> Vec<ParameterSpec> {
        let width = self.random.unwrap_or(self.width);
        let size = 1.0 / (width as f64).sqrt();
        let init = match self.kind {
            HeadKind::MultiProxy { .. } => Init::Normal { deviation: size },
            _ => Init::Uniform { bound: size },
        };
        let rows = classes * self.rows_of_class();
        let mut specs = vec![weight(format!("head.{block}.weight"), vec![rows, width], init)];
        if self.kind.is_biased() {
            specs.push(weight(format!("head.{block}.bias"), vec![rows], init));
        }
        specs
    }

    /// Appends a block of `classes` with its initial values, in the type of the values that are there; those stay.
    ///
    /// # Errors
    /// If `classes` is 0, or the device refuses the tensors; then nothing has changed.
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
        let dtype = parameters.iter().next().map_or(DType::F32, |(_, tensor)| tensor.dtype());
        let block = self.blocks.len();
        let mut grown = self.clone();
        grown.blocks.push(classes);
        let newest = grown.block_names(block);
        // One scale serves all blocks: it comes with the first.
        let fresh = |name: &String| newest.contains(name) || !parameters.contains(name);
        let mut values = Vec::new();
        for spec in grown.specs().into_iter().filter(|spec| fresh(&spec.name)) {
            values.push((spec.name.clone(), initial_value(&spec, seed, device)?.to_dtype(dtype)?));
        }
        values.into_iter().for_each(|(name, value)| parameters.set(&name, value));
        *self = grown;
        Ok(())
    }

    /// The head's tensors, made by `tensor` from their names.
    ///
    /// # Errors
    /// As `tensor`.
    pub fn weights_from(&self, mut tensor: impl FnMut(&str) -> Result<Tensor>) -> Result<HeadWeights> {
        let biased = self.kind.is_biased();
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for block in 0..self.blocks.len() {
            weights.push(tensor(&format!("head.{block}.weight"))?);
            if biased {
                biases.push(tensor(&format!("head.{block}.bias"))?);
            }
        }
        let scaled = self.kind.is_scaled() && !weights.is_empty();
        let scale = if scaled { Some(tensor(SCALE)?) } else { None };
        let random = self.random.is_some() && !weights.is_empty();
        let projection = if random { Some(tensor(PROJECTION)?) } else { None };
        let powered = self.powered && !weights.is_empty();
        let power = if powered { Some(tensor(POWER)?) } else { None };
        Ok(HeadWeights { kind: self.kind, weights, biases, scale, projection, power })
    }

    /// The head's tensors as constants.
    ///
    /// # Errors
    /// If one is missing.
    pub fn weights(&self, parameters: &Parameters) -> Result<HeadWeights> {
        self.weights_from(|name| parameters.get(name).cloned())
    }
}

fn weight(name: String, dims: Vec<usize>, init: Init) -> ParameterSpec {
    ParameterSpec { name, dims, kind: ParameterKind::Weight, init }
}

impl HeadWeights {
    /// Classifies `[rows, width]` features; differentiable in features and weights.
    ///
    /// # Errors
    /// If the head has no block, one with biases not one per block, another one no scale, or the features another
    /// width.
    pub fn forward(&self, features: &Tensor) -> Result<HeadOutput> {
        if self.weights.is_empty() {
            bail!("the head has no classes yet");
        }
        let weight = Tensor::cat(&self.weights, 0)?;
        let (_, width) = self.projection.as_ref().unwrap_or(&weight).dims2()?;
        if features.rank() != 2 || features.dim(1)? != width {
            bail!("the head takes features of [rows, {width}], not {:?}", features.dims());
        }
        let cosines = || normalized(features)?.matmul(&normalized(&weight)?.t()?);
        let similarities = match self.kind {
            HeadKind::Linear | HeadKind::WithoutBias => {
                return self.linear(&self.expanded(features)?, &weight);
            }
            HeadKind::LinearOfDirections => {
                return self.linear(&self.expanded(&self.directions(features)?)?, &weight);
            }
            HeadKind::Mahalanobis => {
                let HeadOutput { logits: apart, .. } = self.linear(&self.directions(features)?, &weight)?;
                let (rows, all) = apart.dims2()?;
                let squares = apart.sqr()?.reshape((rows, all / width, width))?.sum(D::Minus1)?;
                return Ok(HeadOutput { logits: (squares * -0.5)?, similarities: None, scale: None });
            }
            HeadKind::Cosine => cosines()?,
            HeadKind::MultiProxy { proxies } => of_classes(&cosines()?, proxies)?,
        };
        let Some(scale) = &self.scale else { bail!("a head of cosines has no scale") };
        Ok(HeadOutput {
            logits: similarities.broadcast_mul(scale)?,
            similarities: Some(similarities),
            scale: Some(scale.clone()),
        })
    }

    /// Features of length 1, after Tukey's transform where there is one.
    fn directions(&self, features: &Tensor) -> Result<Tensor> {
        match &self.power {
            // The power of 0 is exp(-inf), which is 0.
            Some(power) => normalized(&features.log()?.broadcast_mul(power)?.exp()?),
            None => normalized(features),
        }
    }

    fn expanded(&self, features: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => random_features(features, projection),
            None => Ok(features.clone()),
        }
    }

    fn linear(&self, features: &Tensor, weight: &Tensor) -> Result<HeadOutput> {
        let mut logits = features.matmul(&weight.t()?)?;
        if self.kind.is_biased() {
            if self.biases.len() != self.weights.len() {
                bail!("a linear head of {} blocks has {} biases", self.weights.len(), self.biases.len());
            }
            logits = logits.broadcast_add(&Tensor::cat(&self.biases, 0)?)?;
        }
        Ok(HeadOutput { logits, similarities: None, scale: None })
    }
}

/// `[rows, classes]` scores from `[rows, classes * proxies]` cosines: of a class's proxies, minus the squared distances
/// between directions, `2 cos - 2`, each weighted by their softmax. The released code of PODNet at c09fc54
/// (`neg_stable_cosine_distance`, gamma 1); its paper weights the cosines themselves.
fn of_classes(cosines: &Tensor, proxies: usize) -> Result<Tensor> {
    let (rows, all) = cosines.dims2()?;
    let scores = cosines.affine(2.0, -2.0)?.reshape((rows, all / proxies, proxies))?;
    // From -4 to 0: nothing that overflows.
    let weights = scores.exp()?;
    (&weights * &scores)?.sum(D::Minus1)? / weights.sum(D::Minus1)?
}

/// `[rows, random features]`: ReLU of `[rows, width]` features projected by `[random features, width]`.
///
/// # Errors
/// If widths differ.
pub fn random_features(features: &Tensor, projection: &Tensor) -> Result<Tensor> {
    features.matmul(&projection.t()?)?.relu()
}

/// Added to a row's squared length, so that a row of zeros has one.
const SQUARED_LENGTH_FLOOR: f64 = 1e-24;

/// Rows divided by their length; a row of zeros stays, and has a finite gradient.
///
/// # Errors
/// If the tensor has no last axis.
pub fn normalized(rows: &Tensor) -> Result<Tensor> {
    match cil_engine::rows::unit_rows(rows, SQUARED_LENGTH_FLOOR)? {
        Some(unit) => Ok(unit),
        None => rows.broadcast_div(&(rows.sqr()?.sum_keepdim(D::Minus1)? + SQUARED_LENGTH_FLOOR)?.sqrt()?),
    }
}
