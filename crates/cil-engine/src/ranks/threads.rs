//! Ranks that are threads of one process.
//!
//! For every operation they meet once, each contributes its bytes, and each reads what it needs of all; so the work of
//! several processes can be tested in one. A rank that ends before the others is an error for those that wait.

use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use candle_core::{Result, bail};

use super::Ranks;

/// That many ranks, to be given to a thread each.
pub fn threads(count: usize) -> Vec<Threaded> {
    let place = Arc::new(Place { state: Mutex::default(), changed: Condvar::new() });
    (0..count).map(|rank| Threaded { place: Arc::clone(&place), rank, count }).collect()
}

/// The result of `work` on each of `count` ranks, which are threads, in the order of ranks.
///
/// # Panics
/// If one of them does.
pub fn on_threads<T: Send>(count: usize, work: impl Fn(Arc<dyn Ranks>) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let begin = |rank: Threaded| scope.spawn(move || work(Arc::new(rank)));
        let running: Vec<_> = threads(count).into_iter().map(begin).collect();
        let end = |it: thread::ScopedJoinHandle<'_, T>| it.join().unwrap_or_else(|it| resume_unwind(it));
        running.into_iter().map(end).collect()
    })
}

/// One of [`threads`].
#[derive(Debug)]
pub struct Threaded {
    place: Arc<Place>,
    rank: usize,
    count: usize,
}

#[derive(Debug)]
struct Place {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Meetings so far.
    met: usize,
    /// Contributions to the next meeting: rank and bytes.
    brought: Vec<(usize, Vec<u8>)>,
    /// Contributions to the last meeting, by rank.
    all: Arc<Vec<Vec<u8>>>,
    /// A rank that ended.
    gone: Option<usize>,
}

impl Threaded {
    /// The contributions of all ranks to this meeting, by rank.
    fn meet(&self, own: &[u8]) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut state = self.place.state.lock().unwrap_or_else(PoisonError::into_inner);
        let meeting = state.met;
        state.brought.push((self.rank, own.to_vec()));
        if state.brought.len() == self.count {
            let mut brought = std::mem::take(&mut state.brought);
            brought.sort_by_key(|(rank, _)| *rank);
            state.all = Arc::new(brought.into_iter().map(|(_, bytes)| bytes).collect());
            state.met += 1;
            self.place.changed.notify_all();
        }
        loop {
            if state.met > meeting {
                return Ok(Arc::clone(&state.all));
            }
            if let Some(rank) = state.gone {
                bail!("rank {rank} ended while rank {} waited for it", self.rank);
            }
            state = self.place.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        let mut state = self.place.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.gone = Some(self.rank);
        self.place.changed.notify_all();
    }
}

impl Ranks for Threaded {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) -> Result<()> {
        let brought = self.meet(own)?;
        let mut rest = all;
        for (bytes, length) in brought.iter().zip(lengths) {
            let Some((place, behind)) =
                rest.split_at_mut_checked(bytes.len()).filter(|_| bytes.len() == *length)
            else {
                bail!("a rank brought {} bytes, rank {} waited for {length}", bytes.len(), self.rank);
            };
            place.copy_from_slice(bytes);
            rest = behind;
        }
        Ok(())
    }

    fn exchange(&self, own: &[u8], lengths: &[usize], pieces: &mut [u8]) -> Result<()> {
        let brought = self.meet(own)?;
        let start: usize = lengths[..self.rank].iter().sum();
        let length = lengths[self.rank];
        for (number, bytes) in brought.iter().enumerate() {
            if bytes.len() != lengths.iter().sum::<usize>() {
                bail!(
                    "rank {number} brought {} bytes, rank {} waited for {lengths:?}",
                    bytes.len(),
                    self.rank
                );
            }
            pieces[number * length..(number + 1) * length].copy_from_slice(&bytes[start..start + length]);
        }
        Ok(())
    }
}
