//! Behaviour of a learner on small runs.

use crate::support::{data, data_free, plan, run, run_from, training, values};
use cil_backbone::{Architecture, StageCells};
use cil_data::exemplars::Budget;
use cil_train::evaluate::{Subject, evaluate};
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;
use cil_train::methods::{fine_tune, joint, lucir, lwf};
use cil_train::recipe::{DiscriminantSpec, PhaseSpec, Recipe, SyntheticNorm, Trained};

fn phases(events: &[Event]) -> Vec<(usize, PhaseKind)> {
    let mut phases = Vec::new();
    for event in events {
        if let Event::Progress { task, phase, .. } = event
            && phases.last() != Some(&(*task, *phase))
        {
            phases.push((*task, *phase));
        }
    }
    phases
}

#[test]
fn events_report_tasks_phases_and_units() {
    let (train, _) = data(6);
    let mut recipe = data_free(SyntheticNorm::Joint);
    recipe.balance = Some(PhaseSpec {
        trained: Trained::Head,
        terms: recipe.increment.terms.clone(),
        training: training(1),
    });
    let plan = plan(recipe, &[3, 2, 1], 1);
    let units = Learner::new(plan.clone()).unwrap().units();
    let (events, learner) = run(plan, &train);
    use PhaseKind::{Balance, Inversion, NewTeacher, Student};
    // The last task has one class, of which a second teacher would say nothing.
    let expected = [
        (0, Student),
        (1, Inversion),
        (1, NewTeacher),
        (1, Student),
        (1, Balance),
        (2, Inversion),
        (2, Student),
        (2, Balance),
    ];
    assert_eq!(phases(&events), expected);
    let progress = |event: &&Event| matches!(event, Event::Progress { .. });
    assert_eq!(events.iter().filter(progress).count() as u64, units);
    assert_eq!(events.last(), Some(&Event::RunEnd));
    assert_eq!(learner.model().unwrap().classes(), 6);
    let named = |phase: PhaseKind| {
        let losses = events.iter().rev().find_map(|event| match event {
            Event::Progress { task: 1, phase: found, losses, .. } if *found == phase => {
                Some(losses.keys().cloned())
            }
            _ => None,
        });
        losses.unwrap().collect::<Vec<_>>()
    };
    assert_eq!(named(Student), ["cross-entropy", "dual-teacher", "less-forget", "total"]);
    assert_eq!(named(Inversion), ["batch-entropy", "instance-entropy", "statistics"]);
    assert_eq!(named(NewTeacher), ["cross-entropy", "total"]);
}

