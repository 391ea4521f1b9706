//! The contract between a network and whoever runs it.
//!
//! One learning step needs several passes alive at once (real images in train mode, synthetic ones in another norm
//! mode, generator -> frozen classifier -> generator), gradients that add, an input gradient that is returned, and
//! running statistics that change at one defined moment. So nothing is hidden in the executor: a forward pass returns
//! all it saw, a backward pass consumes a tape and adds into a [`Gradients`], and running statistics move only when
//! [`crate::Parameters::update_statistics`] is called.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::graph::Graph;
use crate::parameters::Parameters;
use crate::ranks::Ranks;

/// The statistics that batch norm normalises with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and biased variance of this batch ("train mode"). Running statistics are read by nobody and written by
    /// nobody.
    Batch,
    /// Running statistics ("eval mode").
    Running,
}

/// The values that a forward pass keeps for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: no backward pass will follow.
    Nothing,
    /// The values that backward needs.
    Tape {
        /// Whether weight gradients will be computed.
        weights: bool,
        /// Whether the gradient of the input will be computed.
        input: bool,
    },
}

/// How one forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// The statistics that batch norm normalises with.
    pub norm: Norm,
    /// Whether the moments of every batch norm's input are returned (and may receive a gradient).
    pub moments: bool,
    /// The values kept for backward.
    pub keep: Keep,
}

impl ForwardSpec {
    /// Inference: running statistics, nothing kept.
    pub const EVAL: Self = Self { norm: Norm::Running, moments: false, keep: Keep::Nothing };
    /// A training pass: batch statistics, weight gradients.
    pub const TRAIN: Self =
        Self { norm: Norm::Batch, moments: false, keep: Keep::Tape { weights: true, input: false } };
    /// A frozen network that is looked through: running statistics, moments, gradient to the input only.
    pub const PROBE: Self =
        Self { norm: Norm::Running, moments: true, keep: Keep::Tape { weights: false, input: true } };
}

/// Mean and biased variance of one batch norm's input over rows and positions.
#[derive(Clone, Debug)]
pub struct BatchMoments {
    /// The batch-norm node's name.
    pub name: String,
    /// `[channels]`.
    pub mean: Tensor,
    /// `[channels]`, biased.
    pub variance: Tensor,
}

/// Batch statistics of one batch norm, in the form that updates running statistics.
#[derive(Clone, Debug)]
pub struct NormStatistics {
    /// The batch-norm node's name.
    pub name: String,
    /// `[channels]`.
    pub mean: Tensor,
    /// `[channels]`, divided by count - 1 (by 1 if the count is 1).
    pub unbiased_variance: Tensor,
}

/// Statistics of a train-mode pass, to be applied after backward.
#[derive(Clone, Debug, Default)]
pub struct NormUpdate {
    /// One entry per batch norm, in node order.
    pub norms: Vec<NormStatistics>,
}

/// The outputs of a forward pass.
#[derive(Debug)]
pub struct Pass {
    /// Named outputs; owned and detached.
    pub taps: BTreeMap<String, Tensor>,
    /// Moments of every batch norm's input in node order; empty unless asked for.
    pub moments: Vec<BatchMoments>,
    /// For a pass with [`Norm::Batch`]: what the running statistics should move towards.
    pub statistics: Option<NormUpdate>,
    /// The values that backward needs, unless [`Keep::Nothing`].
    pub tape: Option<Tape>,
}

impl Pass {
    /// The tap of that name.
    ///
    /// # Errors
    /// If the graph has no such tap.
    pub fn tap(&self, name: &str) -> Result<&Tensor> {
        match self.taps.get(name) {
            Some(tensor) => Ok(tensor),
            None => {
                bail!("the network has no tap named {name}, only {:?}", self.taps.keys().collect::<Vec<_>>())
            }
        }
    }
}

