//! Buffers are used again, by the same executor and by those that share them.

use candle_core::Result;

use super::exact;
use crate::cpu::{CpuExecutor, Memory};
use crate::testing::networks::{fused, generator, residual_net};
use crate::testing::{Dice, TRAIN_ALL, outcome, parameters, upstream};
use crate::{ForwardSpec, Graph};

fn graphs() -> Result<[(Graph, usize); 3]> {
    Ok([(residual_net(12, 12)?, 9), (fused(&residual_net(12, 12)?)?, 9), (generator()?, 5)])
}

#[test]
fn a_step_like_the_one_before_allocates_nothing() -> Result<()> {
    let mut dice = Dice::new(8);
    for (graph, rows) in graphs()? {
        let parameters = parameters(&graph, &mut dice)?;
        let input = dice.tensor(&graph.input_shape().dims(rows), -1.0, 1.0)?;
        let up = upstream(&graph, rows, TRAIN_ALL, &mut dice)?;
        let memory = Memory::default();
        let executor = CpuExecutor::new(graph)?.sharing(&memory);
        // Evaluation keeps packed weights; the training step after it is the first beside them.
        for spec in [TRAIN_ALL, ForwardSpec::EVAL, TRAIN_ALL] {
            outcome(&executor, &parameters, &input, spec, &up)?;
        }
        let before = memory.allocated();
        assert!(before > 0, "a step without memory");
        for spec in [TRAIN_ALL, ForwardSpec::EVAL, TRAIN_ALL] {
            outcome(&executor, &parameters, &input, spec, &up)?;
        }
        assert_eq!(memory.allocated(), before, "bytes of the later steps");
    }
    Ok(())
}

#[test]
fn a_second_network_takes_the_buffers_of_the_first() -> Result<()> {
    let mut dice = Dice::new(9);
    let memory = Memory::default();
    for (graph, rows) in graphs()? {
        let parameters = parameters(&graph, &mut dice)?;
        let input = dice.tensor(&graph.input_shape().dims(rows), -1.0, 1.0)?;
        let up = upstream(&graph, rows, TRAIN_ALL, &mut dice)?;
        let alone = CpuExecutor::new(graph.clone())?;
        let expected = exact(&outcome(&alone, &parameters, &input, TRAIN_ALL, &up)?)?;
        for again in 0..2 {
            let before = memory.allocated();
            let sharing = CpuExecutor::new(graph.clone())?.sharing(&memory);
            // Values of other networks in the buffers must have no effect.
            let found = exact(&outcome(&sharing, &parameters, &input, TRAIN_ALL, &up)?)?;
            assert_eq!(found, expected);
            assert!(again == 0 || memory.allocated() == before, "a network like the one before needs memory");
        }
    }
    assert!(memory.allocated() > 0);
    Ok(())
}
