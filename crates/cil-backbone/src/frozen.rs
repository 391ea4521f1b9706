//! Networks that cannot learn.
//!
//! A frozen network holds copies of values and no variable, so nothing that happens to the original reaches it. Tensors
//! that it returns are detached; it yields gradients of its inputs only: of images ([`Frozen::probe_backward`]) and of
//! features that are classified ([`Frozen::head`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};
use cil_engine::{
    BatchMoments, Executor, ExecutorFactory, ForwardSpec, Gradients, MomentGradient, Parameters, Shape, Tape,
    Upstream,
};

use crate::POOLED;
use crate::cells::{self, StageCells};
use crate::head::{Head, HeadOutput, HeadWeights};
use crate::network::{self, Outputs, Snapshot};

/// A teacher, or a model to be evaluated; cheap to clone.
#[derive(Clone)]
pub struct Frozen {
    inner: Arc<Inner>,
}

struct Inner {
    snapshot: Snapshot,
    head: HeadWeights,
    executor: Arc<dyn Executor>,
    executors: ExecutorFactory,
    /// Taps of the maps that views hold.
    maps: Vec<String>,
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Frozen({}, {} classes)", self.inner.snapshot.backbone, self.classes())
    }
}

/// The result of a frozen network on images: features, moments, and the tape for the gradient to the images.
#[derive(Debug)]
pub struct Probe {
    /// `[rows, width]`, the pooled features.
    pub features: Tensor,
    /// The maps that [`Frozen::with_maps`] named, `[rows, channels, height, width]` each, by tap.
    pub maps: BTreeMap<String, Tensor>,
    /// Mean and variance of every batch norm's input, in node order.
    pub moments: Vec<BatchMoments>,
    tape: Tape,
}

/// Running statistics of one batch norm.
#[derive(Clone, Debug)]
pub struct Running {
    /// The batch norm's name.
    pub name: String,
    /// `[channels]`.
    pub mean: Tensor,
    /// `[channels]`.
    pub variance: Tensor,
}

impl Frozen {
    /// Freezes a snapshot.
    ///
    /// # Errors
    /// If the snapshot's values are not those of its form.
    pub(crate) fn new(
        mut snapshot: Snapshot,
        executor: Arc<dyn Executor>,
        executors: ExecutorFactory,
    ) -> Result<Self> {
        snapshot.check()?;
        // Detached is not enough: a tensor shares its memory with the variable it came from, and a variable is set in
        // place.
        let copy =
            |(name, tensor): (&str, &Tensor)| Ok((name.to_owned(), tensor.force_contiguous()?.detach()));
        snapshot.parameters =
            Parameters::from_tensors(snapshot.parameters.iter().map(copy).collect::<Result<_>>()?);
        let head = snapshot.head.weights(&snapshot.parameters)?;
        Ok(Self { inner: Arc::new(Inner { snapshot, head, executor, executors, maps: Vec::new() }) })
    }

