//! A run by several ranks (threads here): every phase the same bits on all of them, near what one process makes, and
//! resumed by another number of ranks.

use std::collections::BTreeMap;

use crate::support::{data, data_free, executors, plan, run, run_from, training, values};
use cil_data::exemplars::Budget;
use cil_engine::ranks::{on_threads, shared};
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::{Learner, Plan, Saved};
use cil_train::recipe::{
    DiscriminantSpec, PhaseSpec, Recipe, Regressor, Rows, SyntheticNorm, Teachers, TermSpec, Trained,
};
use cil_train::term::Vid;

/// Both teachers, exemplars that are herded, a term on maps with networks of its own, a balanced head, and statistics.
fn recipe(norm: SyntheticNorm) -> Recipe {
    let mut recipe = data_free(norm);
    recipe.exemplars = Budget::PerClass(2);
    recipe.increment.terms.push(TermSpec::Vid(Vid {
        weight: 0.1,
        teachers: Teachers::Both,
        stages: vec![3],
        rows: Rows::All,
        new_rows: Rows::New,
        regressor: Regressor::Normed,
    }));
    let terms = data_free(norm).increment.terms;
    recipe.balance = Some(PhaseSpec { trained: Trained::Head, terms, training: training(1) });
    recipe.discriminant = Some(DiscriminantSpec::pooled(0.01));
    recipe
}

/// The events of a rank, and its learner's values at the end.
#[derive(Debug, PartialEq)]
struct Seen {
    losses: Vec<(PhaseKind, BTreeMap<String, f64>)>,
    exemplars: String,
    evaluation: String,
    values: Vec<(String, Vec<u32>)>,
}

/// The run by `count` ranks, or the rest of it behind `from`, seen behind its first `stop` units; with what a rank held
/// then.
fn by(count: usize, norm: SyntheticNorm, from: Option<&Saved>, stop: usize) -> Vec<(Seen, Saved)> {
    on_threads(count, |ranks| {
        let (train, test) = data(4);
        let plan = Plan { executors: shared(executors(), &ranks), ..plan(recipe(norm), &[2, 2], 5) };
        let mut learner = match from {
            Some(saved) => Learner::restore(plan, saved, &train).unwrap(),
            None => Learner::new(plan).unwrap(),
        };
        let mut units = 0;
        while units < stop {
            let event = learner.advance(&train).unwrap();
            units += usize::from(matches!(event, Some(Event::Progress { .. })));
        }
        let saved = learner.save().unwrap();
        let (events, learner) = run_from(learner, &train);
        let losses = events.into_iter().filter_map(|event| match event {
            Event::Progress { phase, losses, .. } => Some((phase, losses)),
            _ => None,
        });
        let evaluation = learner.evaluator(&train).unwrap().evaluate(&test).unwrap();
        let (exemplars, evaluation) = (format!("{:?}", learner.exemplars()), format!("{evaluation:?}"));
        (Seen { losses: losses.collect(), exemplars, evaluation, values: values(&learner) }, saved)
    })
}

/// Whether losses are as near as a run's are to the same with another rounding, which grows with every step.
fn is_near(found: &Seen, expected: &Seen) {
    assert_eq!(found.losses.len(), expected.losses.len());
    for ((phase, found), (_, expected)) in found.losses.iter().zip(&expected.losses) {
        compare(&format!("{phase:?}"), found, expected, 0.05);
    }
}

fn compare(what: &str, found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>, bound: f64) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, loss) in found {
        let wanted = expected[name];
        assert!(
            (loss - wanted).abs() < bound * (1.0 + wanted.abs()),
            "{what} {name}: {loss}, alone {wanted}"
        );
    }
}

#[test]
fn every_unit_of_every_phase_is_what_one_process_does_from_the_same_state() {
    for norm in [SyntheticNorm::Running, SyntheticNorm::Separate] {
        let (train, _) = data(4);
        let (mut alone, mut units) = (Learner::new(plan(recipe(norm), &[2, 2], 5)).unwrap(), Vec::new());
        loop {
            let before = alone.save().unwrap();
            match alone.advance(&train).unwrap() {
                Some(Event::Progress { phase, losses, .. }) => units.push((before, phase, losses)),
                None => break,
                _ => {}
            }
        }
        let did = |kind| units.iter().any(|(_, phase, _)| *phase == kind);
        let all = [PhaseKind::Inversion, PhaseKind::NewTeacher, PhaseKind::Student, PhaseKind::Balance];
        assert!(all.into_iter().all(did));
        for count in [2, 3] {
            on_threads(count, |ranks| {
                for (number, (before, phase, losses)) in units.iter().enumerate() {
                    let plan =
                        Plan { executors: shared(executors(), &ranks), ..plan(recipe(norm), &[2, 2], 5) };
                    let mut learner = Learner::restore(plan, before, &train).unwrap();
                    let event = learner.advance(&train).unwrap();
                    let Some(Event::Progress { losses: found, .. }) = event else { panic!("{event:?}") };
                    compare(&format!("unit {number}, {phase:?}, {count} ranks"), &found, losses, 1e-3);
                }
            });
        }
    }
}

#[test]
fn a_run_is_the_same_on_all_ranks_and_one_rank_is_one_process() {
    for norm in [SyntheticNorm::Running, SyntheticNorm::Separate] {
        let alone = by(1, norm, None, 0).remove(0).0;
        let plain = run(plan(recipe(norm), &[2, 2], 5), &data(4).0).1;
        assert_eq!(values(&plain), alone.values);
        for count in [2, 3] {
            let ranks = by(count, norm, None, 0);
            for (rank, _) in &ranks {
                assert_eq!(*rank, ranks[0].0, "{count} ranks");
            }
            is_near(&ranks[0].0, &alone);
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let norm = SyntheticNorm::Running;
    let whole = by(2, norm, None, 4);
    for (rank, _) in by(2, norm, Some(&whole[1].1), 0) {
        assert_eq!(rank, whole[0].0, "with as many, to the same bits");
    }
    for count in [1, 3] {
        let rest = by(count, norm, Some(&whole[1].1), 0);
        rest.iter().for_each(|(rank, _)| assert_eq!(*rank, rest[0].0));
        is_near(&rest[0].0, &whole[0].0);
    }
}
