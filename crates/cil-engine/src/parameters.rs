//! Named tensors of a network: weights and running statistics.
//!
//! Tensors here are values: an update replaces a tensor and never writes into one, so a clone of the store is a
//! snapshot that later training cannot reach. Every change gives the store a new version, by which a backward pass
//! refuses weights other than those of its forward pass.
//!
//! An initial value depends on (seed, name) and nothing else: adding a layer moves no other layer's weights.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_random::Draw;
use serde::{Deserialize, Serialize};

use crate::executor::NormUpdate;
use crate::graph::Graph;

/// Whether an optimiser may move a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Learned by gradient.
    Weight,
    /// A running mean or variance, moved by [`Parameters::update_statistics`] only.
    Statistic,
}

/// How a weight starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// PyTorch's default for convolutions and linear layers: uniform within `1 / sqrt(fan_in)`.
    TorchDefault,
    /// Normal with variance `2 / fan_out` (He et al. 2015), as the CIFAR ResNets of LUCIR and PODNet.
    KaimingNormalFanOut,
    /// Normal with variance `2 / fan_in`, as the CIFAR ResNets of ABD and iCaRL.
    KaimingNormalFanIn,
    /// Uniform within `bound` of zero.
    Uniform {
        /// Largest absolute value.
        bound: f64,
    },
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
    /// All values equal.
    Constant(f64),
}

/// A tensor that a graph reads.
#[derive(Clone, Debug)]
pub struct ParameterSpec {
    /// Node name plus suffix.
    pub name: String,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Weight or statistic.
    pub kind: ParameterKind,
    /// Initial value.
    pub init: Init,
}

static VERSION: AtomicU64 = AtomicU64::new(1);

fn next_version() -> u64 {
    VERSION.fetch_add(1, Ordering::Relaxed)
}

/// Named tensors in name order; see the module's text.
#[derive(Clone, Debug)]
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    version: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), version: next_version() }
    }
}

impl Parameters {
    /// Initial values of everything `graph` reads, in `f32`.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn init(graph: &Graph, seed: u64, device: &Device) -> Result<Self> {
        let mut parameters = Self::default();
        for spec in graph.parameter_specs() {
            let value = initial_value(&spec, seed, device)?;
            parameters.set(&spec.name, value);
        }
        Ok(parameters)
    }

    /// A store of the given tensors.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, version: next_version() }
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("no parameter is named {name}"),
        }
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Puts a tensor under a name, in place of the one there; detached from any autograd graph.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the tensor is given away; a caller need not write `&`"
    )]
    pub fn set(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor.detach());
        self.version = next_version();
    }

    /// Takes up other values of the very tensors that are there: a restored state in place of an initial one.
    ///
    /// # Errors
    /// Naming the tensor that is missing, too many, or of another shape or type. Nothing has changed then.
    pub fn replace(&mut self, values: &Self) -> Result<()> {
        for (name, value) in &values.tensors {
            let Some(own) = self.tensors.get(name) else { bail!("tensor {name} is too many") };
            if own.dims() != value.dims() || own.dtype() != value.dtype() {
                let (found, wanted) = (value.dims(), own.dims());
                bail!("tensor {name} is {:?} {found:?}, not {:?} {wanted:?}", value.dtype(), own.dtype());
            }
        }
        if let Some(name) = self.tensors.keys().find(|name| !values.contains(name)) {
            bail!("tensor {name} is missing");
        }
        *self = values.clone();
        Ok(())
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.version = next_version();
        self.tensors.remove(name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Every tensor, in the order of names, to be replaced by others of the same form; counts as a change.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.version = next_version();
        self.tensors.values_mut()
    }

    /// Changes with every change of a value, and differs between stores that were changed apart.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same values in another type, for checks in `f64`.
    ///
    /// # Errors
    /// If a tensor cannot be converted.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let convert = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?));
        Ok(Self::from_tensors(self.tensors.iter().map(convert).collect::<Result<_>>()?))
    }

    /// The name and the value of the first number that is NaN or infinite.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn not_finite(&self) -> Result<Option<(&str, f64)>> {
        for (name, tensor) in self.iter() {
            if let Some(value) = not_finite(tensor)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// Moves running statistics towards those of a batch: `running + momentum * (batch - running)`, PyTorch's rule,
    /// with the unbiased variance.
    ///
    /// # Errors
    /// If a statistic is missing.
    pub fn update_statistics(&mut self, update: &NormUpdate, momentum: f64) -> Result<()> {
        let mut names = Vec::new();
        let mut pairs = Vec::new();
        for norm in &update.norms {
            for (suffix, batch) in [("running_mean", &norm.mean), ("running_var", &norm.unbiased_variance)] {
                let name = format!("{}.{suffix}", norm.name);
                pairs.push((self.get(&name)?, batch));
                names.push(name);
            }
        }
        for (name, moved) in names.iter().zip(blended(&pairs, momentum)?) {
            self.set(name, moved);
        }
        Ok(())
    }
}

/// The first value of a tensor that is NaN or infinite.
///
/// # Errors
/// If the device refuses the tensor.
pub fn not_finite(tensor: &Tensor) -> Result<Option<f64>> {
    let flat = tensor.flatten_all()?;
    if tensor.dtype() == DType::F64 {
        return Ok(flat.to_vec1::<f64>()?.into_iter().find(|value| !value.is_finite()));
    }
    let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok(values.into_iter().find(|value| !value.is_finite()).map(f64::from))
}

