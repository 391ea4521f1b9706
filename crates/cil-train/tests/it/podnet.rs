//! PODNet in small runs and step by step: its terms' schedules against PyTorch, its proxies, its fine-tuning, and both
//! schemes on top of it.

use std::collections::BTreeMap;

use crate::golden::{Case, assert_close, flat};
use crate::support::{data, replay, run, training, values};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{Architecture, HeadKind, HeadWeights, Outputs, POOLED};
use cil_engine::{Graph, GraphBuilder, Op, Shape};
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::{Learner, Plan};
use cil_train::methods::{both_teachers_maps, podnet, with_dfgr, with_dtid, without_maps_of_its_own};
use cil_train::recipe::{NewTeacherSpec, Recipe, Rows, SyntheticNorm, TermSpec};
use cil_train::step::Step;
use cil_train::term::{Nca, Objective, PodFlat, PodSpatial};
use dtid::dual::{DtidConfig, DualForm};

const GOLDEN: &str = include_str!("../golden/losses.json");

fn plan(recipe: Recipe, increments: &[usize]) -> Plan {
    let architecture = Architecture { width: 4, ..Architecture::podnet(8) };
    Plan { backbone: architecture.into(), ..crate::support::plan(recipe, increments, 1) }
}

fn recipe(exemplars: usize) -> Recipe {
    podnet(training(1), training(1), training(2), exemplars)
}

/// Two stages and pooled features, for terms that ask which maps there are.
fn graph() -> Graph {
    let mut graph = GraphBuilder::new(Shape::Map { channels: 2, height: 4, width: 4 });
    let input = graph.input();
    let first = graph.add("first", Op::Relu, &[input]).unwrap();
    let second = graph.add("second", Op::Relu, &[first]).unwrap();
    let pooled = graph.add("pool", Op::GlobalAvgPool, &[second]).unwrap();
    graph.tap("stage1", first);
    graph.tap("stage2", second);
    graph.tap(POOLED, pooled);
    graph.build().unwrap()
}

fn view(features: Tensor, maps: [Tensor; 2]) -> Outputs {
    let rows = features.dim(0).unwrap();
    let logits = Tensor::zeros((rows, 9), DType::F64, &Device::Cpu).unwrap();
    let maps = ["stage1", "stage2"].map(str::to_owned).into_iter().zip(maps);
    Outputs { features, logits, similarities: None, scale: None, maps: maps.collect::<BTreeMap<_, _>>() }
}

/// The objective of one term, of five old classes and four new ones: the factor sqrt(9 / 4) is 1.5.
fn objective(term: TermSpec, student: &Outputs, old: &Outputs, labels: &[u32]) -> f64 {
    // No term of these reads the head.
    let head = HeadWeights {
        kind: HeadKind::WithoutBias,
        weights: Vec::new(),
        biases: Vec::new(),
        scale: None,
        projection: None,
        power: None,
    };
    let all = Tensor::new(labels, &Device::Cpu).unwrap();
    let step = Step {
        old_classes: 5,
        classes: 9,
        labels: &all,
        new_rows: 0..1,
        exemplar_rows: 1..2,
        synthetic_rows: 2..labels.len(),
        student,
        old: Some(old),
        new: None,
        new_of_all: None,
        turned: None,
        head: &head,
        old_head: None,
        feature_matrix: None,
        exemplar_share: None,
        class_counts: &[],
        aux_nets: BTreeMap::new(),
    };
    let outcome = Objective::new(&[term], &graph()).unwrap().loss(&step).unwrap();
    outcome.total.to_scalar().unwrap()
}

