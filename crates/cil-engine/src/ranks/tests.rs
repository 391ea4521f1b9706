//! Operations of ranks, as threads of one process: every rank has the same bits, and the result of one process.

use std::collections::BTreeMap;
use std::thread;

use candle_core::Tensor;

use super::*;
use crate::cpu::CpuExecutor;
use crate::executor::Executor;
use crate::testing::networks::{fused, generator, random_graph, residual_net};
use crate::testing::{Dice, Outcome, SPECS, bits, compare, expected, outcome, parameters, upstream};
use crate::{Graph, Parameters, Upstream};

/// The result of `work` on each of `count` ranks, in the order of ranks.
fn each<T: Send>(count: usize, work: impl Fn(Arc<dyn Ranks>) -> Result<T> + Sync) -> Result<Vec<T>> {
    on_threads(count, work).into_iter().collect()
}

#[test]
fn shares_follow_each_other_and_are_alike() {
    for total in [0, 1, 7, 128] {
        for count in 1..9 {
            let shares: Vec<_> = (0..count).map(|rank| share(total, rank, count)).collect();
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..total).collect::<Vec<_>>());
            let lengths = super::shares(total, count);
            assert!(lengths.iter().max().unwrap_or(&0) - lengths.iter().min().unwrap_or(&0) <= 1);
        }
    }
}

#[test]
fn sums_have_the_order_of_ranks_and_are_the_same_everywhere() -> Result<()> {
    // In another order the small ones are lost.
    let value = |rank: usize, at: usize| [1e8f32, -1e8, 1.0, 0.25][rank] * (1.0 + at as f32 / 64.0);
    for count in 1..=4 {
        for length in [0, 1, 2, 3, 50] {
            let sums = each(count, |ranks| {
                let mut own: Vec<f32> = (0..length).map(|at| value(ranks.rank(), at)).collect();
                sum(&*ranks, &mut own)?;
                Ok(own)
            })?;
            let expected: Vec<f32> = (0..length)
                .map(|at| (1..count).fold(value(0, at), |sum, rank| sum + value(rank, at)))
                .collect();
            sums.iter().for_each(|sum| assert_eq!(*sum, expected, "{count} ranks, {length} values"));
        }
    }
    Ok(())
}

#[test]
fn all_ranks_report_a_difference_and_one_request_is_enough() -> Result<()> {
    let digest = |of: u8| [of; 32];
    let found = each(4, |ranks| first_that_differs(&*ranks, &digest(u8::from(ranks.rank() >= 2))))?;
    assert_eq!(found, [Some(2); 4]);
    assert_eq!(each(3, |ranks| first_that_differs(&*ranks, &digest(7)))?, [None; 3]);
    assert_eq!(each(3, |ranks| any(&*ranks, ranks.rank() == 2))?, [true; 3]);
    assert_eq!(each(3, |ranks| any(&*ranks, false))?, [false; 3]);
    Ok(())
}

#[test]
fn a_rank_that_ends_is_an_error_for_those_that_wait() {
    let found = thread::scope(|scope| {
        let mut ranks = threads(3).into_iter();
        drop(ranks.next());
        let waiting: Vec<_> = ranks.map(|rank| scope.spawn(move || any(&rank, true))).collect();
        waiting
            .into_iter()
            .map(|it| it.join().expect("no panic").unwrap_err().to_string())
            .collect::<Vec<_>>()
    });
    assert!(found.iter().all(|it| it.contains("ended while rank")), "{found:?}");
}

/// Everything a pass gives, on each of `count` ranks.
fn on_ranks(
    count: usize,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    spec: crate::ForwardSpec,
    upstream: &Upstream,
) -> Result<Vec<Outcome>> {
    each(count, |ranks| {
        let executors: ExecutorFactory =
            Arc::new(|graph| Ok(Arc::new(CpuExecutor::new(graph)?) as Arc<dyn Executor>));
        let executor = shared(executors, &ranks)(graph.clone())?;
        let first = outcome(&*executor, parameters, input, spec, upstream)?;
        // Buffers of the first pass are used again.
        let again = outcome(&*executor, parameters, input, spec, upstream)?;
        assert_eq!(exact(&first)?, exact(&again)?);
        Ok(first)
    })
}

