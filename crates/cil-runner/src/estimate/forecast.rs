//! How much of a run is done, in time.
//!
//! An activity that has run keeps its seconds per operation so far; one that has not gets the mean of the others. So a
//! unit of an inversion and an epoch are weighted by their cost. A unit that took far longer than the others of its
//! activity (the machine swapped, or slept) is left out.

use std::collections::BTreeMap;

use cil_train::event::Event;

use super::workload::{Activity, Item};

/// How many times as slow as the median a unit may be and count.
const SLOWEST: f64 = 4.0;

/// Operations that were done, and the seconds that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Floating-point operations.
    pub work: f64,
    /// Seconds.
    pub seconds: f64,
}

/// The remaining work of a run.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    items: Vec<Item>,
    /// Units that were done of each item.
    done: Vec<usize>,
    /// The pace of each unit.
    units: BTreeMap<Activity, Vec<Pace>>,
}

impl Forecast {
    /// Of a run that has not begun.
    pub fn new(items: Vec<Item>) -> Self {
        Self { done: vec![0; items.len()], items, units: BTreeMap::new() }
    }

    /// Tasks that there are; 0 where nothing is known of the run.
    pub fn tasks(&self) -> usize {
        self.items.iter().map(|it| it.task + 1).max().unwrap_or(0)
    }

    /// Takes note of an event, and of the seconds since the one before it; the item's work that it reports.
    pub fn note(&mut self, event: &Event, seconds: f64) -> Option<Item> {
        let (task, activity) = event.activity()?;
        let at = self.items.iter().position(|it| it.task == task && it.activity == activity)?;
        let item = self.items[at];
        self.done[at] = match event {
            Event::Progress { done, .. } => (*done).min(item.units),
            _ => item.units,
        };
        self.units.entry(activity).or_default().push(Pace { work: item.work, seconds });
        Some(item)
    }

    /// The next item, and the number of its next unit, from 1.
    pub fn next(&self) -> Option<(Item, usize)> {
        let (item, done) = self.items.iter().zip(&self.done).find(|(item, done)| **done < item.units)?;
        Some((*item, done + 1))
    }

    /// Seconds of what is left, by the paces seen so far; `None` before the first that took any.
    pub fn seconds_left(&self) -> Option<f64> {
        seconds(self.left(), &self.paces())
    }

    /// Operations that are left, by activity.
    pub fn left(&self) -> impl Iterator<Item = (Activity, f64)> {
        let left = self.items.iter().zip(&self.done);
        left.map(|(item, done)| (item.activity, (item.units - done) as f64 * item.work))
    }

    /// Operations that were done, and those of the whole run.
    pub fn work(&self) -> (f64, f64) {
        let done = self.items.iter().zip(&self.done).map(|(item, done)| *done as f64 * item.work).sum();
        (done, self.items.iter().map(Item::total).sum())
    }

    /// The pace of each activity so far, without units that were far slower than the others.
    pub fn paces(&self) -> BTreeMap<Activity, Pace> {
        self.units.iter().map(|(activity, units)| (*activity, usual(units))).collect()
    }
}

/// The sum of those units that are not far slower than their median. Of two the faster one is the median: what was slow
/// once is forgotten as soon as there is another reading.
fn usual(units: &[Pace]) -> Pace {
    let rate = |unit: &Pace| unit.seconds / unit.work.max(f64::MIN_POSITIVE);
    let mut rates: Vec<f64> = units.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
    let counts = |unit: &&Pace| median <= 0.0 || rate(unit) <= SLOWEST * median;
    units.iter().filter(counts).fold(Pace::default(), |sum, unit| Pace {
        work: sum.work + unit.work,
        seconds: sum.seconds + unit.seconds,
    })
}

/// Seconds of some work by activity, at these paces; `None` where no pace is known.
pub fn seconds(
    work: impl IntoIterator<Item = (Activity, f64)>,
    paces: &BTreeMap<Activity, Pace>,
) -> Option<f64> {
    let rate = |pace: &Pace| (pace.work > 0.0).then(|| pace.seconds / pace.work);
    let mut all = Pace::default();
    for pace in paces.values().filter(|it| it.work > 0.0) {
        all.work += pace.work;
        all.seconds += pace.seconds;
    }
    let mean = rate(&all)?;
    let of = |(activity, work): (Activity, f64)| work * paces.get(&activity).and_then(rate).unwrap_or(mean);
    Some(work.into_iter().map(of).sum())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cil_train::event::PhaseKind;

    use super::*;

    fn progress(task: usize, phase: PhaseKind, done: usize, total: usize) -> Event {
        Event::Progress { task, phase, done, total, learning_rate: 0.1, images: 1, losses: BTreeMap::new() }
    }

    #[test]
    fn one_slow_unit_is_forgotten() {
        let item = Item { task: 0, activity: Activity::Base, units: 40, work: 10.0 };
        for slow in 1..=4 {
            let mut forecast = Forecast::new(vec![item]);
            for done in 1..=4 {
                let took = if done == slow { 1200.0 } else { 2.0 };
                forecast.note(&progress(0, PhaseKind::Student, done, 40), took);
            }
            assert_eq!(forecast.seconds_left(), Some(36.0 * 2.0), "unit {slow} of four was slow");
        }
        // Slow units count from now on.
        let mut forecast = Forecast::new(vec![item]);
        for done in 1..=9 {
            let took = if done > 3 { 20.0 } else { 2.0 };
            forecast.note(&progress(0, PhaseKind::Student, done, 40), took);
        }
        assert!(forecast.seconds_left().is_some_and(|left| left > 31.0 * 10.0));
    }

    #[test]
    fn what_is_left_takes_what_its_kind_took() {
        let item = |task, activity, units, work| Item { task, activity, units, work };
        let mut forecast = Forecast::new(vec![
            item(0, Activity::Base, 2, 10.0),
            item(1, Activity::Inversion, 4, 1.0),
            item(1, Activity::Student, 2, 10.0),
        ]);
        assert_eq!(forecast.seconds_left(), None);
        forecast.note(&progress(0, PhaseKind::Student, 1, 2), 20.0);
        // Two seconds an operation: 10 of the base, 4 of the inversion, 20 of the student.
        assert_eq!(forecast.seconds_left(), Some(68.0));
        forecast.note(&progress(0, PhaseKind::Student, 2, 2), 20.0);
        forecast.note(&progress(1, PhaseKind::Inversion, 1, 4), 9.0);
        // Inversions are slow; the student's pace is the mean of all, 49 seconds for 21.
        let left = forecast.seconds_left().unwrap();
        assert!((left - (3.0 * 9.0 + 20.0 * 49.0 / 21.0)).abs() < 1e-9, "{left}");
        assert_eq!(forecast.work(), (21.0, 34.0 + 10.0));
        assert_eq!(forecast.next().map(|it| (it.0.activity, it.1)), Some((Activity::Inversion, 2)));
        assert_eq!(forecast.note(&Event::RunEnd, 1.0), None);
    }
}