    /// The same network with views that hold the maps of these taps as well, such as `stage1`. The values are shared.
    ///
    /// # Errors
    /// If the backbone has no tap of such a name.
    pub fn with_maps(&self, maps: &[String]) -> Result<Self> {
        let Inner { snapshot, head, executors, .. } = &*self.inner;
        let inner = Inner {
            executor: network::executor(snapshot, maps, executors)?,
            snapshot: snapshot.clone(),
            head: head.clone(),
            executors: Arc::clone(executors),
            maps: maps.to_vec(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same backbone with another head, of these tensors by name. The backbone's values are shared; views hold no
    /// map.
    ///
    /// # Errors
    /// If the tensors are not those of the head's form.
    pub fn with_head(&self, head: Head, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let Inner { snapshot, executor, executors, maps, .. } = &*self.inner;
        let own = snapshot.head.names();
        let backbone = snapshot.parameters.iter().filter(|(name, _)| !own.iter().any(|it| it == name));
        let mut values: BTreeMap<_, _> =
            backbone.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        values.extend(tensors);
        let parameters = Parameters::from_tensors(values);
        let same_taps = maps.is_empty() && snapshot.head.stages == head.stages;
        let snapshot = Snapshot { head, parameters, ..snapshot.clone() };
        snapshot.check()?;
        let executor = match same_taps {
            true => Arc::clone(executor),
            false => network::executor(&snapshot, &[], executors)?,
        };
        Self::new(snapshot, executor, Arc::clone(executors))
    }

    /// Form and values.
    pub fn snapshot(&self) -> &Snapshot {
        &self.inner.snapshot
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.inner.snapshot.head.classes()
    }

    /// Shape of one image.
    pub fn image_shape(&self) -> Shape {
        self.inner.snapshot.images
    }

    /// Type of its values: `f32`, but for checks in `f64`.
    pub fn dtype(&self) -> DType {
        let mut tensors = self.inner.snapshot.parameters.iter();
        tensors.next().map_or(DType::F32, |(_, tensor)| tensor.dtype())
    }

    /// Width of the pooled features, whatever the head reads.
    pub fn feature_width(&self) -> usize {
        self.inner.snapshot.backbone.feature_width()
    }

    /// Looks at `[rows, channels, height, width]` images with running statistics.
    ///
    /// # Errors
    /// If the images have another shape, or the network has no classes.
    pub fn forward(&self, images: &Tensor) -> Result<Outputs> {
        let mut pass =
            self.inner.executor.forward(&self.inner.snapshot.parameters, images, ForwardSpec::EVAL)?;
        let features = pass.tap(POOLED)?.clone();
        let HeadOutput { logits, similarities, scale } = match self.stages() {
            [] => self.inner.head.forward(&features)?,
            stages => self.inner.head.forward(&cells::features(&pass.taps, stages)?)?,
        };
        pass.taps.retain(|name, _| self.inner.maps.contains(name));
        Ok(Outputs { features, logits, similarities, scale, maps: pass.taps })
    }

    /// The stages that the head reads, and their cells; empty where it reads the pooled features.
    pub fn stages(&self) -> &[StageCells] {
        &self.inner.snapshot.head.stages
    }

    /// Classifies pooled features; differentiable in them.
    ///
    /// # Errors
    /// If the features have another width, the network has no classes, or its head reads maps of stages instead.
    pub fn head(&self, features: &Tensor) -> Result<HeadOutput> {
        if !self.stages().is_empty() {
            bail!(
                "the model's head reads maps of several stages, which pooled features do not contain; use a model \
                 with the \
                 head that was trained, as base.safetensors of a run has"
            );
        }
        self.inner.head.forward(features)
    }

    /// A forward pass with running statistics that records a tape for the input gradient.
    ///
    /// # Errors
    /// If the images have another shape.
    pub fn probe(&self, images: &Tensor) -> Result<Probe> {
        let mut pass =
            self.inner.executor.forward(&self.inner.snapshot.parameters, images, ForwardSpec::PROBE)?;
        let Some(tape) = pass.tape.take() else { candle_core::bail!("the executor kept no tape of a probe") };
        let features = pass.tap(POOLED)?.clone();
        pass.taps.retain(|name, _| self.inner.maps.contains(name));
        Ok(Probe { features, maps: pass.taps, moments: pass.moments, tape })
    }

    /// The gradient to the images, from the gradients to a probe's features and maps (by tap; the features' is
    /// [`POOLED`]) and to its moments (by batch norm's name).
    ///
    /// # Errors
    /// If the probe is another network's, a gradient has another shape than what it belongs to, or a name is no batch
    /// norm's.
    pub fn probe_backward(
        &self,
        probe: Probe,
        taps: BTreeMap<String, Tensor>,
        moments: BTreeMap<String, MomentGradient>,
    ) -> Result<Tensor> {
        let upstream = Upstream { taps, moments };
        let parameters = &self.inner.snapshot.parameters;
        match self.inner.executor.backward(parameters, probe.tape, &upstream, &mut Gradients::default())? {
            Some(gradient) => Ok(gradient),
            None => candle_core::bail!("the executor returned no gradient to the images"),
        }
    }

    /// Running statistics of every batch norm, in node order.
    ///
    /// # Errors
    /// If one is missing.
    pub fn running_statistics(&self) -> Result<Vec<Running>> {
        let parameters = &self.inner.snapshot.parameters;
        let running = |name: &&str| -> Result<Running> {
            Ok(Running {
                name: (*name).to_owned(),
                mean: parameters.get(&format!("{name}.running_mean"))?.clone(),
                variance: parameters.get(&format!("{name}.running_var"))?.clone(),
            })
        };
        self.inner.executor.graph().batch_norms().iter().map(running).collect()
    }
}
