//! Arithmetic of a pass, counted from its graph.
//!
//! Convolutions and linear layers only, a multiply-add counts as two, as a direct computation would do them; what a
//! kernel saves by a cleverer algorithm shows as a higher rate. It measures nothing.

use cil_engine::{Graph, Keep, Node, Op};

/// Operations of one sample's forward pass, and of its backward pass where one follows.
pub fn of_pass(graph: &Graph, keep: Keep) -> f64 {
    let forward: f64 = graph.nodes().iter().map(|node| of_node(graph, node)).sum();
    let Keep::Tape { weights, input } = keep else { return forward };
    let reached = reached(graph, weights, input);
    let backward = |node: &Node| {
        let to_input = node.inputs.iter().any(|id| reached[id.index()]);
        of_node(graph, node) * f64::from(u8::from(weights) + u8::from(to_input))
    };
    forward + graph.nodes().iter().map(backward).sum::<f64>()
}

/// Operations of one node's forward pass for one sample.
fn of_node(graph: &Graph, node: &Node) -> f64 {
    let Some(before) = node.inputs.first().map(|id| graph.node(*id).shape) else { return 0.0 };
    match node.op {
        Op::Conv2d { kernel, .. } => {
            2.0 * node.shape.elements() as f64 * (before.channels() * kernel * kernel) as f64
        }
        Op::Linear { .. } => 2.0 * node.shape.elements() as f64 * before.elements() as f64,
        _ => 0.0,
    }
}

/// Which nodes' outputs need a gradient: those that something wanted lies at or before.
fn reached(graph: &Graph, weights: bool, input: bool) -> Vec<bool> {
    let mut reached: Vec<bool> = Vec::new();
    for node in graph.nodes() {
        let own = match node.op {
            Op::Input => input,
            Op::Conv2d { .. } | Op::Linear { .. } | Op::BatchNorm { affine: true, .. } => weights,
            _ => false,
        };
        reached.push(own || node.inputs.iter().any(|id| reached[id.index()]));
    }
    reached
}

#[cfg(test)]
mod tests {
    use cil_engine::{ForwardSpec, GraphBuilder, Shape};

    use super::*;
    use crate::commands::bench::networks;

    /// Two convolutions and a linear layer, counted by hand.
    fn small() -> Graph {
        let mut it = GraphBuilder::new(Shape::Map { channels: 3, height: 8, width: 8 });
        let convolution = |stride| Op::Conv2d { out_channels: 4, kernel: 3, stride, padding: 1, bias: true };
        let x = it.add("a", convolution(1), &[it.input()]).unwrap();
        let x = it.add("norm", Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x]).unwrap();
        let x = it.add("b", convolution(2), &[x]).unwrap();
        let x = it.add("pool", Op::GlobalAvgPool, &[x]).unwrap();
        let x = it.add("c", Op::Linear { out_features: 5, bias: false }, &[x]).unwrap();
        it.tap("out", x);
        it.build().unwrap()
    }

    const A: f64 = 2.0 * (4.0 * 64.0) * (3.0 * 9.0);
    const B: f64 = 2.0 * (4.0 * 16.0) * (4.0 * 9.0);
    const C: f64 = 2.0 * 5.0 * 4.0;

    #[test]
    fn a_small_graph_is_counted_by_hand() {
        let graph = small();
        assert_eq!(of_pass(&graph, Keep::Nothing), A + B + C);
        // The first layer's input needs no gradient.
        assert_eq!(of_pass(&graph, ForwardSpec::TRAIN.keep), 2.0 * A + 3.0 * (B + C));
        assert_eq!(of_pass(&graph, ForwardSpec::PROBE.keep), 2.0 * (A + B + C));
        assert_eq!(of_pass(&graph, Keep::Tape { weights: true, input: true }), 3.0 * (A + B + C));
        assert_eq!(of_pass(&graph, Keep::Tape { weights: false, input: false }), A + B + C);
    }

    /// 69.1 million multiply-adds, shortcuts included: the 69 million of the literature.
    #[test]
    fn resnet_32_has_the_known_count() {
        let count = of_pass(&networks::resnet32().unwrap(), Keep::Nothing);
        let stem = 3 * 16 * 9 * 1024;
        let stages = [10 * 16 * 16 * 9 * 1024, (16 + 9 * 32) * 32 * 9 * 256, (32 + 9 * 64) * 64 * 9 * 64];
        let shortcuts = 16 * 32 * 256 + 32 * 64 * 64;
        let head = 64 * 100;
        let multiply_adds = stem + stages.iter().sum::<usize>() + shortcuts + head;
        assert_eq!(multiply_adds, 69_130_496);
        assert_eq!(count, 2.0 * multiply_adds as f64);
    }
}