#[test]
fn both_distillations_have_podnet_s_factors() {
    let (flat_case, spatial) = (Case::load(GOLDEN, "pod_flat"), Case::load(GOLDEN, "pod_of_two_maps"));
    let maps = |of: &str, rows| {
        ["0", "1"].map(|at| spatial.tensor(&format!("{of}{at}")).narrow(0, 0, rows).unwrap())
    };
    let nothing = |rows: usize| Tensor::zeros((rows, 3), DType::F64, &Device::Cpu).unwrap();
    let (student, old) = (
        view(flat_case.tensor("student"), maps("student", 3)),
        view(flat_case.tensor("old"), maps("old", 3)),
    );
    let term = |adaptive| TermSpec::PodFlat(PodFlat { weight: 2.0, adaptive, rows: Rows::All });
    let expected = flat_case.value();
    assert_close(objective(term(true), &student, &old, &[6, 0, 1, 2]), expected, 1e-12, "flat");
    assert_close(
        objective(term(false), &student, &old, &[6, 0, 1, 2]),
        expected / 1.5,
        1e-12,
        "flat, constant",
    );

    let (student, old) = (view(nothing(3), maps("student", 3)), view(nothing(3), maps("old", 3)));
    let term = |adaptive, rows| TermSpec::PodSpatial(PodSpatial { weight: 0.7, adaptive, rows });
    let (labels, expected) = ([6, 0, 1], spatial.value());
    let all = objective(term(true, Rows::All), &student, &old, &labels);
    assert_close(all, 1.5 * expected, 1e-12, "spatial");
    let constant = objective(term(false, Rows::All), &student, &old, &labels);
    assert_close(constant, expected, 1e-12, "spatial, constant");
    // Rows that are not asked for count for nothing: two of three, the mean over these.
    let part = |rows| objective(term(false, rows), &student, &old, &labels);
    let thirds = (2.0 * part(Rows::Real) + part(Rows::Synthetic)) / 3.0;
    assert_close(thirds, constant, 1e-12, "rows");
    assert!((part(Rows::Real) - constant).abs() > 1e-3);
}

