//! A network that learns: backbone, head and their values.
//!
//! Values are kept in one [`Parameters`] store that only its owner changes; a [`Snapshot`] is a copy of it that later
//! training cannot reach. Which values an optimiser moves is the owner's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Error, Result, Tensor, bail};
use cil_engine::{Executor, ExecutorFactory, ParameterKind, Parameters, Shape};

use crate::POOLED;
use crate::backbone::Backbone;
use crate::cells;
use crate::frozen::Frozen;
use crate::head::{Head, HeadKind};

/// The outputs of a network.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// `[rows, width]`, the pooled features.
    pub features: Tensor,
    /// `[rows, classes]`.
    pub logits: Tensor,
    /// `[rows, classes]` before the scale, for a head that has one.
    pub similarities: Option<Tensor>,
    /// `[1]`, the head's scale, for a head that has one.
    pub scale: Option<Tensor>,
    /// `[rows, channels, height, width]` by tap: the maps that the network was asked to return, none by default.
    pub maps: BTreeMap<String, Tensor>,
}

/// A network's form and values, without anything to run it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The backbone's form.
    pub backbone: Backbone,
    /// Shape of one image.
    pub images: Shape,
    /// The head's form.
    pub head: Head,
    /// All values, backbone and head.
    pub parameters: Parameters,
}

impl Snapshot {
    /// Refuses values that are not those of the form.
    ///
    /// # Errors
    /// Naming the tensor that is missing, too many, or of another shape or type than the others.
    pub fn check(&self) -> Result<()> {
        let dims: BTreeMap<&str, &[usize]> =
            self.parameters.iter().map(|(name, tensor)| (name, tensor.dims())).collect();
        check_form(&self.backbone, self.images, &self.head, &dims)?;
        let mut types = self.parameters.iter().map(|(name, tensor)| (name, tensor.dtype()));
        let Some((first, dtype)) = types.next() else { return Ok(()) };
        match types.find(|(_, other)| *other != dtype) {
            Some((name, other)) => {
                bail!("tensor {name} is {other:?}, {first} is {dtype:?}; all have one type")
            }
            None => Ok(()),
        }
    }
}

/// Refuses tensors, by name and dimensions, that are not those of a form.
pub(crate) fn check_form(
    backbone: &Backbone,
    images: Shape,
    head: &Head,
    tensors: &BTreeMap<&str, &[usize]>,
) -> Result<()> {
    head.check()?;
    let graph = backbone.graph(images)?;
    let width = match head.stages.as_slice() {
        [] => backbone.feature_width(),
        stages => {
            cells::check(backbone, stages).map_err(|error| Error::Msg(format!("head.{error}")))?;
            cells::width(backbone, stages)
        }
    };
    if head.width != width {
        bail!("the head takes features of width {}, {backbone} gives {width}", head.width);
    }
    let mut left = tensors.clone();
    for spec in graph.parameter_specs().into_iter().chain(head.specs()) {
        match left.remove(spec.name.as_str()) {
            None => bail!("tensor {} is missing; {backbone} has one", spec.name),
            Some(dims) if dims != spec.dims => {
                bail!("tensor {} is {dims:?}, {backbone} needs {:?}", spec.name, spec.dims)
            }
            Some(_) => {}
        }
    }
    match left.keys().next() {
        Some(name) => bail!("tensor {name} is too many: {backbone} with this head has none of that name"),
        None => Ok(()),
    }
}

/// The executor of a backbone that returns its pooled features, `maps`, and the maps that its head reads.
pub(crate) fn executor(
    snapshot: &Snapshot,
    maps: &[String],
    executors: &ExecutorFactory,
) -> Result<Arc<dyn Executor>> {
    let read = cells::taps(&snapshot.head.stages);
    let read = read.iter().filter(|name| !maps.contains(name));
    let taps: Vec<&str> = maps.iter().chain(read).map(String::as_str).chain([POOLED]).collect();
    executors(snapshot.backbone.graph(snapshot.images)?.with_taps(&taps)?)
}

/// A backbone and a head that grows. A pass returns the pooled features alone; see [`Network::with_maps`].
pub struct Network {
    state: Snapshot,
    executor: Arc<dyn Executor>,
    executors: ExecutorFactory,
    device: Device,
    seed: u64,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Network({}, {} classes)", self.state.backbone, self.state.head.classes())
    }
}

impl Network {
    /// A network without classes, with initial values from `seed`.
    ///
    /// # Errors
    /// If the backbone does not suit the images.
    pub fn new(
        backbone: impl Into<Backbone>,
        images: Shape,
        kind: HeadKind,
        executors: &ExecutorFactory,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let backbone = backbone.into();
        let graph = backbone.graph(images)?;
        let parameters = Parameters::init(&graph, seed, device)?;
        let head = Head::new(kind, backbone.feature_width());
        let state = Snapshot { backbone, images, head, parameters };
        let executor = executor(&state, &[], executors)?;
        Ok(Self { state, executor, executors: Arc::clone(executors), device: device.clone(), seed })
    }

    /// The network of a snapshot; `seed` is for blocks that it will grow.
    ///
    /// # Errors
    /// If the snapshot's values are not those of its form.
    pub fn from_snapshot(
        snapshot: Snapshot,
        executors: &ExecutorFactory,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        snapshot.check()?;
        let executor = executor(&snapshot, &[], executors)?;
        let executors = Arc::clone(executors);
        Ok(Self { state: snapshot, executor, executors, device: device.clone(), seed })
    }

    /// The network with passes that return the maps of these taps as well, such as `stage1`. Its values and its
    /// snapshots are the same; what is frozen of it returns none.
    ///
    /// # Errors
    /// If the backbone has no tap of such a name.
    pub fn with_maps(mut self, maps: &[String]) -> Result<Self> {
        self.executor = executor(&self.state, maps, &self.executors)?;
        Ok(self)
    }

    /// Appends a head block of `classes`.
    ///
    /// # Errors
    /// If `classes` is 0.
    pub fn grow(&mut self, classes: usize) -> Result<()> {
        self.state.head.grow(classes, &mut self.state.parameters, self.seed, &self.device)
    }

    /// A copy of form and values.
    pub fn snapshot(&self) -> Snapshot {
        self.state.clone()
    }

    /// The network as it is now, for good.
    ///
    /// # Errors
    /// If a value was changed to one of another shape or type, or removed.
    pub fn freeze(&self) -> Result<Frozen> {
        let executor = match self.executor.graph().taps().len() {
            1 => Arc::clone(&self.executor),
            _ => executor(&self.state, &[], &self.executors)?,
        };
        Frozen::new(self.state.clone(), executor, Arc::clone(&self.executors))
    }

    /// Where its values lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Makes what runs a graph, as it did for this network.
    pub fn executors(&self) -> &ExecutorFactory {
        &self.executors
    }

    /// The backbone's form.
    pub fn backbone(&self) -> &Backbone {
        &self.state.backbone
    }

    /// Shape of one image.
    pub fn images(&self) -> Shape {
        self.state.images
    }

    /// The head's form.
    pub fn head(&self) -> &Head {
        &self.state.head
    }

    /// All values.
    pub fn parameters(&self) -> &Parameters {
        &self.state.parameters
    }

    /// All values, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.state.parameters
    }

    /// The executor of the backbone.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.executor
    }

    /// Names of the backbone's weights, running statistics left out.
    pub fn backbone_weights(&self) -> Vec<String> {
        let specs = self.executor.graph().parameter_specs();
        specs.into_iter().filter(|it| it.kind == ParameterKind::Weight).map(|it| it.name).collect()
    }
}
