//! A graph as units of work: what [`Fusion`] joined, and convolutions with the upsampling before them.

use super::conv_plan::{ConvPlan, Reading};
use super::layout::{Block, LANES};
use crate::fusion::{Fusion, NormUnit};
use crate::graph::{Graph, Op};

/// The operation of a unit.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A convolution of a node's output, or of that node upsampled.
    Conv(Box<ConvPlan>, usize),
    /// A batch norm with followers.
    Norm(NormUnit),
    /// The node's operation, alone.
    Single,
}

/// One step; its result is the output of `node`.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) node: usize,
    pub(super) kind: Kind,
}

/// All steps of a graph, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) units: Vec<Unit>,
    /// Geometry of every node.
    pub(super) blocks: Vec<Block>,
    /// Whether the input is read by convolutions only, in channel-major order.
    pub(super) plain_input: bool,
    /// By node: whether a batch norm reads it.
    pub(super) feeds_norm: Vec<bool>,
    /// By node: the units that read it, in order.
    pub(super) readers: Vec<Vec<usize>>,
    /// By node: the unit that makes it, if one does.
    pub(super) makers: Vec<Option<usize>>,
    /// By unit: the nodes whose values it reads.
    pub(super) inputs: Vec<Vec<usize>>,
    /// By node: whether it is a tap.
    pub(super) tapped: Vec<bool>,
}

impl Plan {
    pub(super) fn new(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let blocks: Vec<Block> = nodes.iter().map(|node| node.shape.into()).collect();
        let fusion = Fusion::new(graph);
        let only_reader = |at: usize| fusion.only_reader(at);
        let few = blocks[0].channels <= 4 && matches!(nodes[0].shape, crate::graph::Shape::Map { .. });
        let convolutions =
            fusion.readers[0].iter().all(|reader| matches!(nodes[*reader].op, Op::Conv2d { .. }));
        let plain_input = few && convolutions && !fusion.tapped[0];

        // Convolutions of upsampled maps take the upsampling in, where there are channels enough to gain by it.
        let upsampled = |conv: usize| {
            let Op::Conv2d { kernel, stride, padding, .. } = nodes[conv].op else { return None };
            let input = nodes[conv].inputs[0].index();
            let doubled = matches!(nodes[input].op, Op::UpsampleNearest { factor: 2 });
            let wide = blocks[input].channels >= LANES && blocks[conv].channels >= LANES;
            let fits = ConvPlan::suits_tiles((kernel, stride, padding));
            let from = nodes[input].inputs.first()?.index();
            (doubled && wide && fits && only_reader(input) == Some(conv)).then_some((input, from))
        };
        let mut taken = fusion.taken.clone();
        for node in 1..nodes.len() {
            if let Some((input, _)) = upsampled(node) {
                taken[input] = true;
            }
        }
        let mut units = Vec::new();
        for (node, end) in fusion.ends.iter().enumerate().skip(1) {
            let kind = match (&nodes[node].op, end) {
                (_, Some(unit)) => Kind::Norm(unit.clone()),
                _ if taken[node] => continue,
                (Op::Conv2d { kernel, stride, padding, .. }, None) => {
                    let input = nodes[node].inputs[0].index();
                    let window = (*kernel, *stride, *padding);
                    let (reading, input) = match upsampled(node) {
                        Some((_, from)) => (Reading::Up, from),
                        None if input == 0 && plain_input => (Reading::Plain, input),
                        None => (Reading::Blocked, input),
                    };
                    let plan = ConvPlan::new(blocks[input], blocks[node], window, reading);
                    Kind::Conv(Box::new(plan), input)
                }
                _ => Kind::Single,
            };
            units.push(Unit { node, kind });
        }
        let normed =
            |readers: &Vec<usize>| readers.iter().any(|at| matches!(nodes[*at].op, Op::BatchNorm { .. }));
        let feeds_norm = fusion.readers.iter().map(normed).collect();
        let mut plan = Self {
            units,
            blocks,
            plain_input,
            feeds_norm,
            readers: vec![Vec::new(); nodes.len()],
            makers: vec![None; nodes.len()],
            inputs: Vec::new(),
            tapped: fusion.tapped,
        };
        for (number, unit) in plan.units.iter().enumerate() {
            plan.makers[unit.node] = Some(number);
            let inputs = unit.inputs(graph);
            inputs.iter().for_each(|input| plan.readers[*input].push(number));
            plan.inputs.push(inputs);
        }
        plan
    }
}

impl Unit {
    /// The nodes whose values the unit reads.
    fn inputs(&self, graph: &Graph) -> Vec<usize> {
        match &self.kind {
            Kind::Norm(unit) => std::iter::once(unit.source).chain(unit.residual).collect(),
            Kind::Conv(_, input) => vec![*input],
            _ => graph.nodes()[self.node].inputs.iter().map(|id| id.index()).collect(),
        }
    }

    /// The node whose parameters the unit reads.
    pub(super) fn owner(&self) -> usize {
        match &self.kind {
            Kind::Norm(unit) => unit.norm,
            _ => self.node,
        }
    }
}
