//! The decisions for a kind of pass, made once: where every batch norm is applied, what backward will read, and when
//! each map's memory is free for another.

use super::plan::{Kind, Plan};
use crate::executor::{ForwardSpec, Keep, Norm};
use crate::fusion::{Activation, NormUnit};
use crate::graph::{Graph, Op};

/// Where a batch norm with its followers is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In a pass of its own.
    Pass,
    /// Behind the convolution before it, in place: nothing else reads that.
    Folded,
    /// While the first reader, a convolution, loads its input.
    OnLoad {
        /// Whether the result is stored as well: others read it.
        write: bool,
    },
}

/// The decisions for a kind of pass.
#[derive(Debug)]
pub(super) struct Schedule {
    /// By node: whether its gradient is needed.
    pub(super) carries: Vec<bool>,
    /// By node that a batch-norm unit ends in.
    pub(super) placements: Vec<Placement>,
    /// By node: whether it is a convolution that is worked out together with the batch norm behind it.
    pub(super) folded: Vec<bool>,
    /// By unit: the nodes whose output nobody reads after it, backward included.
    pub(super) free_after: Vec<Vec<usize>>,
}

impl Schedule {
    pub(super) fn new(graph: &Graph, plan: &Plan, spec: ForwardSpec) -> Self {
        let (weights, input) = match spec.keep {
            Keep::Nothing => (false, false),
            Keep::Tape { weights, input } => (weights, input),
        };
        let carries = carriers(graph, plan, weights, input);
        let placements: Vec<Placement> = (0..plan.blocks.len()).map(|node| place(plan, node, spec)).collect();
        let mut folded = vec![false; plan.blocks.len()];
        for (node, placement) in placements.iter().enumerate() {
            if let (Placement::Folded, Some(unit)) = (placement, plan.norm_of(node)) {
                folded[unit.source] = true;
            }
        }
        let mut schedule = Self { carries, placements, folded, free_after: Vec::new() };
        let kept = schedule.kept(graph, plan, spec);
        let mut last = vec![None; plan.blocks.len()];
        for (number, unit) in plan.units.iter().enumerate() {
            let mut reads = schedule.reads(plan, number);
            reads.push(unit.node);
            reads.into_iter().for_each(|node| last[node] = Some(number));
        }
        schedule.free_after = vec![Vec::new(); plan.units.len()];
        for (node, last) in last.into_iter().enumerate() {
            if let (Some(last), false) = (last, kept[node]) {
                schedule.free_after[last].push(node);
            }
        }
        schedule
    }

    /// The stored nodes that a unit reads in the forward pass.
    fn reads(&self, plan: &Plan, number: usize) -> Vec<usize> {
        let unit = &plan.units[number];
        match &unit.kind {
            Kind::Conv(..) if self.folded[unit.node] => Vec::new(),
            Kind::Conv(_, input) => self.behind(plan, *input),
            Kind::Norm(norm) => {
                let mut reads = self.behind(plan, norm.source);
                let maker = plan.makers[norm.source].map(|maker| &plan.units[maker].kind);
                if let (Placement::Folded, Some(Kind::Conv(_, input))) = (self.placements[unit.node], maker) {
                    reads.extend(self.behind(plan, *input));
                }
                reads.extend(norm.residual.iter().flat_map(|node| self.behind(plan, *node)));
                reads
            }
            Kind::Single => plan.inputs[number].iter().flat_map(|node| self.behind(plan, *node)).collect(),
        }
    }

    /// A node, and what it is made of where it is made on load.
    fn behind(&self, plan: &Plan, node: usize) -> Vec<usize> {
        match (self.placements[node], plan.norm_of(node)) {
            (Placement::OnLoad { .. }, Some(unit)) => {
                [node, unit.source].into_iter().chain(unit.residual).collect()
            }
            _ => vec![node],
        }
    }

    /// By node: whether backward reads its output.
    fn kept(&self, graph: &Graph, plan: &Plan, spec: ForwardSpec) -> Vec<bool> {
        let mut kept = vec![false; plan.blocks.len()];
        let Keep::Tape { weights, .. } = spec.keep else { return kept };
        // What stands for a node: itself, or the input of the batch norm that makes it on load.
        let stored = |node: usize| match (self.placements[node], plan.norm_of(node)) {
            (Placement::OnLoad { write: false }, Some(unit)) => unit.source,
            _ => node,
        };
        for (number, unit) in plan.units.iter().enumerate() {
            let inputs = &plan.inputs[number];
            let carried = self.carries[unit.node];
            match (&unit.kind, &graph.nodes()[unit.owner()].op) {
                (Kind::Conv(..), _) | (_, Op::Linear { .. }) => kept[stored(inputs[0])] |= weights,
                (Kind::Norm(norm), Op::BatchNorm { affine, .. }) => {
                    let moving = spec.norm == Norm::Batch || spec.moments;
                    kept[norm.source] |= (self.carries[norm.source] && moving) || (weights && *affine);
                    kept[stored(unit.node)] |= carried && norm.activation != Activation::None;
                }
                (_, Op::LeakyRelu { slope }) if *slope < 0.0 => kept[inputs[0]] |= carried,
                (_, Op::Relu | Op::LeakyRelu { .. } | Op::Tanh) => kept[unit.node] |= carried,
                _ => {}
            }
        }
        kept
    }
}

/// By node: whether its gradient is needed.
fn carriers(graph: &Graph, plan: &Plan, weights: bool, input: bool) -> Vec<bool> {
    let mut carries = vec![false; plan.blocks.len()];
    carries[0] = input;
    for (number, unit) in plan.units.iter().enumerate() {
        let learned = match graph.nodes()[unit.owner()].op {
            Op::Conv2d { .. } | Op::Linear { .. } => true,
            Op::BatchNorm { affine, .. } => affine,
            _ => false,
        };
        carries[unit.node] = (weights && learned) || plan.inputs[number].iter().any(|input| carries[*input]);
    }
    carries
}

/// Where the batch norm that ends in `node` is applied.
fn place(plan: &Plan, node: usize, spec: ForwardSpec) -> Placement {
    let Some(NormUnit { source, residual, .. }) = plan.norm_of(node) else { return Placement::Pass };
    if spec.norm == Norm::Running && !spec.moments && spec.keep == Keep::Nothing {
        return if plan.feeds_one_norm(*source) { Placement::Folded } else { Placement::Pass };
    }
    let first = plan.readers[node].first().map(|number| &plan.units[*number].kind);
    if !matches!(first, Some(Kind::Conv(..))) {
        return Placement::Pass;
    }
    Placement::OnLoad { write: residual.is_some() || plan.readers[node].len() > 1 || plan.tapped[node] }
}

impl Plan {
    /// The batch-norm unit that ends in a node.
    pub(super) fn norm_of(&self, node: usize) -> Option<&NormUnit> {
        match &self.units[self.makers[node]?].kind {
            Kind::Norm(unit) => Some(unit),
            _ => None,
        }
    }

    /// Whether a node is a convolution that one batch norm reads and nothing else.
    pub(super) fn feeds_one_norm(&self, node: usize) -> bool {
        let made = self.makers[node].is_some_and(|maker| matches!(self.units[maker].kind, Kind::Conv(..)));
        let read = match self.readers[node].as_slice() {
            [reader] => matches!(&self.units[*reader].kind, Kind::Norm(unit) if unit.source == node),
            _ => false,
        };
        made && read && !self.tapped[node]
    }
}