/// The values of one forward pass for its backward pass, which consumes them.
pub struct Tape {
    version: u64,
    state: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tape").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Tape {
    /// Wraps an executor's own state, made with `parameters`.
    pub(crate) fn new<State: Any + Send>(parameters: &Parameters, state: State) -> Self {
        Self { version: parameters.version(), state: Box::new(state) }
    }

    /// The executor's state back, if the parameters are still those of the forward pass.
    pub(crate) fn open<State: Any>(self, parameters: &Parameters) -> Result<Box<State>> {
        if self.version != parameters.version() {
            bail!("the tape was made with other parameter values: run backward before the optimiser's step");
        }
        match self.state.downcast() {
            Ok(state) => Ok(state),
            Err(_) => bail!("the tape was made by another executor"),
        }
    }
}

/// Gradient of the loss to one batch norm's input moments.
#[derive(Clone, Debug)]
pub struct MomentGradient {
    /// To the mean, `[channels]`.
    pub mean: Tensor,
    /// To the biased variance, `[channels]`.
    pub variance: Tensor,
}

/// Gradients that enter a backward pass.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// By tap name; a tap that is absent receives none.
    pub taps: BTreeMap<String, Tensor>,
    /// By batch-norm name; only for a pass that returned moments.
    pub moments: BTreeMap<String, MomentGradient>,
}

/// Gradients by parameter name; contributions add.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Adds a contribution.
    ///
    /// # Errors
    /// If an earlier contribution has another shape.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        let sum = match self.tensors.remove(name) {
            Some(there) => (there + gradient)?,
            None => gradient,
        };
        self.tensors.insert(name.to_owned(), sum);
        Ok(())
    }

    /// The sum of the contributions to one parameter, if there was any.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Brings every element into the range from `-bound` to `bound`.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn limit(&mut self, bound: f64) -> Result<()> {
        for gradient in self.tensors.values_mut() {
            *gradient = gradient.clamp(-bound, bound)?;
        }
        Ok(())
    }

    /// All gradients, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

/// A pass over some rows of a batch whose other rows are at other ranks.
#[derive(Clone, Debug)]
pub struct Share {
    /// Those that have the batch.
    pub ranks: Arc<dyn Ranks>,
    /// Rows of all of them.
    pub rows: usize,
}

/// Runs one graph.
pub trait Executor: Send + Sync {
    /// The graph it runs.
    fn graph(&self) -> &Graph;

    /// Whether a step of which its passes are a part can be captured and repeated by the device alone
    /// ([`crate::captures`]).
    fn is_capturable(&self) -> bool {
        false
    }

    /// Runs the network on `input`: `[rows, ...]` of the graph's input shape. Never writes running statistics.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape, or the input does not fit.
    fn forward(&self, parameters: &Parameters, input: &Tensor, spec: ForwardSpec) -> Result<Pass>;

    /// As [`Self::forward`] of the rows that this rank has of a batch: batch norm's own statistics, the moments that
    /// are returned, and the gradients through both are those of the batch of all ranks, and the same on all of them.
    /// What else is returned, and the weight gradients of the backward pass, are of this rank's rows. All ranks make
    /// the same pass.
    ///
    /// # Errors
    /// As [`Self::forward`], or if this executor cannot share a batch.
    fn forward_share(
        &self,
        _parameters: &Parameters,
        _input: &Tensor,
        _spec: ForwardSpec,
        _share: &Share,
    ) -> Result<Pass> {
        bail!("this executor cannot share a batch with other ranks")
    }

    /// Consumes `tape` and adds the weight gradients (if kept) into `into`; gradients of one node add up, whether they
    /// come from its tap or from downstream. Returns the input's gradient if it was kept.
    ///
    /// # Errors
    /// If the parameters changed since the forward pass, a tap or batch norm does not exist, or moments were not asked
    /// for.
    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<Tensor>>;
}

/// Makes an executor for a graph: whoever starts a run chooses which.
pub type ExecutorFactory = Arc<dyn Fn(Graph) -> Result<Arc<dyn Executor>> + Send + Sync>;
