//! A feed-forward network described as data.
//!
//! Nodes are stored in the order in which they run; an edge is an index to an earlier node, so a graph cannot have
//! a cycle. Every node knows its shape for one sample. Parameter names are the node's name plus `.weight`, `.bias`,
//! `.running_mean` or `.running_var`, so the name in a weight file is the path in the code that built the graph.
//!
//! This module runs nothing; see [`crate::Executor`].

use std::collections::BTreeSet;

use candle_core::{Result, bail};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
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
    /// Every `stride`-th pixel, with zero channels appended: the parameter-free shortcut ("option A") of He et al. 2016.
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
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique name; the prefix of its parameters' names.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Nodes it reads, all earlier.
    pub inputs: Vec<NodeId>,
    /// Shape of one sample of its output.
    pub shape: Shape,
    /// How its weight is initialised; ignored by nodes without parameters.
    pub init: Init,
}

/// A network: nodes in order, and the names under which some of them are handed out.
#[derive(Clone, Debug)]
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

/// Builds a [`Graph`] node by node; every method checks shapes and names the node in its error.
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    taps: Vec<(String, NodeId)>,
    names: BTreeSet<String>,
}

impl GraphBuilder {
    /// A graph that so far only has its input.
    pub fn new(input: Shape) -> Self {
        let node = Node {
            name: "input".into(),
            op: Op::Input,
            inputs: Vec::new(),
            shape: input,
            init: Init::Constant(0.0),
        };
        Self { nodes: vec![node], taps: Vec::new(), names: BTreeSet::from(["input".into()]) }
    }

    /// The input node.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Shape of one sample of a node.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.0].shape
    }

    /// Appends a node with PyTorch's default initial weights (batch norm: ones).
    ///
    /// # Errors
    /// If the name is taken, the number of inputs is wrong, or shapes do not fit.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let init = match op {
            Op::BatchNorm { .. } => Init::Constant(1.0),
            _ => Init::TorchDefault,
        };
        self.add_with(name, op, inputs, init)
    }

    /// Appends a node whose weight starts as `init` says.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_with(&mut self, name: &str, op: Op, inputs: &[NodeId], init: Init) -> Result<NodeId> {
        if let Some(id) = inputs.iter().find(|id| id.0 >= self.nodes.len()) {
            bail!("node {name} reads node {}, but the graph has {} nodes", id.0, self.nodes.len());
        }
        let shapes: Vec<Shape> = inputs.iter().map(|id| self.shape(*id)).collect();
        let shape = output_shape(name, &op, &shapes)?;
        self.push(name, op, inputs, shape, init)
    }

    /// Appends a node that reads a vector as a map (or the reverse) of `shape`.
    ///
    /// # Errors
    /// If the number of values differs.
    pub fn reshape(&mut self, name: &str, input: NodeId, shape: Shape) -> Result<NodeId> {
        let from = self.shape(input);
        if from.elements() != shape.elements() {
            bail!(
                "node {name} cannot read {from:?} as {shape:?}: {} values are not {}",
                from.elements(),
                shape.elements()
            );
        }
        self.push(name, Op::Reshape, &[input], shape, Init::Constant(0.0))
    }

    /// Hands out a node's output under `name`.
    pub fn tap(&mut self, name: &str, id: NodeId) {
        self.taps.push((name.into(), id));
    }

    /// The finished graph.
    ///
    /// # Errors
    /// If nothing is tapped, or two taps share a name.
    pub fn build(self) -> Result<Graph> {
        let names: BTreeSet<&str> = self.taps.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            bail!("a graph needs at least one tap");
        }
        if names.len() != self.taps.len() {
            bail!(
                "two taps of a graph share a name: {:?}",
                self.taps.iter().map(|(name, _)| name).collect::<Vec<_>>()
            );
        }
        Ok(Graph { nodes: self.nodes, taps: self.taps })
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], shape: Shape, init: Init) -> Result<NodeId> {
        if !self.names.insert(name.into()) {
            bail!("two nodes of a graph are named {name}");
        }
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape, init });
        Ok(NodeId(self.nodes.len() - 1))
    }
}

