//! A feed-forward network described as data.
//!
//! Nodes are stored in the order in which they run; an edge is an index to an earlier node, so a graph cannot have
//! a cycle. Every node knows its shape for one sample. Parameter names are the node's name plus `.weight`, `.bias`,
//! `.running_mean` or `.running_var`, so the name in a weight file is the path in the code that built the graph.
//!
//! This module runs nothing; see [`crate::Executor`].

mod builder;
mod stored;

pub use builder::GraphBuilder;

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::parameters::{Init, ParameterKind, ParameterSpec};

/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Shape of one sample of a node's output; the batch axis comes first and is not named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// A feature map or an image: `[channels, height, width]`.
    Map {
        /// Number of channels.
        channels: usize,
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// A flat vector: `[width]`.
    Vector {
        /// Number of elements.
        width: usize,
    },
}

impl Shape {
    /// Values in one sample.
    pub fn elements(self) -> usize {
        match self {
            Self::Map { channels, height, width } => channels * height * width,
            Self::Vector { width } => width,
        }
    }

    /// Channels of a map, or the width of a vector.
    pub fn channels(self) -> usize {
        match self {
            Self::Map { channels, .. } => channels,
            Self::Vector { width } => width,
        }
    }

    /// Values of one channel in one sample: `height * width` of a map, 1 of a vector.
    pub fn positions(self) -> usize {
        match self {
            Self::Map { height, width, .. } => height * width,
            Self::Vector { .. } => 1,
        }
    }

    /// Dimensions of a batch of `rows` samples.
    pub fn dims(self, rows: usize) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![rows, channels, height, width],
            Self::Vector { width } => vec![rows, width],
        }
    }
}

/// The operation of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Op {
    /// The graph's only input.
    Input,
    /// Cross-correlation with a square kernel, zero padding. Weight `[out, in, kernel, kernel]`.
    Conv2d {
        /// Output channels.
        out_channels: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Zeros added on every side.
        padding: usize,
        /// Whether a bias `[out]` is added.
        bias: bool,
    },
    /// `x W^T + b` on vectors. Weight `[out, in]`.
    Linear {
        /// Output width.
        out_features: usize,
        /// Whether a bias `[out]` is added.
        bias: bool,
    },
    /// Batch normalisation over rows and positions, one mean and variance per channel.
    BatchNorm {
        /// Whether a learned scale and shift follow.
        affine: bool,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, `slope * x` elsewhere.
    LeakyRelu {
        /// Factor of negative values.
        slope: f64,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// Sum of two nodes of one shape.
    Add,
    /// Two maps joined along channels, or two vectors.
    Concat,
    /// Mean over windows, no padding.
    AvgPool {
        /// Side of the window.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
    },
    /// Maximum over windows; padding counts as minus infinity. The gradient goes to the first maximum.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Border on every side.
        padding: usize,
    },
    /// Mean over all positions: a map to a vector.
    GlobalAvgPool,
    /// Each pixel repeated `factor` times in both directions.
    UpsampleNearest {
        /// Integer factor.
        factor: usize,
    },
    /// A vector read as a map, or a map as a vector; row-major, the values stay.
    Reshape,
    /// Every `stride`-th pixel, with zero channels appended: the parameter-free shortcut ("option A") of He et al.
    /// 2016.
    SubsamplePad {
        /// Step in both directions.
        stride: usize,
        /// Channels of the output; those past the input's are zero.
        out_channels: usize,
    },
    /// Elements `start .. start + length` of a vector.
    Narrow {
        /// First element.
        start: usize,
        /// Number of elements.
        length: usize,
    },
}

/// One step of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique name; the prefix of its parameters' names.
    pub name: String,
    /// Its operation.
    pub op: Op,
    /// Nodes it reads, all earlier.
    pub inputs: Vec<NodeId>,
    /// Shape of one sample of its output.
    pub shape: Shape,
    /// How its weight is initialised; ignored by nodes without parameters.
    pub init: Init,
}

/// A network: nodes in order, and the names of its taps. As plain data it is built again when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "stored::StoredGraph", into = "stored::StoredGraph")]
pub struct Graph {
    nodes: Vec<Node>,
    taps: Vec<(String, NodeId)>,
}

impl Graph {
    /// All nodes; node 0 is the input, and inputs come before their readers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Named outputs, in the order in which they were declared.
    pub fn taps(&self) -> &[(String, NodeId)] {
        &self.taps
    }

    /// Shape of one sample of the input.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Shape of one sample of a tap, if there is one of that name.
    pub fn tap_shape(&self, name: &str) -> Option<Shape> {
        self.taps.iter().find(|(tap, _)| tap == name).map(|(_, id)| self.nodes[id.0].shape)
    }

    /// The same nodes and parameters with those taps only: an executor may then run other nodes together, and copies
    /// out no map that nobody reads.
    ///
    /// # Errors
    /// If a name is no tap's, or none is given.
    pub fn with_taps(&self, names: &[&str]) -> Result<Self> {
        if names.is_empty() {
            bail!("a graph needs at least one tap");
        }
        if let Some(name) = names.iter().find(|name| self.tap_shape(name).is_none()) {
            let known: Vec<&str> = self.taps.iter().map(|(tap, _)| tap.as_str()).collect();
            bail!("the network has no tap named {name}, only {known:?}");
        }
        let taps = self.taps.iter().filter(|(tap, _)| names.contains(&tap.as_str())).cloned().collect();
        Ok(Self { nodes: self.nodes.clone(), taps })
    }

    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Every parameter and running statistic the graph reads, in node order.
    pub fn parameter_specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        for node in &self.nodes {
            let fan = |id: &NodeId| self.nodes[id.0].shape.channels();
            let mut push = |suffix: &str, dims: Vec<usize>, kind, init| {
                specs.push(ParameterSpec { name: format!("{}.{suffix}", node.name), dims, kind, init });
            };
            match &node.op {
                Op::Conv2d { out_channels, kernel, bias, .. } => {
                    let channels = fan(&node.inputs[0]);
                    push(
                        "weight",
                        vec![*out_channels, channels, *kernel, *kernel],
                        ParameterKind::Weight,
                        node.init,
                    );
                    if *bias {
                        let bound = 1.0 / ((channels * kernel * kernel) as f64).sqrt();
                        push("bias", vec![*out_channels], ParameterKind::Weight, Init::Uniform { bound });
                    }
                }
                Op::Linear { out_features, bias } => {
                    let width = fan(&node.inputs[0]);
                    push("weight", vec![*out_features, width], ParameterKind::Weight, node.init);
                    if *bias {
                        let bound = 1.0 / (width as f64).sqrt();
                        push("bias", vec![*out_features], ParameterKind::Weight, Init::Uniform { bound });
                    }
                }
                Op::BatchNorm { affine, .. } => {
                    let channels = node.shape.channels();
                    if *affine {
                        push("weight", vec![channels], ParameterKind::Weight, node.init);
                        push("bias", vec![channels], ParameterKind::Weight, Init::Constant(0.0));
                    }
                    push("running_mean", vec![channels], ParameterKind::Statistic, Init::Constant(0.0));
                    push("running_var", vec![channels], ParameterKind::Statistic, Init::Constant(1.0));
                }
                _ => {}
            }
        }
        specs
    }

    /// Names of the batch-norm nodes in order: the order of [`crate::Pass::moments`].
    pub fn batch_norms(&self) -> Vec<&str> {
        let norms = self.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm { .. }));
        norms.map(|node| node.name.as_str()).collect()
    }
}