/// The phases of later tasks, in order.
fn phases(events: &[Event]) -> Vec<(usize, PhaseKind)> {
    let of = |event: &Event| match event {
        Event::Progress { task, phase, done: 1, .. } => Some((*task, *phase)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_run_with_exemplars_fine_tunes_on_as_many_images_of_every_class() {
    let (train, _) = data(5);
    let (events, learner) = run(plan(recipe(4), &[3, 2]), &train);
    assert_eq!(phases(&events), [(0, PhaseKind::Student), (1, PhaseKind::Student), (1, PhaseKind::Balance)]);
    let images = |of: PhaseKind| {
        let found = events.iter().find_map(|event| match event {
            Event::Progress { task: 1, phase, images, .. } if *phase == of => Some(*images),
            _ => None,
        });
        found.unwrap()
    };
    // Twelve images of each new class and four exemplars of each old one; then four of all five.
    assert_eq!((images(PhaseKind::Student), images(PhaseKind::Balance)), (2 * 12 + 3 * 4, 5 * 4));
    let head = &learner.model().unwrap().snapshot().head;
    assert_eq!((head.kind, head.blocks.as_slice()), (HeadKind::MultiProxy { proxies: 10 }, &[3, 2][..]));
    let means = learner.class_means(&train).unwrap();
    assert_eq!((means.source.as_str(), means.means.unwrap().dims()), ("exemplars", &[5, 16][..]));
}

/// Runs task 0 and 1 and returns the values after each and before fine-tuning, by name.
fn stages(recipe: Recipe) -> [BTreeMap<String, Vec<u32>>; 3] {
    let (train, _) = data(5);
    let mut learner = Learner::new(plan(recipe, &[3, 2])).unwrap();
    let mut found = Vec::new();
    while let Some(event) = learner.advance(&train).unwrap() {
        let learned = matches!(event, Event::TaskLearned { .. });
        let trained = matches!(event, Event::Progress { task: 1, phase: PhaseKind::Student, .. });
        if learned || trained {
            found.push(values(&learner).into_iter().collect());
        }
    }
    found.try_into().unwrap()
}

#[test]
fn old_proxies_stay_in_training_and_all_move_in_fine_tuning_which_leaves_backbone_and_scale() {
    let [base, trained, tuned] = stages(recipe(4));
    let changed = |left: &BTreeMap<String, Vec<u32>>, right: &BTreeMap<String, Vec<u32>>| -> Vec<String> {
        let differs = |(name, value): (&String, &Vec<u32>)| (left.get(name)? != value).then(|| name.clone());
        right.iter().filter_map(differs).collect()
    };
    let in_training = changed(&base, &trained);
    assert!(!in_training.contains(&"head.0.weight".to_owned()), "{in_training:?}");
    for name in ["head.scale", "stage1.block0.conv1.weight"] {
        assert!(in_training.contains(&name.to_owned()), "{name} stayed");
    }
    let in_tuning = changed(&trained, &tuned);
    let (statistics, weights): (Vec<_>, Vec<_>) = in_tuning.iter().partition(|name| name.contains("running"));
    assert_eq!(weights, ["head.0.weight", "head.1.weight"]);
    assert!(!statistics.is_empty(), "the running statistics stayed");
}

#[test]
fn new_proxies_begin_at_centres_of_the_class_with_the_old_ones_mean_length() {
    // A rate that moves next to nothing shows where they began.
    let mut still = recipe(0);
    still.increment.training.learning_rate = 1e-12;
    still.increment.training.weight_decay = 0.0;
    let (train, _) = data(5);
    let (_, learner) = run(plan(still.clone(), &[3, 2]), &train);
    let model = learner.model().unwrap();
    let rows = |block: usize| -> Vec<Vec<f64>> {
        let block = model.snapshot().parameters.get(&format!("head.{block}.weight")).unwrap();
        flat(block).chunks_exact(block.dim(1).unwrap()).map(<[f64]>::to_vec).collect()
    };
    let length = |row: &Vec<f64>| row.iter().map(|it| it * it).sum::<f64>().sqrt();
    let old = rows(0);
    let mean = old.iter().map(length).sum::<f64>() / old.len() as f64;
    let new = rows(1);
    assert_eq!((old.len(), new.len()), (30, 20));
    // A centre of directions is no longer than one: it is not brought to length one before it is scaled.
    assert!(new.iter().all(|row| length(row) <= mean * (1.0 + 1e-5)), "{mean}");
    // Ten centres of twelve images: most are one image, so of length one, and those of a pair are shorter.
    let whole = new.iter().filter(|row| length(row) > mean * 0.999_999).count();
    assert!((12..20).contains(&whole), "{whole} of 20");
    // The draw is of the run's seed: repeated, and another with another seed.
    let again = run(plan(still.clone(), &[3, 2]), &train).1;
    assert_eq!(values(&again), values(&learner));
    let mut uninitialised = still;
    uninitialised.imprint = false;
    assert_ne!(values(&run(plan(uninitialised, &[3, 2]), &train).1), values(&learner));
}

#[test]
fn both_schemes_compose_with_it_and_see_generated_images() {
    let (train, _) = data(5);
    let teacher = NewTeacherSpec { from_old: true, exemplars: false, training: training(1) };
    let both = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
    for (exemplars, kept) in [(0, true), (4, true), (0, false)] {
        let base = if kept { recipe(exemplars) } else { without_maps_of_its_own(recipe(exemplars)) };
        let recipe = with_dfgr(base, replay(SyntheticNorm::Joint));
        let recipe = with_dtid(recipe, teacher.clone(), 1.0, both, Some(both_teachers_maps(1.0)));
        let (events, learner) = run(plan(recipe, &[2, 2, 1]), &train);
        let last = events.iter().rev().find_map(|event| match event {
            Event::Progress { task: 1, phase: PhaseKind::Student, losses, .. } => Some(losses.clone()),
            _ => None,
        });
        let mut names = vec!["dual-teacher", "nca", "pod-flat", "total", "vid"];
        if kept {
            names.insert(3, "pod-spatial");
        }
        assert_eq!(last.unwrap().keys().collect::<Vec<_>>(), names);
        let tuned = phases(&events).contains(&(2, PhaseKind::Balance));
        assert_eq!((tuned, learner.model().unwrap().classes()), (exemplars > 0, 5));
    }
}

#[test]
fn a_gradient_s_limit_is_kept() {
    let (train, _) = data(4);
    let learned = |limit| {
        let mut recipe = recipe(0);
        recipe.base.training.gradient_limit = limit;
        values(&run(plan(recipe, &[4]), &train).1)
    };
    assert_eq!(learned(None), learned(Some(1e6)));
    assert_ne!(learned(None), learned(Some(1e-3)));
}

#[test]
fn nonsense_is_named() {
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = recipe(4);
        change(&mut recipe);
        let error = format!("{:#}", recipe.check().unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    refused(&|it| it.head = HeadKind::MultiProxy { proxies: 0 }, "head.multi-proxy.proxies is 0");
    refused(&|it| it.head = HeadKind::Linear, "set head to \"cosine\" or \"multi-proxy\"");
    refused(
        &|it| it.base.trained = cil_train::recipe::Trained::ClassWeights,
        "base.trained is \"class-weights\"",
    );
    refused(&|it| it.increment.trained = cil_train::recipe::Trained::ClassWeights, "to \"all\"");
    refused(&|it| it.base.training.gradient_limit = Some(0.0), "base.training.gradient-limit is 0");
    let paper = |margin| cil_train::loss::nca::NcaForm::Paper { margin };
    let nca =
        |margin| TermSpec::Nca(Nca { weight: 1.0, form: paper(margin), rows: Rows::Real, balanced: false });
    refused(&|it| it.increment.terms[0] = nca(f64::NAN), "form.paper.margin is NaN");
    refused(
        &|it| {
            (it.head, it.imprint) = (HeadKind::Linear, false);
            it.increment.terms[0] = nca(0.6);
        },
        "its margin is between cosines",
    );
}
