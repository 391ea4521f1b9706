//! Ranks that share a batch on a GPU, as threads of one process.

use std::sync::Arc;

use super::*;
use crate::ranks::{Ranks, Shared, on_threads};
use crate::testing::compare;

/// A way to reach other ranks on a GPU.
pub(super) type Connect<'a> = &'a (dyn Fn(Arc<dyn Ranks>) -> Result<(Gpu, Arc<dyn Ranks>)> + Sync);

pub(super) fn each<T: Send>(
    count: usize,
    connect: Connect<'_>,
    work: impl Fn(&Gpu, Arc<dyn Ranks>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let of_rank = |ranks| connect(ranks).and_then(|(gpu, ranks)| work(&gpu, ranks));
    on_threads(count, of_rank).into_iter().collect()
}

/// What a pass runs on.
struct Batch {
    graph: Graph,
    precision: Precision,
    parameters: Parameters,
    input: Tensor,
    spec: ForwardSpec,
    upstream: Upstream,
}

impl Batch {
    fn draw(graph: &Graph, rows: usize, kind: (ForwardSpec, Precision), dice: &mut Dice) -> Result<Self> {
        let (spec, precision) = kind;
        Ok(Self {
            graph: graph.clone(),
            precision,
            parameters: parameters(graph, dice)?,
            input: dice.tensor(&graph.input_shape().dims(rows), -1.5, 1.5)?,
            spec,
            upstream: upstream(graph, rows, spec, dice)?,
        })
    }

    fn by(&self, executor: &dyn Executor, device: &Device) -> Result<Outcome> {
        let (parameters, upstream) = (stored(&self.parameters, device)?, entering(&self.upstream, device)?);
        let all = outcome(executor, &parameters, &self.input.to_device(device)?, self.spec, &upstream)?;
        all.into_iter().map(|(name, it)| Ok((name, it.to_device(&Device::Cpu)?))).collect()
    }

    fn executor(&self, gpu: &Gpu) -> CudaExecutor {
        CudaExecutor::new(self.graph.clone(), gpu, self.precision)
    }

    /// How far what `count` ranks give is from the reference, and in reduced precision from what one rank gives,
    /// `alone`, as a part of what it may be. It has the same bits on all ranks.
    fn by_ranks(&self, count: usize, connect: Connect<'_>, alone: &Outcome, what: &str) -> Result<f64> {
        let found = each(count, connect, |gpu, ranks| {
            self.by(&Shared::new(Arc::new(self.executor(gpu)), &ranks), &gpu.device())
        })?;
        for (rank, other) in found.iter().enumerate() {
            for (name, tensor) in other {
                if bits(tensor)? != bits(&found[0][name])? {
                    bail!("{what}: {name} of rank {rank} has other bits than that of rank 0");
                }
            }
        }
        let Self { graph, parameters, input, spec, upstream, precision } = self;
        if *precision != Precision::Exact {
            return near(*precision, &found[0], alone, what);
        }
        // An order of sums apart.
        compare(&found[0], alone, 0.1, what)?;
        near(*precision, &found[0], &expected(graph, parameters, input, *spec, upstream)?, what)
    }
}

/// Compares what ranks give with what one rank does, for some kinds of passes over that many rows of each graph.
pub(super) fn compare_with_one_rank(
    turn: &Turn,
    graphs: &[(Graph, usize)],
    counts: &[usize],
    connect: Connect<'_>,
    dice: &mut Dice,
) -> Result<()> {
    let mut checks = Checks::default();
    let specs = [ForwardSpec::EVAL, ForwardSpec::TRAIN, ForwardSpec::PROBE, TRAIN_ALL];
    for (graph, rows) in graphs {
        for (spec, precision) in specs.iter().flat_map(|spec| ALL.map(|precision| (*spec, precision))) {
            let batch = Batch::draw(graph, *rows, (spec, precision), dice)?;
            let alone = batch.by(&batch.executor(&turn.gpu), &turn.gpu.device())?;
            for count in counts {
                let what = format!("{count} ranks, {rows} rows, {precision:?}, {spec:?}");
                checks.see(&what, batch.by_ranks(*count, connect, &alone, &what));
            }
        }
    }
    checks.end()
}

#[test]
fn a_shared_batch_is_the_whole_batch() -> Result<()> {
    let Some(turn) = turn("a shared batch") else { return Ok(()) };
    let gpu = turn.gpu.clone();
    let mut dice = Dice::new(41);
    // Fewer rows than ranks are computed by all of them.
    let graphs = [(residual_net(9, 8)?, 7), (residual_net(9, 8)?, 2), (generator()?, 5)];
    let graphs: Vec<_> = graphs.into_iter().chain([(random_graph(&mut dice)?, 6)]).collect();
    compare_with_one_rank(&turn, &graphs, &[1, 2, 3], &|ranks| Ok((gpu.clone(), ranks)), &mut dice)
}

#[test]
fn moments_are_those_of_rows_far_apart() -> Result<()> {
    let Some(turn) = turn("moments of a shared batch") else { return Ok(()) };
    let (graph, mut dice) = (residual_net(9, 8)?, Dice::new(42));
    let mut batch = Batch::draw(&graph, 8, (TRAIN_ALL, Precision::Exact), &mut dice)?;
    let (low, high) = (dice.tensor(&[4, 3, 9, 8], -6.0, -5.0)?, dice.tensor(&[4, 3, 9, 8], 5.0, 6.0)?);
    batch.input = Tensor::cat(&[low, high], 0)?;
    let alone = batch.by(&batch.executor(&turn.gpu), &turn.gpu.device())?;
    let gpu = turn.gpu.clone();
    batch.by_ranks(2, &|ranks| Ok((gpu.clone(), ranks)), &alone, "rows far apart")?;
    Ok(())
}
