//! Calls that cuDNN may refuse, which are then computed another way: only the emulator can be made to refuse.

use candle_core::Result;

use super::emulator;
use super::{ALL, Checks, check, turn};
use crate::cuda::{Gpu, Refusals};
use crate::testing::networks::{fused, generator, residual_net};
use crate::testing::{Dice, TRAIN_ALL};

#[test]
fn what_cudnn_refuses_is_done_otherwise() -> Result<()> {
    let Some(_turn) = turn("refusals of cuDNN") else { return Ok(()) };
    let mut checks = Checks::default();
    for [adding, executing, sizing] in
        [[false; 3], [true, false, false], [false, true, false], [false, false, true], [true, true, false]]
    {
        if !emulator::refuse([adding, executing, sizing]) {
            eprintln!("SKIPPED refusals of cuDNN: only the emulator can be told to refuse");
            return Ok(());
        }
        // The GPU's cuDNN handle remembers refusals.
        let gpu = Gpu::open(0)?;
        let mut dice = Dice::new(61);
        let what = format!("refused: adding {adding}, executing {executing}, sizing {sizing},");
        for graph in [fused(&residual_net(9, 8)?)?, residual_net(8, 8)?, generator()?] {
            check(&mut checks, &gpu, &graph, (3, TRAIN_ALL), &ALL[..2], &mut dice, &what)?;
        }
        let Refusals { joined, algorithms, additions } = gpu.refusals();
        assert_eq!((algorithms > 0, additions > 0), (executing, adding), "{what} {:?}", gpu.refusals());
        assert_eq!(joined, 0, "nothing is joined in training");
    }
    emulator::refuse([false; 3]);
    checks.end()
}
