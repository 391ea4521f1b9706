//! Nodes that run alone, forward and backward.

use candle_core::{Result, bail};

use super::CudaExecutor;
use super::backward::Run;
use super::forward::State;
use super::launch::{Argument, Grid, Map, Window, arguments};
use super::memory::Buffer;
use crate::graph::{Node, Op};

/// Kinds of activation in `kernels.cu`.
const LEAKY: i32 = 0;
const TANH: i32 = 1;

fn activation(op: &Op) -> Option<(i32, f32)> {
    match op {
        Op::Relu => Some((LEAKY, 0.0)),
        Op::LeakyRelu { slope } => Some((LEAKY, *slope as f32)),
        Op::Tanh => Some((TANH, 0.0)),
        _ => None,
    }
}

/// The window of a pooling node; that of the global mean is the whole map.
fn window(op: &Op, from: Map) -> Option<Window> {
    match *op {
        Op::AvgPool { kernel, stride } => Some(Window::square(kernel, stride, 0)),
        Op::MaxPool { kernel, stride, padding } => Some(Window::square(kernel, stride, padding)),
        Op::GlobalAvgPool => {
            let Map { height, width, .. } = from;
            Some(Window { height, width, stride: height.max(width), padding: 0 })
        }
        _ => None,
    }
}

/// A copy of channels: `(from, source, start, to, target, begin, length, add)` of the kernel.
struct Copy {
    from: u64,
    source: Map,
    start: usize,
    to: u64,
    target: Map,
    begin: usize,
    length: usize,
    add: bool,
}

fn copy_channels(executor: &CudaExecutor, rows: usize, it: &Copy) -> Result<()> {
    let count = rows * it.length * it.target.positions();
    let arguments: &[_] =
        arguments![it.from, it.source, it.start, it.to, it.target, it.begin, it.length, count, it.add];
    executor.gpu.launch(executor.precision.element(), "copy_channels", Grid::over(count), arguments)
}

pub(super) fn forward(executor: &CudaExecutor, state: &mut State, at: usize) -> Result<Buffer> {
    let node = &executor.graph.nodes()[at];
    let (gpu, element, map) = (&executor.gpu, executor.precision.element(), executor.plan.maps[at]);
    let count = map.count(state.rows)?;
    let input = node.inputs[0].index();
    let (x, from) = (state.output(executor, input)?.address(), executor.plan.maps[input]);
    let out = gpu.take(count * element.bytes())?;
    let launch = |name, arguments: &[Argument<'_>]| gpu.launch(element, name, Grid::over(count), arguments);
    if let Some((kind, slope)) = activation(&node.op) {
        launch("activate", arguments![x, &out, kind, slope, count])?;
        return Ok(out);
    }
    if let Some(window) = window(&node.op, from) {
        if !matches!(node.op, Op::MaxPool { .. }) {
            launch("average_pool", arguments![x, from, &out, map, window, count])?;
            return Ok(out);
        }
        let winners = gpu.take(count * size_of::<i32>())?;
        launch("max_pool", arguments![x, from, &out, &winners, map, window, count])?;
        state.winners[at] = Some(winners);
        return Ok(out);
    }
    match node.op {
        Op::Add => {
            let other = state.output(executor, node.inputs[1].index())?;
            launch("sum", arguments![x, other, &out, count])?;
        }
        Op::UpsampleNearest { factor } => launch("upsample", arguments![x, from, &out, map, factor, count])?,
        Op::SubsamplePad { stride, .. } => {
            launch("subsample", arguments![x, from, &out, map, stride, count])?
        }
        Op::Reshape => launch("reshape", arguments![x, from, &out, map, count, false])?,
        Op::Concat => {
            let mut begin = 0;
            for id in &node.inputs {
                let source = executor.plan.maps[id.index()];
                let from = state.output(executor, id.index())?.address();
                let length = source.channels as usize;
                let to = out.address();
                let part = Copy { from, source, start: 0, to, target: map, begin, length, add: false };
                copy_channels(executor, state.rows, &part)?;
                begin += length;
            }
        }
        Op::Narrow { start, length } => {
            let to = out.address();
            let part = Copy { from: x, source: from, start, to, target: map, begin: 0, length, add: false };
            copy_channels(executor, state.rows, &part)?;
        }
        _ => return unknown(node),
    }
    Ok(out)
}

pub(super) fn backward(run: &mut Run<'_>, at: usize, gradient: &Buffer) -> Result<()> {
    let (executor, state) = (run.executor, run.state);
    let node = &executor.graph.nodes()[at];
    let (element, map) = (executor.precision.element(), executor.plan.maps[at]);
    let rows = state.rows;
    let launch = |name, count, arguments: &[Argument<'_>]| {
        executor.gpu.launch(element, name, Grid::over(count), arguments)
    };
    if matches!(node.op, Op::Concat) {
        let mut start = 0;
        for id in &node.inputs {
            let target = executor.plan.maps[id.index()];
            let length = target.channels as usize;
            if let Some((to, add)) = run.target(id.index())? {
                let from = gradient.address();
                let part = Copy { from, source: map, start, to, target, begin: 0, length, add };
                copy_channels(executor, rows, &part)?;
            }
            start += length;
        }
        return Ok(());
    }
    if matches!(node.op, Op::Add) {
        let count = map.count(rows)?;
        for id in &node.inputs {
            if let Some((to, add)) = run.target(id.index())? {
                launch("accumulate", count, arguments![gradient, to, count, add])?;
            }
        }
        return Ok(());
    }
    let input = node.inputs[0].index();
    let from = executor.plan.maps[input];
    if let Op::Narrow { start, length } = node.op {
        let Some(to) = run.whole_target(input)? else { return Ok(()) };
        let source = gradient.address();
        let part =
            Copy { from: source, source: map, start: 0, to, target: from, begin: start, length, add: true };
        return copy_channels(executor, rows, &part);
    }
    let Some((to, add)) = run.target(input)? else { return Ok(()) };
    let count = from.count(rows)?;
    if let Some((kind, slope)) = activation(&node.op) {
        let (x, y) = (state.output(executor, input)?, state.output(executor, at)?);
        return launch("activate_backward", count, arguments![gradient, x, y, to, kind, slope, count, add]);
    }
    if let Some(window) = window(&node.op, from) {
        let Some(winners) = &state.winners[at] else {
            return launch(
                "average_pool_backward",
                count,
                arguments![gradient, map, to, from, window, count, add],
            );
        };
        let arguments: &[_] = arguments![gradient, winners, map, to, from, window, count, add];
        return launch("max_pool_backward", count, arguments);
    }
    match node.op {
        Op::UpsampleNearest { factor } => {
            launch("upsample_backward", count, arguments![gradient, map, to, from, factor, count, add])
        }
        Op::SubsamplePad { stride, .. } => {
            launch("subsample_backward", count, arguments![gradient, map, to, from, stride, count, add])
        }
        Op::Reshape => launch("reshape", count, arguments![gradient, map, to, from, count, add]),
        _ => unknown(node),
    }
}

fn unknown<T>(node: &Node) -> Result<T> {
    bail!("the CUDA executor has no kernel for node {}: {:?}", node.name, node.op)
}
