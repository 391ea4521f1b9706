//! Ranks that are connected by NCCL, as threads of one process with a GPU each. A real NCCL connects as many as there
//! are GPUs; the emulator has two.

use std::sync::Arc;

use super::shares::{Connect, compare_with_one_rank, each};
use super::*;
use crate::cuda::NcclRanks;
use crate::ranks::tensors::{gather_tensor, sum_tensor};
use crate::ranks::{Alone, Ranks, on_threads, shares};

/// Ranks by NCCL, as many as there are GPUs, and not more than three.
fn by_nccl(turn: &Turn, work: impl Fn(usize, Connect<'_>) -> Result<()>) -> Result<()> {
    for count in 1..=Gpu::count()?.min(3) {
        let first = turn.gpu.clone();
        let connect = |ranks: Arc<dyn Ranks>| -> Result<(Gpu, Arc<dyn Ranks>)> {
            let gpu = if ranks.rank() == 0 { first.clone() } else { Gpu::open(ranks.rank())? };
            let ranks = NcclRanks::join(&gpu, ranks)?;
            Ok((gpu, Arc::new(ranks)))
        };
        work(count, &connect)?;
    }
    Ok(())
}

/// A GPU and NCCL; says so where there is none.
fn nccl_turn(test: &str) -> Option<Turn> {
    let turn = turn(test)?;
    if let Err(why) = NcclRanks::join(&turn.gpu, Arc::new(Alone)) {
        eprintln!("SKIPPED {test}: {why}");
        return None;
    }
    Some(turn)
}

#[test]
fn nccl_moves_and_adds_what_ranks_have() -> Result<()> {
    let Some(turn) = nccl_turn("NCCL") else { return Ok(()) };
    // In another order the small ones are lost.
    let value = |rank: usize, at: usize| [1e8f32, -1e8, 1.0][rank] * (1.0 + at as f32 / 64.0);
    let values = |rank: usize, length: usize| (0..length).map(|at| value(rank, at)).collect::<Vec<_>>();
    by_nccl(&turn, |count, connect| {
        // Equal lengths and others, fewer values than ranks, and more.
        for lengths in [vec![4; count], shares(3 * count + 1, count)] {
            let all: Vec<f32> = (0..count).flat_map(|rank| values(rank, lengths[rank])).collect();
            for dtype in [DType::F32, DType::F64] {
                let found = each(count, connect, |gpu, ranks| {
                    let rank = ranks.rank();
                    let own = Tensor::new(values(rank, lengths[rank]), &gpu.device())?.to_dtype(dtype)?;
                    let before = ranks.spent();
                    let all = gather_tensor(&*ranks, &own, &lengths)?;
                    assert!(ranks.spent().operations > before.operations, "not by NCCL");
                    all.to_dtype(DType::F32)?.to_vec1::<f32>()
                })?;
                found.iter().for_each(|it| assert_eq!(*it, all, "{count} ranks"));
            }
        }
        for length in [1, 2, 3, 50, 1000] {
            let sums = each(count, connect, |gpu, ranks| {
                let own = Tensor::new(values(ranks.rank(), length), &gpu.device())?;
                sum_tensor(&*ranks, &own)?.to_vec1::<f32>()
            })?;
            let of = |at: usize| (1..count).fold(value(0, at), |sum, rank| sum + value(rank, at));
            let expected: Vec<f32> = (0..length).map(of).collect();
            sums.iter().for_each(|it| assert_eq!(*it, expected, "{count} ranks, {length} values"));
        }
        Ok(())
    })
}

#[test]
fn a_batch_shared_by_nccl_is_the_whole_batch() -> Result<()> {
    let Some(turn) = nccl_turn("a batch shared by NCCL") else { return Ok(()) };
    let graphs = [(residual_net(9, 8)?, 7)];
    by_nccl(&turn, |count, connect| {
        compare_with_one_rank(&turn, &graphs, &[count], connect, &mut Dice::new(43))
    })
}

#[test]
fn two_ranks_with_one_gpu_are_refused() -> Result<()> {
    let Some(turn) = nccl_turn("two ranks with one GPU") else { return Ok(()) };
    let gpu = &turn.gpu;
    let told = on_threads(2, |ranks| NcclRanks::join(gpu, ranks).map(|_| ()).unwrap_err().to_string());
    assert!(told.iter().all(|it| it.starts_with("NCCL, connecting the GPUs of all ranks: ")), "{told:?}");
    let alone = NcclRanks::join(gpu, Arc::new(Alone))?;
    let wrong = Tensor::new(&[1f32, 2.0], &gpu.device())?;
    assert!(alone.gather_on_device(&wrong, &[3]).is_err_and(|it| it.to_string().contains("3 were said")));
    Ok(())
}
