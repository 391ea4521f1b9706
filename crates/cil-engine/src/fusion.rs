//! Which nodes run together: a batch norm takes in the addition and the activation behind it.
//!
//! Which nodes are fused depends on the graph and its taps alone, so every executor that fuses them fuses the same.

use crate::graph::{Graph, NodeId, Op};

/// The activation after a batch norm and an addition, in the same pass over the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`
    Relu,
    /// `slope * x` where not positive.
    Leaky(f32),
}

impl Activation {
    /// Factor of the gradient where the output is not positive.
    pub(crate) fn slope(self) -> f32 {
        match self {
            Self::None => 1.0,
            Self::Relu => 0.0,
            Self::Leaky(slope) => slope,
        }
    }
}

/// A batch norm and what it took in.
#[derive(Clone, Debug)]
pub(crate) struct NormUnit {
    /// The batch-norm node.
    pub(crate) norm: usize,
    /// The node it reads.
    pub(crate) source: usize,
    /// A node that is added before the activation.
    pub(crate) residual: Option<usize>,
    pub(crate) activation: Activation,
}

/// Joined nodes, by node.
#[derive(Debug)]
pub(crate) struct Fusion {
    /// The unit whose result is this node's output.
    pub(crate) ends: Vec<Option<NormUnit>>,
    /// Whether a unit took the node in.
    pub(crate) taken: Vec<bool>,
    /// The nodes that read it.
    pub(crate) readers: Vec<Vec<usize>>,
    /// Whether it is a tap.
    pub(crate) tapped: Vec<bool>,
}

impl Fusion {
    pub(crate) fn new(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| readers[input.index()].push(at));
        }
        let tapped = |at: usize| graph.taps().iter().any(|(_, id)| id.index() == at);
        let mut fusion = Self {
            ends: vec![None; nodes.len()],
            taken: vec![false; nodes.len()],
            readers,
            tapped: (0..nodes.len()).map(tapped).collect(),
        };
        // Later norms first: what an addition's other side needs is then there.
        for norm in (0..nodes.len()).rev().filter(|at| matches!(nodes[*at].op, Op::BatchNorm { .. })) {
            fusion.join(graph, norm);
        }
        fusion
    }

    /// The one node that reads this, if it is not a tap.
    pub(crate) fn only_reader(&self, at: usize) -> Option<usize> {
        match (self.readers[at].as_slice(), self.tapped[at]) {
            ([reader], false) => Some(*reader),
            _ => None,
        }
    }

    fn join(&mut self, graph: &Graph, norm: usize) {
        let nodes = graph.nodes();
        let source = nodes[norm].inputs[0].index();
        let mut unit = NormUnit { norm, source, residual: None, activation: Activation::None };
        let mut last = norm;
        let addition = |at: &usize| matches!(nodes[*at].op, Op::Add) && !self.taken[*at];
        if let Some(reader) = self.only_reader(last).filter(addition) {
            let other = |id: &&NodeId| id.index() != last;
            unit.residual = nodes[reader].inputs.iter().find(other).map(|id| id.index());
            self.taken[last] = true;
            last = reader;
            self.taken[last] = true;
        }
        let activation = |at: usize| match nodes[at].op {
            Op::Relu => Some(Activation::Relu),
            Op::LeakyRelu { slope } if slope >= 0.0 => Some(Activation::Leaky(slope as f32)),
            _ => None,
        };
        if let Some((reader, activation)) = self.only_reader(last).and_then(|at| Some((at, activation(at)?)))
        {
            self.taken[last] = true;
            last = reader;
            unit.activation = activation;
        }
        self.taken[last] = true;
        self.ends[last] = Some(unit);
    }
}