#[test]
fn a_data_free_run_looks_at_no_old_image() {
    let (train, _) = data(6);
    let mut learner = Learner::new(plan(data_free(SyntheticNorm::Running), &[3, 2, 1], 1)).unwrap();
    let (mut task, mut before) = (0, vec![0; 6]);
    let counts = || -> Vec<u64> { (0..6).map(|class| train.reads(class)).collect() };
    while let Some(event) = learner.advance(&train).unwrap() {
        if let Event::TaskStart { task: next, .. } = event {
            (task, before) = (next, counts());
        }
        if let Event::TaskLearned { .. } = event {
            learner.class_means(&train).unwrap();
        }
        let seen = [0, 3, 5][task];
        assert_eq!(counts()[..seen], before[..seen], "an old image was looked at in task {task}");
    }
    assert!(counts().iter().all(|count| *count > 0));
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (train, test) = data(5);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let stages = vec![StageCells { stage: 1, cells: 2, normalised: true }];
            let discriminant =
                Some(DiscriminantSpec { stages, mirrored: true, ..DiscriminantSpec::pooled(0.01) });
            let recipe = Recipe { discriminant, ..data_free(SyntheticNorm::Joint) };
            let plan = plan(recipe, &[3, 2], 1);
            let (events, learner) = run(plan.clone(), &train);
            let means = learner.class_means(&train).unwrap();
            let model = &learner.classifier().unwrap().unwrap();
            let of = (&plan.increments, &plan.preparation, &plan.device);
            let evaluation = evaluate(
                Subject { classifier: model, trained: None, means: &means },
                &test,
                of.0,
                1,
                of.1,
                of.2,
            )
            .unwrap();
            (format!("{events:?}"), values(&learner), evaluation)
        })
    };
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(3));
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let (train, _) = data(4);
    let of = |seed| values(&run(plan(lwf(training(1), training(1)), &[2, 2], seed), &train).1);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn a_run_goes_on_from_a_base_model_as_from_its_own() {
    let (train, _) = data(5);
    let recipe = || data_free(SyntheticNorm::Joint);
    let mut straight = Learner::new(plan(recipe(), &[3, 2], 1)).unwrap();
    while !matches!(straight.advance(&train).unwrap(), Some(Event::TaskLearned { .. })) {}
    let base = straight.model().unwrap().snapshot().clone();
    let (_, straight) = run_from(straight, &train);

    let mut adopted = Learner::new(plan(recipe(), &[3, 2], 1)).unwrap();
    adopted.adopt_base(base.clone()).unwrap();
    let units = adopted.units();
    let (events, adopted) = run_from(adopted, &train);
    assert_eq!(values(&adopted), values(&straight));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Progress { .. })).count() as u64, units);
    assert!(matches!(events[..2], [Event::TaskStart { task: 0, .. }, Event::TaskLearned { task: 0, .. }]));

    let refused = |plan: cil_train::learner::Plan, part: &str| {
        let error = Learner::new(plan).unwrap().adopt_base(base.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let mut other = plan(recipe(), &[3, 2], 1);
    other.backbone = Architecture { width: 4, ..Architecture::lucir(14) }.into();
    refused(other, "ResNet-8 of width 4, the run needs LUCIR's ResNet-14");
    refused(plan(recipe(), &[2, 3], 1), "blocks [3]");
    refused(plan(fine_tune(training(1), training(1)), &[3, 2], 1), "Linear");
}

#[test]
fn old_head_blocks_stay_where_the_method_says_so() {
    let (train, _) = data(4);
    let blocks = |recipe| -> (Vec<u32>, Vec<u32>) {
        let mut learner = Learner::new(plan(recipe, &[2, 2], 1)).unwrap();
        let block = |learner: &Learner| {
            let found = values(learner).into_iter().find(|(name, _)| name == "head.0.weight");
            found.unwrap().1
        };
        while !matches!(learner.advance(&train).unwrap(), Some(Event::TaskLearned { .. })) {}
        let before = block(&learner);
        (before, block(&run_from(learner, &train).1))
    };
    let (before, after) = blocks(lucir(training(1), training(1), 2));
    assert_eq!(before, after);
    let (before, after) = blocks(fine_tune(training(1), training(1)));
    assert_ne!(before, after);
}

#[test]
fn a_generator_that_the_next_one_begins_as_counts_as_stored() {
    let (train, _) = data(6);
    let learned = |warm_start| {
        let mut recipe = data_free(SyntheticNorm::Joint);
        recipe.replay.as_mut().unwrap().warm_start = warm_start;
        let (events, learner) = run(plan(recipe, &[2, 2, 2], 1), &train);
        (stored_bytes(&events), learner)
    };
    let ((none, scratch), (stored, warm)) = (learned(false), learned(true));
    let generator = |it: &Learner| {
        let values = it.replay().unwrap().parameters().clone();
        values.iter().map(|(_, value)| 4 * value.elem_count() as u64).sum::<u64>()
    };
    assert_eq!(none, [0, 0, 0]);
    assert_eq!(stored, [0, generator(&warm), generator(&warm)]);
    assert_ne!(values(&scratch), values(&warm));
}

fn stored_bytes(events: &[Event]) -> Vec<u64> {
    let of = |event: &Event| match event {
        Event::TaskLearned { stored_bytes, .. } => Some(*stored_bytes),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn exemplars_are_kept_within_the_budget_and_old_images_are_read_again() {
    let (train, _) = data(4);
    let mut recipe = lucir(training(1), training(1), 0);
    recipe.exemplars = Budget::Total(8);
    let (events, learner) = run(plan(recipe, &[2, 2], 1), &train);
    assert_eq!(stored_bytes(&events), [8 * 3072, 8 * 3072]);
    assert_eq!((0..4).map(|class| learner.exemplars().of(class).len()).collect::<Vec<_>>(), [2; 4]);
    let means = learner.class_means(&train).unwrap();
    assert_eq!((means.source.as_str(), means.means.unwrap().dims()), ("exemplars", &[4, 16][..]));
}

#[test]
fn joint_learns_from_all_images_anew() {
    let (train, _) = data(4);
    let (_, learner) = run(plan(joint(training(1), training(2)), &[2, 2], 1), &train);
    // Epochs: one of base classes, two of everything.
    assert_eq!((0..4).map(|class| train.reads(class)).collect::<Vec<_>>(), [36, 36, 24, 24]);
    assert_eq!(learner.class_means(&train).unwrap().means.map(|_| ()), None);
}

#[test]
fn running_statistics_meet_generated_images_as_the_recipe_says() {
    let (train, _) = data(5);
    let statistics = |norm| -> Vec<(String, Vec<u32>)> {
        let learner = run(plan(data_free(norm), &[3, 2], 1), &train).1;
        values(&learner).into_iter().filter(|(name, _)| name.contains("running")).collect()
    };
    let base: Vec<_> = {
        let mut learner = Learner::new(plan(data_free(SyntheticNorm::Frozen), &[3, 2], 1)).unwrap();
        while !matches!(learner.advance(&train).unwrap(), Some(Event::TaskLearned { .. })) {}
        values(&learner).into_iter().filter(|(name, _)| name.contains("running")).collect()
    };
    let (joint, running) = (statistics(SyntheticNorm::Joint), statistics(SyntheticNorm::Running));
    assert_eq!(statistics(SyntheticNorm::Frozen), base);
    assert_ne!(joint, base);
    assert_ne!(running, base);
    assert_ne!(joint, running);
}
