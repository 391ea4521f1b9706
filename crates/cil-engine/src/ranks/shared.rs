//! An executor whose batches several ranks share.
//!
//! Every rank receives the whole batch and returns the outputs of the whole batch; in between it computes its share of
//! the rows. Losses, heads and optimisers need no change: they do the same on every rank, on the same bits. Batch norms
//! see the batch of all ranks ([`Executor::forward_share`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::tensors::{gather_tensor, sum_tensor};
use super::{Ranks, share, shares};
use crate::executor::{Executor, ForwardSpec, Gradients, Pass, Share, Tape, Upstream};
use crate::graph::Graph;
use crate::parameters::Parameters;

/// Runs a graph on this rank's share of every batch.
pub struct Shared {
    inner: Arc<dyn Executor>,
    ranks: Arc<dyn Ranks>,
}

/// What a pass leaves: the tape of this rank's rows, and how many rows there are; `None` where every rank ran all of
/// them.
struct State {
    tape: Tape,
    rows: Option<usize>,
}

impl Shared {
    /// `inner`, which must be of one kind on all ranks.
    pub fn new(inner: Arc<dyn Executor>, ranks: &Arc<dyn Ranks>) -> Self {
        Self { inner, ranks: Arc::clone(ranks) }
    }

    fn own(&self, rows: usize) -> Range<usize> {
        share(rows, self.ranks.rank(), self.ranks.count())
    }

    /// The rows of all ranks, `[rows, ..]`, of this rank's.
    fn whole(&self, own: &Tensor, rows: usize) -> Result<Tensor> {
        let mut dims = own.dims().to_vec();
        let each: usize = dims[1..].iter().product();
        let lengths: Vec<usize> =
            shares(rows, self.ranks.count()).into_iter().map(|rows| rows * each).collect();
        dims[0] = rows;
        gather_tensor(&*self.ranks, &own.flatten_all()?, &lengths)?.reshape(dims)
    }

    /// Adds the gradients of all ranks, in the order of ranks, into `into`.
    fn add(&self, own: &Gradients, into: &mut Gradients) -> Result<()> {
        let flat = own.iter().map(|(_, gradient)| gradient.flatten_all()).collect::<Result<Vec<_>>>()?;
        if flat.is_empty() {
            return Ok(());
        }
        let sums = sum_tensor(&*self.ranks, &Tensor::cat(&flat, 0)?)?;
        let mut start = 0;
        for (name, gradient) in own.iter() {
            let count = gradient.elem_count();
            into.add(name, sums.narrow(0, start, count)?.reshape(gradient.dims())?)?;
            start += count;
        }
        Ok(())
    }
}

impl Executor for Shared {
    fn graph(&self) -> &Graph {
        self.inner.graph()
    }

    fn forward(&self, parameters: &Parameters, input: &Tensor, spec: ForwardSpec) -> Result<Pass> {
        let rows = input.dims().first().copied().unwrap_or(0);
        // No rank may be without a row.
        let split = rows >= self.ranks.count();
        let mut pass = if split {
            let own = self.own(rows);
            let input = input.narrow(0, own.start, own.len())?;
            let share = Share { ranks: Arc::clone(&self.ranks), rows };
            self.inner.forward_share(parameters, &input, spec, &share)?
        } else {
            self.inner.forward(parameters, input, spec)?
        };
        if split {
            for tap in pass.taps.values_mut() {
                *tap = self.whole(tap, rows)?;
            }
        }
        let rows = split.then_some(rows);
        pass.tape = pass.tape.map(|tape| Tape::new(parameters, State { tape, rows }));
        Ok(pass)
    }

    fn backward(
        &self,
        parameters: &Parameters,
        tape: Tape,
        upstream: &Upstream,
        into: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let State { tape, rows } = *tape.open::<State>(parameters)?;
        let Some(rows) = rows else { return self.inner.backward(parameters, tape, upstream, into) };
        let own = self.own(rows);
        let mut taps = BTreeMap::new();
        for (name, gradient) in &upstream.taps {
            if gradient.dims().first() != Some(&rows) {
                bail!("the gradient to {name} has shape {:?}, the pass had {rows} rows", gradient.dims());
            }
            taps.insert(name.clone(), gradient.narrow(0, own.start, own.len())?);
        }
        let mut of_own = Gradients::default();
        let upstream = Upstream { taps, moments: upstream.moments.clone() };
        let to_input = self.inner.backward(parameters, tape, &upstream, &mut of_own)?;
        self.add(&of_own, into)?;
        to_input.map(|gradient| self.whole(&gradient, rows)).transpose()
    }
}