fn exact(outcome: &Outcome) -> Result<BTreeMap<String, Vec<u32>>> {
    outcome.iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
}

/// `count` ranks give the same bits, and what one process and the reference give; uneven shares with it.
fn check(graph: &Graph, rows: usize, count: usize, dice: &mut Dice) -> Result<()> {
    for spec in SPECS {
        let parameters = parameters(graph, dice)?;
        let input = dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?;
        let up = upstream(graph, rows, spec, dice)?;
        let what = format!("{count} ranks, {rows} rows, {spec:?}");
        let found = on_ranks(count, graph, &parameters, &input, spec, &up)?;
        let first = exact(&found[0])?;
        for (rank, other) in found.iter().enumerate() {
            assert_eq!(exact(other)?, first, "rank {rank} of {what}");
        }
        compare(&found[0], &expected(graph, &parameters, &input, spec, &up)?, 1.0, &what)?;
        let alone = outcome(&CpuExecutor::new(graph.clone())?, &parameters, &input, spec, &up)?;
        // An order of sums apart.
        compare(&found[0], &alone, 0.1, &what)?;
    }
    Ok(())
}

#[test]
fn residual_networks_are_shared() -> Result<()> {
    let mut dice = Dice::new(21);
    let tapped = residual_net(9, 8)?;
    for graph in [fused(&tapped)?, tapped] {
        for (rows, count) in [(7, 2), (18, 3), (4, 4), (2, 3)] {
            check(&graph, rows, count, &mut dice)?;
        }
    }
    Ok(())
}

#[test]
fn generators_are_shared() -> Result<()> {
    let mut dice = Dice::new(22);
    for (rows, count) in [(9, 2), (5, 4), (1, 2)] {
        check(&generator()?, rows, count, &mut dice)?;
    }
    Ok(())
}

#[test]
fn random_graphs_are_shared() -> Result<()> {
    let mut dice = Dice::new(23);
    for _ in 0..12 {
        check(&random_graph(&mut dice)?, 5, 2, &mut dice)?;
    }
    Ok(())
}

#[test]
fn the_statistics_of_a_batch_are_those_of_all_ranks() -> Result<()> {
    // Rows of the two ranks far apart: statistics of one share would be nothing like these.
    let (graph, mut dice) = (residual_net(9, 8)?, Dice::new(24));
    let parameters = parameters(&graph, &mut dice)?;
    let (low, high) = (dice.tensor(&[4, 3, 9, 8], -6.0, -5.0)?, dice.tensor(&[4, 3, 9, 8], 5.0, 6.0)?);
    let input = Tensor::cat(&[low, high], 0)?;
    let spec = crate::ForwardSpec::TRAIN;
    let statistic = |executor: &dyn Executor| -> Result<Vec<f32>> {
        let pass = executor.forward(&parameters, &input, spec)?;
        let norms = pass.statistics.unwrap_or_default().norms;
        norms[0].unbiased_variance.to_vec1()
    };
    let alone = statistic(&CpuExecutor::new(graph.clone())?)?;
    let together =
        each(2, |ranks| statistic(&Shared::new(Arc::new(CpuExecutor::new(graph.clone())?), &ranks)))?;
    for (alone, together) in alone.iter().zip(&together[1]) {
        assert!((alone - together).abs() <= 1e-6 * alone.abs(), "{alone} {together}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_shared_is_refused() -> Result<()> {
    let (graph, mut dice) = (residual_net(9, 8)?, Dice::new(25));
    let parameters = parameters(&graph, &mut dice)?;
    let input = dice.tensor(&[4, 3, 9, 8], -1.0, 1.0)?;
    let found = each(2, |ranks| {
        let reference = crate::reference::ReferenceExecutor::new(graph.clone());
        let shared = Shared::new(Arc::new(reference), &ranks);
        Ok(shared.forward(&parameters, &input, crate::ForwardSpec::TRAIN).unwrap_err().to_string())
    })?;
    assert!(found[0].contains("cannot share a batch"), "{found:?}");
    Ok(())
}