/// `running + momentum * (batch - running)` of each pair of both.
fn blended(pairs: &[(&Tensor, &Tensor)], momentum: f64) -> Result<Vec<Tensor>> {
    #[cfg(feature = "cuda")]
    if let Some(moved) = crate::cuda::blended(pairs, momentum)? {
        return Ok(moved);
    }
    pairs.iter().map(|(running, batch)| (*running * (1.0 - momentum))? + (*batch * momentum)?).collect()
}

/// The initial value of one parameter: a function of (seed, name) and the spec.
///
/// # Errors
/// If the device refuses the tensor.
pub fn initial_value(spec: &ParameterSpec, seed: u64, device: &Device) -> Result<Tensor> {
    let count: usize = spec.dims.iter().product();
    let receptive: usize = spec.dims.iter().skip(2).product();
    let fan = |axis: usize| (spec.dims.get(axis).copied().unwrap_or(1) * receptive).max(1) as f64;
    let mut stream = Draw::new(seed, "initial value").stream(&spec.name);
    let values: Vec<f32> = match spec.init {
        Init::Constant(value) => vec![value as f32; count],
        Init::TorchDefault | Init::Uniform { .. } => {
            let bound = if let Init::Uniform { bound } = spec.init { bound } else { 1.0 / fan(1).sqrt() };
            (0..count).map(|_| stream.between(-bound, bound) as f32).collect()
        }
        Init::KaimingNormalFanOut | Init::KaimingNormalFanIn | Init::Normal { .. } => {
            let deviation = match spec.init {
                Init::Normal { deviation } => deviation,
                Init::KaimingNormalFanIn => (2.0 / fan(1)).sqrt(),
                _ => (2.0 / fan(0)).sqrt(),
            };
            (0..count).map(|_| (deviation * stream.normal()) as f32).collect()
        }
    };
    Tensor::from_vec(values, spec.dims.as_slice(), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dims: &[usize], init: Init) -> ParameterSpec {
        ParameterSpec { name: name.into(), dims: dims.to_vec(), kind: ParameterKind::Weight, init }
    }

    fn values(spec: &ParameterSpec, seed: u64) -> Vec<f32> {
        let tensor = initial_value(spec, seed, &Device::Cpu).and_then(|it| it.flatten_all());
        tensor.and_then(|it| it.to_vec1()).expect("a value on the CPU")
    }

    #[test]
    fn a_value_depends_on_seed_and_name_only() {
        let one = spec("a.weight", &[4, 3], Init::TorchDefault);
        assert_eq!(values(&one, 7), values(&one, 7));
        assert_ne!(values(&one, 7), values(&one, 8));
        assert_ne!(values(&one, 7), values(&spec("b.weight", &[4, 3], Init::TorchDefault), 7));
    }

    #[test]
    fn kaiming_has_the_variance_of_its_fan() {
        for (init, fan) in [(Init::KaimingNormalFanOut, 576.0), (Init::KaimingNormalFanIn, 288.0)] {
            let drawn = values(&spec("w", &[64, 32, 3, 3], init), 1);
            let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
            let variance = drawn.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / drawn.len() as f32;
            assert!((variance / (2.0 / fan) - 1.0).abs() < 0.05, "{init:?}: variance {variance}");
            assert!(mean.abs() < 1e-3, "{init:?}: mean {mean}");
        }
    }

    #[test]
    fn values_are_replaced_by_those_of_the_same_tensors_only() -> Result<()> {
        let store = |tensors: &[(&str, Tensor)]| {
            let named = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
            Parameters::from_tensors(named.collect())
        };
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let mut own = store(&[("a", tensor(&[1.])?), ("b", tensor(&[2., 3.])?)]);
        own.replace(&store(&[("a", tensor(&[4.])?), ("b", tensor(&[5., 6.])?)]))?;
        let version = own.version();
        let wide = tensor(&[0.])?.to_dtype(DType::F64)?;
        for (wrong, part) in [
            (store(&[("a", tensor(&[1.])?)]), "tensor b is missing"),
            (store(&[("a", tensor(&[1.])?), ("c", tensor(&[2., 3.])?)]), "tensor c is too many"),
            (store(&[("a", tensor(&[1.])?), ("b", tensor(&[2.])?)]), "tensor b is F32 [1], not F32 [2]"),
            (store(&[("a", wide), ("b", tensor(&[2., 3.])?)]), "tensor a is F64 [1], not F32 [1]"),
        ] {
            let error = own.replace(&wrong).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(own.get("b")?.to_vec1::<f32>()?, [5., 6.]);
        assert_eq!(own.version(), version);
        Ok(())
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() -> Result<()> {
        let mut store = Parameters::default();
        store.set("b", Tensor::new(&[1e300f64, -0.0], &Device::Cpu)?);
        assert_eq!(store.not_finite()?, None);
        store.set("c", Tensor::new(&[0.0, f32::NEG_INFINITY], &Device::Cpu)?);
        assert_eq!(store.not_finite()?, Some(("c", f64::NEG_INFINITY)));
        store.set("a", Tensor::new(&[[f32::NAN]], &Device::Cpu)?);
        assert!(store.not_finite()?.is_some_and(|(name, value)| name == "a" && value.is_nan()));
        Ok(())
    }

    #[test]
    fn a_clone_is_a_snapshot() -> Result<()> {
        let mut store = Parameters::default();
        store.set("w", Tensor::new(&[1f32, 2.], &Device::Cpu)?);
        let snapshot = store.clone();
        assert_eq!(store.version(), snapshot.version());
        store.set("w", Tensor::new(&[3f32, 4.], &Device::Cpu)?);
        assert_eq!(snapshot.get("w")?.to_vec1::<f32>()?, [1., 2.]);
        assert_ne!(store.version(), snapshot.version());
        Ok(())
    }
}
