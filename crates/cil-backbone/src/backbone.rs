//! The form of a backbone: a known architecture, or a graph of a program's own.

use std::result;
use std::sync::Arc;

use candle_core::{Result, bail};
use cil_engine::{Graph, Op, Shape};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::POOLED;
use crate::resnet::{Architecture, LARGEST};

/// First parts of names that heads, corrections and loss terms use, or a model file.
const TAKEN: [&str; 5] = ["head", "correction", "vid", "relation", "attached"];
/// Longest name.
const LONGEST_NAME: usize = 64;

/// The form of a backbone; cheap to clone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Backbone {
    /// One of the ResNets, for images of any size that it suits.
    Resnet(Architecture),
    /// A graph that a program built, for images of its input's shape.
    Own(OwnBackbone),
}

/// A graph with a name, and the taps that a learner reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OwnBackbone {
    name: String,
    #[serde(serialize_with = "written", deserialize_with = "read")]
    graph: Arc<Graph>,
}

fn written<S: Serializer>(graph: &Arc<Graph>, serializer: S) -> result::Result<S::Ok, S::Error> {
    Graph::serialize(graph, serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> result::Result<Arc<Graph>, D::Error> {
    Graph::deserialize(deserializer).map(Arc::new)
}

impl OwnBackbone {
    fn check(&self) -> Result<()> {
        let Self { name, graph } = self;
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            bail!("a backbone is named {name:?}; use 1 to {LONGEST_NAME} printable bytes");
        }
        graph.check_bounds()?;
        let images = graph.input_shape();
        if !matches!(images, Shape::Map { channels: 1..=1024, height: 1..=LARGEST, width: 1..=LARGEST }) {
            bail!(
                "the backbone {name} takes {images:?}; use images of 1 to 1024 channels and sides up to {LARGEST}"
            );
        }
        let taken = |node: &str| TAKEN.iter().any(|it| node.split('.').next() == Some(it));
        if let Some(node) = graph.nodes().iter().find(|it| taken(&it.name)) {
            bail!(
                "the backbone {name} has a node {}; begin its name with another word than {TAKEN:?}",
                node.name
            );
        }
        if !matches!(graph.tap_shape(POOLED), Some(Shape::Vector { .. })) {
            bail!("the backbone {name} has no features; tap a vector as {POOLED:?}");
        }
        let stages = graph.taps().len() - 1;
        for stage in 1..=stages {
            if !matches!(graph.tap_shape(&format!("stage{stage}")), Some(Shape::Map { .. })) {
                bail!(
                    "the backbone {name} has {stages} taps beside {POOLED:?} and no map stage{stage}; name maps \
                     stage1, stage2, .. and tap nothing else"
                );
            }
        }
        Ok(())
    }
}

impl Backbone {
    /// A backbone of a program's own.
    ///
    /// `graph` takes an image and has its features, a vector, as the tap [`POOLED`]. Maps that terms and heads may
    /// read are its taps `stage1`, `stage2`, ..; where a stage ends in a ReLU, the tap is the node before it.
    ///
    /// # Errors
    /// If a tap is missing or has another name, a node's name is taken, or a number is out of bounds.
    pub fn own(name: &str, graph: Graph) -> Result<Self> {
        let own = OwnBackbone { name: name.to_owned(), graph: Arc::new(graph) };
        own.check()?;
        Ok(Self::Own(own))
    }

    /// The known architecture, if it is one.
    pub fn architecture(&self) -> Option<Architecture> {
        match self {
            Self::Resnet(architecture) => Some(*architecture),
            Self::Own(_) => None,
        }
    }

    /// The network for images of that shape, with all its taps.
    ///
    /// # Errors
    /// If it does not suit the images.
    pub fn graph(&self, images: Shape) -> Result<Graph> {
        match self {
            Self::Resnet(architecture) => architecture.graph(images),
            Self::Own(OwnBackbone { graph, .. }) if graph.input_shape() == images => Ok(Graph::clone(graph)),
            Self::Own(OwnBackbone { graph, .. }) => {
                bail!("{self} takes {:?}; use such images, not {images:?}", graph.input_shape())
            }
        }
    }

    /// Width of the pooled features.
    pub fn feature_width(&self) -> usize {
        match self {
            Self::Resnet(architecture) => architecture.feature_width(),
            Self::Own(own) => own.graph.tap_shape(POOLED).map_or(0, Shape::channels),
        }
    }

    /// Whether the pooled features are averages of the last stage's values after a ReLU, so from 0 up.
    pub fn ends_in_relu(&self) -> bool {
        match self {
            Self::Resnet(architecture) => architecture.ends_in_relu(),
            Self::Own(OwnBackbone { graph, .. }) => {
                let tapped = |tap: &str| graph.taps().iter().find(|(name, _)| name == tap).map(|it| it.1);
                let Some(pooled) = tapped(POOLED).map(|id| graph.node(id)) else { return false };
                let [relu] = pooled.inputs[..] else { return false };
                let last = tapped(&format!("stage{}", self.stages()));
                pooled.op == Op::GlobalAvgPool
                    && graph.node(relu).op == Op::Relu
                    && last.is_none_or(|id| id == relu || graph.node(relu).inputs == [id])
            }
        }
    }

    /// How many taps `stage1`, `stage2`, .. it has.
    pub fn stages(&self) -> usize {
        match self {
            Self::Resnet(architecture) => architecture.stages(),
            Self::Own(own) => own.graph.taps().len() - 1,
        }
    }

    /// Channels of the map that is returned as `stage1`, `stage2`, ..
    pub fn stage_channels(&self, stage: usize) -> usize {
        match self {
            Self::Resnet(architecture) => architecture.stage_channels(stage),
            Self::Own(own) => own.graph.tap_shape(&format!("stage{stage}")).map_or(0, Shape::channels),
        }
    }

    /// Refuses what is no backbone.
    ///
    /// # Errors
    /// Naming the field or the node and its value.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Resnet(architecture) => architecture.check(),
            Self::Own(own) => own.check(),
        }
    }
}

impl From<Architecture> for Backbone {
    fn from(architecture: Architecture) -> Self {
        Self::Resnet(architecture)
    }
}

/// By its keys, so that a mistake in either form is named.
impl<'de> Deserialize<'de> for Backbone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value.get("graph") {
            None => serde_json::from_value(value).map(Self::Resnet),
            Some(_) => serde_json::from_value(value).map(Self::Own),
        };
        let backbone = read.map_err(serde::de::Error::custom)?;
        if let Self::Own(own) = &backbone {
            own.check().map_err(serde::de::Error::custom)?;
        }
        Ok(backbone)
    }
}

impl std::fmt::Display for Backbone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resnet(architecture) => architecture.fmt(formatter),
            Self::Own(OwnBackbone { name, graph }) => {
                write!(formatter, "the network {name} of {} nodes", graph.nodes().len())
            }
        }
    }
}