fn output_shape(name: &str, op: &Op, inputs: &[Shape]) -> Result<Shape> {
    use Shape::{Map, Vector};
    let window = |side: usize, kernel: usize, stride: usize, padding: usize| -> Result<usize> {
        if kernel == 0 || stride == 0 || side + 2 * padding < kernel {
            bail!(
                "node {name}: a window of {kernel} with stride {stride} does not fit a side of {side} + 2*{padding}"
            );
        }
        Ok((side + 2 * padding - kernel) / stride + 1)
    };
    Ok(match (op, inputs) {
        (Op::Conv2d { out_channels, kernel, stride, padding, .. }, [Map { height, width, .. }]) => Map {
            channels: *out_channels,
            height: window(*height, *kernel, *stride, *padding)?,
            width: window(*width, *kernel, *stride, *padding)?,
        },
        (Op::Linear { out_features, .. }, [Vector { .. }]) => Vector { width: *out_features },
        (Op::BatchNorm { .. } | Op::Relu | Op::LeakyRelu { .. } | Op::Tanh, [shape]) => *shape,
        (Op::Add, [left, right]) if left == right => *left,
        (Op::Concat, [Vector { width: left }, Vector { width: right }]) => Vector { width: left + right },
        (
            Op::Concat,
            [
                Map { channels: left, height, width },
                Map { channels: right, height: other_height, width: other_width },
            ],
        ) if height == other_height && width == other_width => {
            Map { channels: left + right, height: *height, width: *width }
        }
        (Op::AvgPool { kernel, stride }, [Map { channels, height, width }]) => Map {
            channels: *channels,
            height: window(*height, *kernel, *stride, 0)?,
            width: window(*width, *kernel, *stride, 0)?,
        },
        (Op::MaxPool { kernel, stride, padding }, [Map { channels, height, width }])
            if 2 * padding <= *kernel =>
        {
            Map {
                channels: *channels,
                height: window(*height, *kernel, *stride, *padding)?,
                width: window(*width, *kernel, *stride, *padding)?,
            }
        }
        (Op::GlobalAvgPool, [Map { channels, .. }]) => Vector { width: *channels },
        (Op::UpsampleNearest { factor }, [Map { channels, height, width }]) if *factor > 0 => {
            Map { channels: *channels, height: height * factor, width: width * factor }
        }
        (Op::SubsamplePad { stride, out_channels }, [Map { channels, height, width }])
            if *stride > 0 && out_channels >= channels =>
        {
            Map { channels: *out_channels, height: height.div_ceil(*stride), width: width.div_ceil(*stride) }
        }
        (Op::Narrow { start, length }, [Vector { width }]) if *length > 0 && start + length <= *width => {
            Vector { width: *length }
        }
        _ => bail!("node {name}: {op:?} does not fit inputs {inputs:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> GraphBuilder {
        GraphBuilder::new(Shape::Map { channels: 3, height: 9, width: 8 })
    }

    #[test]
    fn shapes_follow_the_window_rule() -> Result<()> {
        let mut builder = image();
        let op = Op::Conv2d { out_channels: 5, kernel: 3, stride: 2, padding: 1, bias: true };
        let conv = builder.add("conv", op, &[builder.input()])?;
        assert_eq!(builder.shape(conv), Shape::Map { channels: 5, height: 5, width: 4 });
        let pool = builder.add("pool", Op::GlobalAvgPool, &[conv])?;
        assert_eq!(builder.shape(pool), Shape::Vector { width: 5 });
        builder.tap("pooled", pool);
        let graph = builder.build()?;
        let names: Vec<_> = graph.parameter_specs().into_iter().map(|spec| (spec.name, spec.dims)).collect();
        assert_eq!(names, [("conv.weight".to_owned(), vec![5, 3, 3, 3]), ("conv.bias".to_owned(), vec![5])]);
        Ok(())
    }

    #[test]
    fn mistakes_are_named() -> Result<()> {
        let mut builder = image();
        let input = builder.input();
        let linear = builder.add("head", Op::Linear { out_features: 2, bias: false }, &[input]);
        assert!(linear.is_err_and(|error| error.to_string().contains("node head")));
        let relu = builder.add("relu", Op::Relu, &[input])?;
        assert!(
            builder
                .add("relu", Op::Relu, &[relu])
                .is_err_and(|error| error.to_string().contains("named relu"))
        );
        assert!(builder.reshape("flat", relu, Shape::Vector { width: 7 }).is_err());
        assert!(builder.build().is_err());
        Ok(())
    }
}
