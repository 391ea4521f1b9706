//! Terms on maps in small runs: what they learn, what they leave behind, and what is refused of them.

use std::collections::BTreeSet;

use crate::support::{data, data_free, plan, run, training, values};
use cil_backbone::{Architecture, StageCells};
use cil_data::exemplars::Budget;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;
use cil_train::methods::{both_teachers_maps, lwf};
use cil_train::recipe::{
    AdversarialImages, AdversarialReplaySpec, Carry, Columns, DiscriminantSpec, PhaseSpec, Recipe, Regressor,
    Rows, SyntheticNorm, Teachers, TermSpec, Trained, Views,
};
use cil_train::term::{CrossEntropy, DualTeacher, Rotation, Vid};
use dtid::dual::DualForm;

fn with(norm: SyntheticNorm, epochs: usize, term: TermSpec) -> Recipe {
    let mut recipe = data_free(norm);
    recipe.increment.terms.push(term);
    recipe.increment.training = training(epochs);
    recipe
}

fn vid(teachers: Teachers, stages: &[usize]) -> TermSpec {
    TermSpec::Vid(Vid {
        weight: 5.0,
        teachers,
        stages: stages.to_vec(),
        rows: Rows::Old,
        new_rows: Rows::New,
        regressor: Regressor::Plain,
    })
}

/// A loss of the student's epochs in task 1.
fn losses(events: &[Event], name: &str) -> Vec<f64> {
    let of = |event: &Event| match event {
        Event::Progress { task: 1, phase: PhaseKind::Student, losses, .. } => losses.get(name).copied(),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn the_variational_loss_falls_and_leaves_nothing_behind() {
    let (train, _) = data(5);
    for term in [both_teachers_maps(1.0), vid(Teachers::New, &[3]), vid(Teachers::Old, &[1, 2])] {
        let recipe = with(SyntheticNorm::Joint, 25, term.clone());
        let (events, learner) = run(plan(recipe, &[3, 2], 1), &train);
        let found = losses(&events, "vid");
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        assert!(mean(&found[20..]) < mean(&found[..5]) - 0.02, "{term:?}: {found:?}");
        let names: Vec<String> = values(&learner).into_iter().map(|(name, _)| name).collect();
        assert!(!names.iter().any(|name| name.contains("vid")), "{names:?}");
        learner.model().unwrap().snapshot().check().unwrap();
    }
}

#[test]
fn every_later_task_and_phase_has_it_and_a_task_of_one_class_follows_the_old_teacher() {
    let (train, _) = data(5);
    for norm in [SyntheticNorm::Joint, SyntheticNorm::Running, SyntheticNorm::Frozen] {
        let mut recipe = with(norm, 1, both_teachers_maps(1.0));
        let balance =
            PhaseSpec { trained: Trained::All, terms: recipe.increment.terms.clone(), training: training(1) };
        recipe.balance = Some(balance);
        let (events, learner) = run(plan(recipe, &[2, 2, 1], 1), &train);
        let found: BTreeSet<(usize, String)> = events
            .iter()
            .filter_map(|event| match event {
                Event::Progress { task, phase, losses, .. } => {
                    losses.get("vid").map(|_| (*task, format!("{phase:?}")))
                }
                _ => None,
            })
            .collect();
        let phases: Vec<_> = found.iter().map(|(task, phase)| (*task, phase.as_str())).collect();
        assert_eq!(phases, [(1, "Balance"), (1, "Student"), (2, "Balance"), (2, "Student")]);
        assert_eq!(learner.model().unwrap().classes(), 5);
    }
}

#[test]
fn a_new_teacher_that_learns_exemplars_is_there_for_a_task_of_one_class_too() {
    let (train, _) = data(5);
    let mut recipe = with(SyntheticNorm::Joint, 2, both_teachers_maps(1.0));
    recipe.exemplars = Budget::PerClass(3);
    let learned = |exemplars| {
        let mut recipe = recipe.clone();
        recipe.new_teacher.as_mut().unwrap().exemplars = exemplars;
        let (events, learner) = run(plan(recipe, &[2, 2, 1], 1), &train);
        let of = |event: &Event| match event {
            Event::Progress { task, phase: PhaseKind::NewTeacher, images, .. } => Some((*task, *images)),
            _ => None,
        };
        (events.iter().filter_map(of).collect::<Vec<_>>(), values(&learner))
    };
    let n_new = train.samples(2..4).len();
    let ((without, one), (with, other)) = (learned(false), learned(true));
    // Of each task's new images, and three exemplars of each class before.
    assert_eq!(without, [(1, n_new)]);
    assert_eq!(with, [(1, n_new + 2 * 3), (2, train.samples(4..5).len() + 4 * 3)]);
    assert_ne!(one, other);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (train, _) = data(5);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let recipe = with(SyntheticNorm::Running, 2, both_teachers_maps(1.0));
            let (events, learner) = run(plan(recipe, &[3, 2], 1), &train);
            (format!("{events:?}"), values(&learner))
        })
    };
    let one = with(1);
    assert!(one == with(2) && one == with(3));
}

