//! The precision of Winograd's filtering, with the bounds that `docs/speed.md` states.

use std::collections::BTreeMap;

use candle_core::{DType, Result};

use super::*;
use crate::reference::ReferenceExecutor;
use crate::testing::networks::{conv, map};
use crate::testing::norm_of;
use crate::{Keep, Norm};

/// Root mean square error of every outcome of one convolution over the root mean square of its reference in `f64`:
/// output, gradient to the input, gradient to the weights.
fn errors(side: usize, padding: usize, up: bool, path: InstructionPath) -> Result<[f64; 3]> {
    let mut dice = Dice::new(77);
    let mut builder = GraphBuilder::new(map(64, side, side));
    let mut x = builder.input();
    if up {
        x = builder.add("up", Op::UpsampleNearest { factor: 2 }, &[x])?;
    }
    let x = builder.add("conv", conv(64, 3, 1, padding, false), &[x])?;
    builder.tap("out", x);
    let graph = builder.build()?;
    let parameters = parameters(&graph, &mut dice)?;
    let rows = 16;
    let input = dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?;
    let grad = dice.tensor(&graph.node(x).shape.dims(rows), -1.0, 1.0)?;
    let spec =
        ForwardSpec { norm: Norm::Batch, moments: false, keep: Keep::Tape { weights: true, input: true } };
    let up = |dtype| {
        let taps = BTreeMap::from([("out".to_owned(), grad.to_dtype(dtype)?)]);
        Ok::<_, candle_core::Error>(Upstream { taps, moments: BTreeMap::new() })
    };
    let reference = ReferenceExecutor::new(graph.clone());
    let double = (parameters.to_dtype(DType::F64)?, input.to_dtype(DType::F64)?);
    let expected = outcome(&reference, &double.0, &double.1, spec, &up(DType::F64)?)?;
    let executor = CpuExecutor::with_path(graph, path)?;
    let found = outcome(&executor, &parameters, &input, spec, &up(DType::F32)?)?;
    let mut errors = [0.0; 3];
    for (error, name) in errors.iter_mut().zip(["tap out", "input gradient", "gradient conv.weight"]) {
        let distance = norm_of(&(found[name].to_dtype(DType::F64)? - &expected[name])?)?;
        *error = distance / norm_of(&expected[name])?;
    }
    Ok(errors)
}

#[test]
fn filtering_costs_what_the_documents_say() -> Result<()> {
    for path in paths() {
        let direct = errors(10, 0, false, path)?;
        let two = errors(6, 1, false, path)?;
        let four = errors(8, 1, false, path)?;
        let up = errors(4, 1, true, path)?;
        println!("{path:?}: direct {direct:?}, F(2x2) {two:?}, F(4x4) {four:?}, upsampled {up:?}");
        let worst = |errors: [f64; 3]| errors.into_iter().fold(0.0, f64::max);
        assert!(worst(direct) < 8e-7, "direct {direct:?}");
        assert!(worst(two) < 5e-7, "F(2x2, 3x3) {two:?}");
        assert!(worst(up) < 5e-7, "upsampled {up:?}");
        assert!(worst(four) < 3e-6, "F(4x4, 3x3) {four:?}");
    }
    Ok(())
}
