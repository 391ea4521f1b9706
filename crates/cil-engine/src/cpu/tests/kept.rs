//! Packed weights that are kept serve only the values that they were packed from.

use candle_core::Result;

use super::exact;
use crate::ForwardSpec;
use crate::cpu::CpuExecutor;
use crate::testing::networks::{fused, residual_net};
use crate::testing::{Dice, outcome, parameters, upstream};

#[test]
fn a_pass_with_kept_weights_is_the_first_pass_and_changed_values_are_seen() -> Result<()> {
    let mut dice = Dice::new(12);
    let graph = fused(&residual_net(12, 12)?)?;
    let values = parameters(&graph, &mut dice)?;
    let input = dice.tensor(&graph.input_shape().dims(3), -1.0, 1.0)?;
    for spec in [ForwardSpec::EVAL, ForwardSpec::PROBE] {
        let up = upstream(&graph, 3, spec, &mut dice)?;
        let executor = CpuExecutor::new(graph.clone())?;
        let run = |executor: &CpuExecutor, values| exact(&outcome(executor, values, &input, spec, &up)?);
        let first = run(&executor, &values)?;
        assert_eq!(run(&executor, &values)?, first, "{spec:?}, with what was kept");
        let mut changed = values.clone();
        let weight = (changed.get("1.conv2.weight")? * 1.5)?;
        changed.set("1.conv2.weight", weight);
        let then = run(&executor, &changed)?;
        assert_ne!(then, first, "{spec:?}, other weights");
        assert_eq!(then, run(&CpuExecutor::new(graph.clone())?, &changed)?, "{spec:?}, other weights");
        assert_eq!(run(&executor, &values)?, first, "{spec:?}, the first weights again");
    }
    Ok(())
}
