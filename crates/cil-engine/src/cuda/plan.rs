//! A graph as the GPU runs it: geometry of every node, who reads it last, and where weights' gradients lie.

use std::collections::BTreeMap;

use super::Precision;
use super::launch::Map;
use crate::fusion::{Fusion, NormUnit};
use crate::graph::{Graph, Op};
use crate::parameters::ParameterKind;

/// Values between two addresses that any vector instruction may read.
const ALIGNED: usize = 64;

/// A convolution, or a linear layer as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub(super) input: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) bias: bool,
}

/// Where a tensor lies in one that holds many.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) dims: Vec<usize>,
    pub(super) start: usize,
}

/// All that is known before the first pass.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) maps: Vec<Map>,
    /// The nodes that something is computed for, in order.
    pub(super) steps: Vec<usize>,
    /// By node: the batch norm whose unit ends there.
    pub(super) norms: Vec<Option<NormUnit>>,
    /// By node: the convolution it is.
    pub(super) convolutions: Vec<Option<Convolution>>,
    /// By step: nodes that nobody reads afterwards.
    pub(super) free_after: Vec<Vec<usize>>,
    /// By node where a unit ends: the convolution before its batch norm, if nobody else reads that. In inference both
    /// are one convolution.
    pub(super) folded: Vec<Option<usize>>,
    /// By step, in inference: nodes that nobody reads afterwards.
    pub(super) free_in_inference: Vec<Vec<usize>>,
    /// Gradients of weights, in one tensor.
    pub(super) gradients: BTreeMap<String, Part>,
    /// Its values.
    pub(super) gradient_values: usize,
    /// By batch-norm node: where its mean, biased and unbiased variance begin in a tensor of all of them.
    pub(super) moments: Vec<Option<usize>>,
    /// Its values.
    pub(super) moment_values: usize,
}

impl Plan {
    pub(super) fn new(graph: &Graph, precision: Precision) -> Self {
        let nodes = graph.nodes();
        let fusion = Fusion::new(graph);
        let maps = nodes.iter().map(|node| Map::new(node.shape, precision.channels_last())).collect();
        let runs = |node: &usize| fusion.ends[*node].is_some() || !fusion.taken[*node];
        let steps: Vec<usize> = (1..nodes.len()).filter(runs).collect();
        let convolution = |node: usize| {
            let input = || nodes[node].inputs[0].index();
            match nodes[node].op {
                Op::Conv2d { kernel, stride, padding, bias, .. } => {
                    Some(Convolution { input: input(), kernel, stride, padding, bias })
                }
                Op::Linear { bias, .. } => {
                    Some(Convolution { input: input(), kernel: 1, stride: 1, padding: 0, bias })
                }
                _ => None,
            }
        };
        let convolutions: Vec<Option<Convolution>> = (0..nodes.len()).map(convolution).collect();
        let folds = |unit: &NormUnit| {
            let alone = convolutions[unit.source].is_some() && fusion.only_reader(unit.source).is_some();
            alone.then_some(unit.source)
        };
        let folded: Vec<Option<usize>> =
            fusion.ends.iter().map(|unit| unit.as_ref().and_then(folds)).collect();
        let inputs_of = |step: usize| -> Vec<usize> {
            match &fusion.ends[step] {
                Some(unit) => std::iter::once(unit.source).chain(unit.residual).collect(),
                None => nodes[step].inputs.iter().map(|id| id.index()).collect(),
            }
        };
        let in_inference = |step: usize| {
            let mut inputs = inputs_of(step);
            // The convolution is computed here, of what it reads.
            inputs.extend(folded[step].and_then(|at| convolutions[at]).map(|it| it.input));
            inputs
        };
        let (free_after, free_in_inference) =
            (free_after(&steps, nodes.len(), inputs_of), free_after(&steps, nodes.len(), in_inference));
        let (mut gradients, mut gradient_values) = (BTreeMap::new(), 0);
        for spec in graph.parameter_specs().into_iter().filter(|it| it.kind == ParameterKind::Weight) {
            let count: usize = spec.dims.iter().product();
            let part = Part { dims: spec.dims, start: gradient_values };
            gradients.insert(spec.name, part);
            gradient_values += count.next_multiple_of(ALIGNED);
        }
        let (mut moments, mut moment_values) = (vec![None; nodes.len()], 0);
        for (at, node) in nodes.iter().enumerate() {
            if matches!(node.op, Op::BatchNorm { .. }) {
                moments[at] = Some(moment_values);
                moment_values += (3 * node.shape.channels()).next_multiple_of(ALIGNED);
            }
        }
        Self {
            maps,
            steps,
            convolutions,
            norms: fusion.ends,
            free_after,
            folded,
            free_in_inference,
            gradients,
            gradient_values,
            moments,
            moment_values,
        }
    }
}

impl Plan {
    /// About what a pass takes at most beside its rows, and what each row takes, in values of `bytes` bytes: where a
    /// tape is kept weights, their gradients and these in another order, all outputs and, on the way back, three of the
    /// largest; elsewhere weights and these three alone.
    pub(super) fn bytes_of_pass(&self, bytes: usize, keeps: bool) -> (usize, usize) {
        let of = |node: &usize| self.maps[*node].elements();
        let largest = self.steps.iter().map(of).max().unwrap_or(1);
        let kept: usize = if keeps { self.steps.iter().map(of).sum() } else { 0 };
        let weights = self.gradient_values * size_of::<f32>();
        // Memory is allocated in steps of up to an eighth.
        (if keeps { 3 * weights } else { weights }, (kept + 3 * largest) * bytes * 9 / 8)
    }
}

/// By step: nodes whose last reader it is.
fn free_after(steps: &[usize], nodes: usize, inputs_of: impl Fn(usize) -> Vec<usize>) -> Vec<Vec<usize>> {
    let mut last_reader = vec![None; nodes];
    for (number, step) in steps.iter().enumerate() {
        inputs_of(*step).iter().for_each(|input| last_reader[*input] = Some(number));
    }
    let mut free = vec![Vec::new(); steps.len()];
    for (node, reader) in last_reader.iter().enumerate() {
        // Memory without a reader is free as soon as it was allocated.
        if let Some(reader) = reader.or_else(|| steps.iter().position(|step| *step == node)) {
            free[reader].push(node);
        }
    }
    free
}