#[test]
fn a_term_on_maps_changes_what_is_learned() {
    let (train, _) = data(4);
    let learned = |weight| {
        values(&run(plan(with(SyntheticNorm::Joint, 1, both_teachers_maps(weight)), &[2, 2], 1), &train).1)
    };
    assert_ne!(learned(1.0), learned(0.5));
    // A weight of nothing moves nothing.
    let mut plain = data_free(SyntheticNorm::Joint);
    plain.increment.training = training(1);
    assert_eq!(learned(0.0), values(&run(plan(plain, &[2, 2], 1), &train).1));
}

#[test]
fn nonsense_is_named() {
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = with(SyntheticNorm::Joint, 1, vid(Teachers::Both, &[]));
        change(&mut recipe);
        let error = match Learner::new(plan(recipe, &[2, 2], 1)) {
            Ok(_) => panic!("{part} was not refused"),
            Err(error) => format!("{error:#}"),
        };
        assert!(error.contains(part), "{error}");
    };
    let given = |recipe: &mut Recipe| recipe.new_teacher.as_mut().unwrap().exemplars = true;
    let shrunk = |shrinkage| {
        move |recipe: &mut Recipe| recipe.discriminant = Some(DiscriminantSpec::pooled(shrinkage))
    };
    refused(&shrunk(0.0), "discriminant.shrinkage is 0.0; use a value above 0");
    refused(&shrunk(f64::NAN), "discriminant.shrinkage is NaN");
    let cells = |stage, cells| {
        move |recipe: &mut Recipe| {
            let stages = vec![StageCells { stage, cells, normalised: true }];
            recipe.discriminant = Some(DiscriminantSpec { stages, ..DiscriminantSpec::pooled(0.01) });
        }
    };
    refused(&cells(4, 1), "discriminant.stages.0.stage is 4; LUCIR's ResNet-8 of width 4 has stages 1 to 3");
    refused(&cells(1, 17), "discriminant.stages.0.cells is 17; use a value from 1 to 16");
    let random = |count| {
        move |recipe: &mut Recipe| {
            let random_features = Some(count);
            recipe.discriminant =
                Some(DiscriminantSpec { random_features, ..DiscriminantSpec::pooled(0.01) });
        }
    };
    refused(&random(0), "discriminant.random-features is 0; use a value from 1 to 8192");
    refused(&random(1 << 40), "use a value from 1 to 8192");
    let answered = |change: &dyn Fn(&mut DiscriminantSpec)| {
        let mut spec = DiscriminantSpec::pooled(0.01);
        change(&mut spec);
        move |recipe: &mut Recipe| recipe.discriminant = Some(spec.clone())
    };
    let images = AdversarialImages::published();
    for (sigma, said) in [(0.0, "0.0"), (f64::NAN, "NaN"), (1e9, "1000000000")] {
        refused(
            &answered(&|it| it.carry = Carry::Nearby { sigma }),
            &format!("discriminant.carry.sigma is {said}"),
        );
    }
    let few = Carry::Adversarial(AdversarialImages { images: 0, ..images });
    refused(&answered(&|it| it.carry = few), "discriminant.carry.images is 0; use a value from 1 to 100000");
    let many = Carry::Adversarial(AdversarialImages { iterations: usize::MAX, ..images });
    refused(&answered(&|it| it.carry = many), "discriminant.carry.iterations is 18446744073709551615");
    let still = Carry::Adversarial(AdversarialImages { step: 0.0, ..images });
    refused(&answered(&|it| it.carry = still), "discriminant.carry.step is 0.0");
    let random = |it: &mut DiscriminantSpec| {
        (it.carry, it.random_features) = (Carry::Adversarial(images), Some(4));
    };
    refused(&answered(&random), "random-features is set");
    let nothing = Views { rotated: false, augmented: 0, pasted: 0 };
    refused(&answered(&|it| it.views = Some(nothing)), "discriminant.views names no view");
    let many = Views { pasted: 101, ..nothing };
    refused(
        &answered(&|it| it.views = Some(many)),
        "discriminant.views.pasted is 101; use a value from 0 to 100",
    );
    let both = |it: &mut DiscriminantSpec| (it.nearest_mean, it.ridge) = (true, true);
    refused(&answered(&both), "discriminant.nearest-mean and ridge are both true");
    let spec = AdversarialReplaySpec { images: 5, step: 1.0, iterations: 2, noise: 1.0, batch: 4 };
    let adversarial = |spec: AdversarialReplaySpec, discriminant: Option<DiscriminantSpec>| {
        move |recipe: &mut Recipe| {
            *recipe = lwf(training(1), training(1));
            (recipe.adversarial, recipe.discriminant) = (Some(spec), discriminant.clone());
        }
    };
    let pooled = || Some(DiscriminantSpec::pooled(0.01));
    for (spec, part) in [
        (AdversarialReplaySpec { images: 0, ..spec }, "adversarial.images is 0; use a value from 1"),
        (AdversarialReplaySpec { step: f64::INFINITY, ..spec }, "adversarial.step is inf"),
        (AdversarialReplaySpec { iterations: 0, ..spec }, "adversarial.iterations is 0"),
        (AdversarialReplaySpec { noise: -1.0, ..spec }, "adversarial.noise is -1"),
        (AdversarialReplaySpec { batch: 1 << 20, ..spec }, "adversarial.batch is 1048576"),
    ] {
        refused(&adversarial(spec, pooled()), part);
    }
    refused(&adversarial(spec, None), "no class means are kept; add the table discriminant");
    let random = DiscriminantSpec { random_features: Some(4), ..DiscriminantSpec::pooled(0.01) };
    refused(&adversarial(spec, Some(random)), "leave random-features, fecam and fetril out");
    let twice = |recipe: &mut Recipe| (recipe.adversarial, recipe.discriminant) = (Some(spec), pooled());
    refused(&twice, "adversarial and replay are both set");
    let aimed = |discriminant: Option<DiscriminantSpec>| {
        move |recipe: &mut Recipe| {
            let replay = recipe.replay.as_mut().unwrap();
            (replay.inversion.generator.conditional, replay.inversion.weights.features) = (true, 2.0);
            recipe.discriminant = discriminant.clone();
        }
    };
    refused(&aimed(None), "replay.inversion.weights.features is 2; it needs the means");
    let random = DiscriminantSpec { random_features: Some(4), ..DiscriminantSpec::pooled(0.01) };
    refused(&aimed(Some(random)), "replay.inversion.weights.features is 2; it needs the means");
    let turning = |terms: &'static [f64], trained| {
        move |recipe: &mut Recipe| {
            let terms = terms.iter().map(|weight| Rotation { weight: *weight }.into());
            recipe.increment.terms =
                terms.chain([CrossEntropy::plain(Rows::New, Columns::New).into()]).collect();
            recipe.increment.trained = trained;
        }
    };
    refused(
        &turning(&[1.0, 1.0], Trained::All),
        "increment.terms.0 and increment.terms.1 are both rotation terms",
    );
    refused(
        &turning(&[1.0], Trained::Head),
        "increment.terms.0 is a rotation term, which trains the backbone",
    );
    let mut recipe = lwf(training(1), training(1));
    recipe.check_sides(3, 4).unwrap();
    let views = Views { rotated: true, augmented: 0, pasted: 0 };
    recipe.discriminant = Some(DiscriminantSpec { views: Some(views), ..DiscriminantSpec::pooled(0.01) });
    let error = recipe.check_sides(3, 4).unwrap_err().to_string();
    assert!(error.contains("discriminant.views.rotated is true; the images are 3 x 4"), "{error}");
    recipe.discriminant = None;
    recipe.base.terms.push(Rotation { weight: 1.0 }.into());
    let error = recipe.check_sides(3, 4).unwrap_err().to_string();
    assert!(error.contains("base.terms.1 is a rotation term; the images are 3 x 4"), "{error}");
    recipe.check_sides(4, 4).unwrap();
    refused(&given, "new-teacher.exemplars is true and no exemplar is kept");
    let joint = |recipe: &mut Recipe| {
        for term in &mut recipe.increment.terms {
            if let TermSpec::DualTeacher(DualTeacher { config, rows, .. }) = term {
                (config.form, *rows) = (DualForm::Joint { weight: 1.0, match_scale: false }, Rows::Old);
            }
        }
    };
    refused(&joint, "form is \"joint\", which follows both teachers on new-rows");
    let put = |teachers, stages: &'static [usize]| {
        move |recipe: &mut Recipe| *recipe.increment.terms.last_mut().unwrap() = vid(teachers, stages)
    };
    refused(&put(Teachers::Old, &[1, 4]), "stages holds 4; LUCIR's ResNet-8 of width 4 has stages 1 to 3");
    refused(&put(Teachers::Old, &[0]), "increment.terms.3: stages holds 0; stages are numbered from 1");
    refused(&put(Teachers::Old, &[2, 1, 2]), "stages holds 2 twice");
    refused(
        &|recipe| {
            recipe.new_teacher = None;
            recipe.increment.terms.remove(2);
        },
        "is a vid term of the new teacher; add the table new-teacher, or set teachers to \"old\"",
    );
    refused(&|recipe| recipe.increment.terms.push(vid(Teachers::New, &[1])), "two vid terms of one teacher");
    refused(
        &|recipe| recipe.increment.trained = Trained::Head,
        "acts on the backbone's maps; set increment.trained to \"all\"",
    );
    let mut podnet = plan(with(SyntheticNorm::Joint, 1, vid(Teachers::Old, &[4])), &[2, 2], 1);
    podnet.backbone = Architecture { width: 4, ..Architecture::podnet(8) }.into();
    assert!(Learner::new(podnet).is_ok());
}
