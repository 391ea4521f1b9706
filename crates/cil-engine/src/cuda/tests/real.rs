//! The networks of the published settings at their sizes, against the processor's executor.
//!
//! The reference in `f64` would take minutes; the processor's executor is compared with it elsewhere, and both are
//! compared as a whole: among millions of values some ReLU flips in any two ways of adding.

use candle_core::Result;

use super::{ALL, Checks, CudaExecutor, Precision, near_together, on_gpu, same_again, turn};
use crate::cpu::CpuExecutor;
use crate::testing::networks::{conv, map, resnet32};
use crate::testing::{Dice, outcome, parameters, upstream};
use crate::{ForwardSpec, Graph, GraphBuilder, NodeId, Op, Shape};

const ROWS: usize = 128;

/// The generator of the published settings: `latent` numbers to an image of 32 x 32.
fn image_generator(latent: usize) -> Result<Graph> {
    let mut builder = GraphBuilder::new(Shape::Vector { width: latent });
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let (up, leaky) = (Op::UpsampleNearest { factor: 2 }, Op::LeakyRelu { slope: 0.2 });
    let x = builder.add("linear", Op::Linear { out_features: 128 * 8 * 8, bias: true }, &[NodeId(0)])?;
    let x = builder.reshape("map", x, map(128, 8, 8))?;
    let mut x = builder.add("bn0", norm(true), &[x])?;
    for (at, channels) in [128, 64].into_iter().enumerate() {
        x = builder.add(&format!("up{at}"), up.clone(), &[x])?;
        x = builder.add(&format!("conv{at}"), conv(channels, 3, 1, 1, true), &[x])?;
        x = builder.add(&format!("conv{at}.bn"), norm(true), &[x])?;
        x = builder.add(&format!("conv{at}.act"), leaky.clone(), &[x])?;
    }
    let x = builder.add("last", conv(3, 3, 1, 1, true), &[x])?;
    let x = builder.add("tanh", Op::Tanh, &[x])?;
    let x = builder.add("bn", norm(false), &[x])?;
    builder.tap("image", x);
    builder.build()
}

#[test]
fn networks_at_their_sizes_equal_the_processor() -> Result<()> {
    let Some(turn) = turn("networks at their sizes") else { return Ok(()) };
    let (mut dice, mut checks) = (Dice::new(51), Checks::default());
    let all: [(&str, Graph); 2] = [("ResNet-32", resnet32(32)?), ("generator", image_generator(256)?)];
    for (name, graph) in all {
        for spec in [ForwardSpec::TRAIN, ForwardSpec::EVAL] {
            let parameters = parameters(&graph, &mut dice)?;
            let input = dice.tensor(&graph.input_shape().dims(ROWS), -1.5, 1.5)?;
            let up = upstream(&graph, ROWS, spec, &mut dice)?;
            let expected = outcome(&CpuExecutor::new(graph.clone())?, &parameters, &input, spec, &up)?;
            for precision in ALL {
                let bounds = match precision {
                    Precision::Exact => [1e-4, 0.02],
                    Precision::Tf32 => [0.01, 0.2],
                    Precision::Bf16 => [0.05, 0.4],
                };
                let executor = CudaExecutor::new(graph.clone(), &turn.gpu, precision);
                let what = format!("{name} {precision:?} rows {ROWS} {spec:?}");
                let pass = || on_gpu(&executor, &parameters, &input, spec, &up);
                checks.see(&what, pass().and_then(|found| near_together(&found, &expected, bounds, &what)));
                checks.see(&format!("{what}, again"), same_again(pass, &what));
            }
        }
    }
    println!("refused by cuDNN: {:?}", turn.gpu.refusals());
    checks.end()
}
