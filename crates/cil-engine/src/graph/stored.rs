//! A graph as plain data, to be kept with the values that it reads.
//!
//! A graph that is read is built node by node as one in a program is, so its shapes are computed and not believed; and
//! every number in it has a bound, so that nothing is multiplied or allocated that a file could choose freely.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{Graph, GraphBuilder, Node, NodeId, Op, Shape};
use crate::parameters::Init;

/// Most nodes; the deepest network that He et al. 2016 trained has some six thousand.
const MOST_NODES: usize = 1 << 14;
/// Largest number of a node: channels, sides, widths.
const LARGEST: usize = 1 << 16;
/// Most values of a node's output in one sample.
const MOST_VALUES: usize = 1 << 28;
/// Largest number that is no count, such as a slope.
const LARGEST_NUMBER: f64 = 1e6;

/// A graph's form in a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct StoredGraph {
    input: Shape,
    /// All nodes but the input, which is number 0.
    nodes: Vec<StoredNode>,
    /// Names of taps, and the nodes that they hand out.
    taps: Vec<(String, usize)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StoredNode {
    name: String,
    op: Op,
    /// Numbers of the nodes that it reads.
    inputs: Vec<usize>,
    init: Init,
    /// Of [`Op::Reshape`], whose output follows from nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Shape>,
}

impl From<Graph> for StoredGraph {
    fn from(graph: Graph) -> Self {
        let input = graph.input_shape();
        let taps = graph.taps.into_iter().map(|(name, id)| (name, id.0)).collect();
        let stored = |Node { name, op, inputs, shape, init }| {
            let shape = (op == Op::Reshape).then_some(shape);
            StoredNode { name, op, inputs: inputs.into_iter().map(|id| id.0).collect(), init, shape }
        };
        Self { input, nodes: graph.nodes.into_iter().skip(1).map(stored).collect(), taps }
    }
}

impl TryFrom<StoredGraph> for Graph {
    type Error = candle_core::Error;

    fn try_from(stored: StoredGraph) -> Result<Self> {
        if stored.nodes.len() >= MOST_NODES {
            bail!("the graph has {} nodes; use fewer than {MOST_NODES}", stored.nodes.len());
        }
        check_shape("input", stored.input)?;
        let mut builder = GraphBuilder::new(stored.input);
        for StoredNode { name, op, inputs, init, shape } in stored.nodes {
            check_numbers(&name, &op, init)?;
            let inputs: Vec<NodeId> = inputs.into_iter().map(NodeId).collect();
            let id = match (&op, shape, inputs.as_slice()) {
                (Op::Reshape, Some(shape), [input]) if input.0 < builder.count() => {
                    check_shape(&name, shape)?;
                    builder.reshape(&name, *input, shape)?
                }
                (_, None, _) => builder.add_with(&name, op, &inputs, init)?,
                _ => bail!("node {name}: {op:?} has no shape of its own, or reads no earlier node"),
            };
            check_shape(&name, builder.shape(id))?;
        }
        for (name, at) in stored.taps {
            if at >= builder.count() {
                bail!("tap {name} is of node {at}; the graph has nodes 0 to {}", builder.count() - 1);
            }
            builder.tap(&name, NodeId(at));
        }
        builder.build()
    }
}

impl Graph {
    /// Refuses a graph that could be stored and not be read again.
    ///
    /// # Errors
    /// Naming the node, its value and the bound.
    pub fn check_bounds(&self) -> Result<()> {
        if self.nodes.len() > MOST_NODES {
            bail!("the graph has {} nodes; use at most {MOST_NODES}", self.nodes.len());
        }
        self.nodes.iter().try_for_each(|node| {
            check_numbers(&node.name, &node.op, node.init)?;
            check_shape(&node.name, node.shape)
        })
    }
}

fn check_shape(name: &str, shape: Shape) -> Result<()> {
    let sides = match shape {
        Shape::Map { channels, height, width } => vec![channels, height, width],
        Shape::Vector { width } => vec![width],
    };
    if let Some(side) = sides.iter().find(|it| !(1..=LARGEST).contains(*it)) {
        bail!("node {name} has the shape {shape:?}, which holds {side}; use a value from 1 to {LARGEST}");
    }
    if shape.elements() > MOST_VALUES {
        bail!("node {name} has {} values in a sample; use at most {MOST_VALUES}", shape.elements());
    }
    Ok(())
}

