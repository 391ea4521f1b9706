//! Building a [`Graph`] node by node.
//!
//! Shapes are inferred and mistakes reported while a graph is built, so a graph that exists can be run.

use std::collections::BTreeSet;

use candle_core::{Result, bail};

use super::{Graph, Node, NodeId, Op, Shape};
use crate::parameters::Init;

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

    /// Nodes so far, the input included.
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
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
    fn taps_are_chosen_by_name() -> Result<()> {
        let mut builder = image();
        let relu = builder.add("relu", Op::Relu, &[builder.input()])?;
        let norm = builder.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[relu])?;
        builder.tap("first", relu);
        builder.tap("second", norm);
        let graph = builder.build()?;
        let one = graph.with_taps(&["second"])?;
        assert_eq!(one.taps(), &graph.taps()[1..]);
        let names = |graph: &Graph| graph.parameter_specs().into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!((one.nodes().len(), names(&one)), (graph.nodes().len(), names(&graph)));
        // The order is the declared one, and a name given twice is one tap.
        assert_eq!(graph.with_taps(&["second", "first", "second"])?.taps(), graph.taps());
        let message = graph.with_taps(&["third"]).map(|_| ()).unwrap_err().to_string();
        let expected = "the network has no tap named third, only [\"first\", \"second\"]";
        assert!(message.starts_with(expected), "{message}");
        assert!(graph.with_taps(&[]).is_err());
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
