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
        let mut last_reader = vec![None; nodes.len()];
        for (number, step) in steps.iter().enumerate() {
            let inputs: Vec<usize> = match &fusion.ends[*step] {
                Some(unit) => std::iter::once(unit.source).chain(unit.residual).collect(),
                None => nodes[*step].inputs.iter().map(|id| id.index()).collect(),
            };
            inputs.iter().for_each(|input| last_reader[*input] = Some(number));
        }
        let mut free_after = vec![Vec::new(); steps.len()];
        for (node, reader) in last_reader.iter().enumerate() {
            // What nobody reads is free as soon as it was handed out.
            let reader = reader.or_else(|| steps.iter().position(|step| *step == node));
            if let Some(reader) = reader {
                free_after[reader].push(node);
            }
        }
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
            convolutions: (0..nodes.len()).map(convolution).collect(),
            norms: fusion.ends,
            free_after,
            gradients,
            gradient_values,
            moments,
            moment_values,
        }
    }
}