fn check_numbers(name: &str, op: &Op, init: Init) -> Result<()> {
    let counts = match *op {
        Op::Conv2d { out_channels, kernel, stride, padding, .. } => {
            vec![out_channels, kernel, stride, padding]
        }
        Op::Linear { out_features, .. } => vec![out_features],
        Op::AvgPool { kernel, stride } => vec![kernel, stride],
        Op::MaxPool { kernel, stride, padding } => vec![kernel, stride, padding],
        Op::UpsampleNearest { factor } => vec![factor],
        Op::SubsamplePad { stride, out_channels } => vec![stride, out_channels],
        Op::Narrow { start, length } => vec![start, length],
        Op::Input
        | Op::BatchNorm { .. }
        | Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Tanh
        | Op::Add
        | Op::Concat
        | Op::GlobalAvgPool
        | Op::Reshape => Vec::new(),
    };
    if let Some(count) = counts.iter().find(|it| **it > LARGEST) {
        bail!("node {name}: {op:?} holds {count}; use a value up to {LARGEST}");
    }
    let of_init = match init {
        Init::Uniform { bound: number } | Init::Normal { deviation: number } | Init::Constant(number) => {
            number
        }
        Init::TorchDefault | Init::KaimingNormalFanOut | Init::KaimingNormalFanIn => 0.0,
    };
    let of_op = match *op {
        Op::BatchNorm { epsilon, .. } if epsilon <= 0.0 => {
            bail!("node {name}: epsilon is {epsilon}; use a value above 0")
        }
        Op::BatchNorm { epsilon: number, .. } | Op::LeakyRelu { slope: number } => number,
        _ => 0.0,
    };
    if let Some(number) = [of_op, of_init].iter().find(|it| it.is_nan() || it.abs() > LARGEST_NUMBER) {
        bail!("node {name} holds {number}; use a value from -{LARGEST_NUMBER} to {LARGEST_NUMBER}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn graph() -> Result<Graph> {
        let mut net = GraphBuilder::new(Shape::Map { channels: 3, height: 8, width: 8 });
        let conv = Op::Conv2d { out_channels: 4, kernel: 3, stride: 2, padding: 1, bias: true };
        let x = net.add_with("conv", conv, &[net.input()], Init::Normal { deviation: 0.1 })?;
        let norm = net.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])?;
        let relu = net.add("relu", Op::Relu, &[norm])?;
        let flat = net.reshape("flat", relu, Shape::Vector { width: 64 })?;
        let part = net.add("part", Op::Narrow { start: 3, length: 5 }, &[flat])?;
        net.tap("stage1", norm);
        net.tap("pooled", part);
        net.build()
    }

    #[test]
    fn a_graph_that_is_read_is_the_one_that_was_written() -> Result<()> {
        let written = serde_json::to_string(&graph()?).map_err(candle_core::Error::wrap)?;
        let read: Graph = serde_json::from_str(&written).map_err(candle_core::Error::wrap)?;
        assert_eq!(read, graph()?);
        read.check_bounds()
    }

    #[test]
    fn what_a_file_must_not_say_is_refused_by_name() -> Result<()> {
        let refused = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut value = serde_json::to_value(graph().unwrap()).unwrap();
            change(&mut value);
            let error = serde_json::from_value::<Graph>(value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(&|it| it["nodes"][0]["op"]["conv2d"]["out-channels"] = json!(1u64 << 40), "node conv: ");
        refused(&|it| it["nodes"][0]["op"]["conv2d"]["groups"] = json!(1), "unknown field `groups`");
        refused(&|it| it["nodes"][0]["op"] = json!("swish"), "unknown variant `swish`");
        refused(&|it| it["nodes"][0]["inputs"] = json!([7]), "node conv reads node 7");
        refused(&|it| it["nodes"][0]["inputs"] = json!([0, 0]), "does not fit inputs");
        refused(&|it| it["nodes"][1]["op"]["batch-norm"]["epsilon"] = json!(0.0), "epsilon is 0");
        refused(&|it| it["nodes"][1]["name"] = json!("conv"), "two nodes of a graph are named conv");
        refused(&|it| it["nodes"][3]["shape"]["vector"]["width"] = json!(65), "64 values are not 65");
        refused(&|it| it["nodes"][3]["inputs"] = json!([9]), "node flat: ");
        refused(&|it| it["nodes"][2]["shape"] = json!({ "vector": { "width": 4 } }), "node relu: ");
        refused(&|it| it["taps"][0][1] = json!(99), "tap stage1 is of node 99");
        refused(&|it| it["taps"] = json!([]), "at least one tap");
        refused(&|it| it["input"]["map"]["height"] = json!(u64::MAX), "node input has the shape");
        refused(&|it| it["more"] = json!(1), "unknown field `more`");
        let large = json!({ "map": { "channels": 60000, "height": 60000, "width": 1 } });
        refused(&|it| it["input"] = large.clone(), "values in a sample");
        let many =
            vec![json!({ "name": "a", "op": "relu", "inputs": [0], "init": "torch-default" }); MOST_NODES];
        refused(&|it| it["nodes"] = json!(many), "use fewer than");
        Ok(())
    }
}
