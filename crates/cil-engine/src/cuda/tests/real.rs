//! The networks of the published settings at their sizes, against the processor's executor.
//!
//! The reference in `f64` would take minutes; the processor's executor is compared with it elsewhere, and both are looked
//! at as a whole: among millions of values some ReLU flips in any two ways of adding.

use candle_core::Result;

use super::{ALL, Checks, CudaExecutor, Precision, near_together, on_gpu, same_again, turn};
use crate::cpu::CpuExecutor;
use crate::testing::networks::{image_generator, resnet32};
use crate::testing::{Dice, outcome, parameters, upstream};
use crate::{ForwardSpec, Graph};

const ROWS: usize = 128;

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
