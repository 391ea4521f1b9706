//! A learning step's gradient by finite differences in `f64`: all passes, both teachers, generated images and every
//! term.

use std::collections::BTreeSet;
use std::sync::Arc;

use cil_backbone::{Architecture, HeadKind};
use cil_data::augment::Augmentation;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::SampleId;
use cil_engine::optim::Schedule;
use cil_engine::reference::ReferenceExecutor;
use cil_engine::{Executor, ExecutorFactory, Shape};
use dfgr::{Inversion, InversionConfig};
use dtid::dual::{DtidConfig, DualForm};

use super::*;
use crate::loss::nca::NcaForm;
use crate::recipe::{Columns, Regressor, ReplaySpec, Rows, SyntheticNorm, Teachers, TermSpec, Training};
use crate::term::{
    CrossEntropy, DualTeacher, LessForget, LogitKd, MarginRanking, Nca, PodFlat, PodSpatial, Vid,
};
use candle_core::{DType, Device};
use cil_data::augment::Preparation;
use cil_engine::ForwardSpec;

fn executors() -> ExecutorFactory {
    Arc::new(|graph| Ok(Arc::new(ReferenceExecutor::new(graph)) as Arc<dyn Executor>))
}

/// A network of two head blocks or one, in `f64`, with statistics that are not the initial ones.
fn network(kind: HeadKind, blocks: &[usize], seed: u64) -> Result<Network> {
    let images = Shape::Map { channels: 3, height: 32, width: 32 };
    let architecture = Architecture { width: 2, ..Architecture::lucir(8) };
    let mut network = Network::new(architecture, images, kind, &executors(), seed, &Device::Cpu)?;
    blocks.iter().try_for_each(|classes| network.grow(*classes))?;
    if kind.is_scaled() {
        network.parameters_mut().set("head.scale", Tensor::new(&[3f32], &Device::Cpu)?);
    }
    let mut stream = Draw::new(seed, "test").stream("pixels");
    let pixels: Vec<f32> = (0..4 * 3072).map(|_| stream.normal() as f32).collect();
    let pixels = Tensor::from_vec(pixels, (4, 3, 32, 32), &Device::Cpu)?;
    let update = network.executor().forward(network.parameters(), &pixels, ForwardSpec::TRAIN)?.statistics;
    network.parameters_mut().update_statistics(&update.unwrap_or_default(), 0.7)?;
    let mut snapshot = network.snapshot();
    snapshot.parameters = snapshot.parameters.to_dtype(DType::F64)?;
    Ok(Network::from_snapshot(snapshot, &executors(), seed, &Device::Cpu)?)
}

fn terms(form: DualForm, trained: Trained) -> Vec<TermSpec> {
    let (columns, rows) = (Columns::Seen, Rows::All);
    let vid = |teachers, rows, regressor| {
        TermSpec::Vid(Vid { weight: 2.0, teachers, stages: vec![3, 1], rows, new_rows: Rows::New, regressor })
    };
    let on_maps = vec![
        vid(Teachers::Old, Rows::Old, Regressor::Normed),
        vid(Teachers::New, Rows::All, Regressor::Plain),
        TermSpec::PodSpatial(PodSpatial { weight: 0.9, adaptive: true, rows: Rows::Old }),
    ];
    let mut terms = vec![
        TermSpec::CrossEntropy(CrossEntropy { weight: 0.7, rows, columns, balanced: true, smoothing: 0.1 }),
        TermSpec::Nca(Nca { weight: 0.5, form: NcaForm::Released, rows, balanced: true }),
        TermSpec::CrossEntropy(CrossEntropy {
            weight: 0.4,
            rows: Rows::New,
            columns: Columns::New,
            balanced: false,
            smoothing: 0.2,
        }),
        TermSpec::LogitKd(LogitKd { weight: 0.3, temperature: 2.0, rows: Rows::Real }),
        TermSpec::LessForget(LessForget { weight: 0.5, adaptive: true, rows }),
        TermSpec::PodFlat(PodFlat { weight: 0.3, adaptive: true, rows: Rows::Real }),
        TermSpec::MarginRanking(MarginRanking { weight: 0.6, margin: 1.7, negatives: 2, rows: Rows::Old }),
        TermSpec::DualTeacher(DualTeacher {
            weight: 0.8,
            config: DtidConfig { temperature: 1.5, form },
            rows: Rows::All,
            new_rows: Rows::New,
        }),
    ];
    if trained == Trained::All {
        terms.extend(on_maps);
    }
    terms
}

fn training() -> Training {
    Training {
        epochs: 1,
        batch: 8,
        learning_rate: 0.1,
        schedule: Schedule::constant(),
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
        gradient_limit: None,
        drop_last: false,
    }
}

fn check(norm: SyntheticNorm, trained: Trained, freeze_old_head: bool, form: DualForm) -> Result<()> {
    let parts = if trained == Trained::All { 9 } else { 7 };
    check_terms(HeadKind::Cosine, terms(form, trained), parts, norm, trained, freeze_old_head)
}

/// The grad of what the host draws.
fn grad_of(job: &Job, samples: &[SampleId], draws: &Draws<'_>, context: &PhaseContext<'_>) -> Result<Grad> {
    let drawn = job.draw_inputs(samples, draws, context)?;
    job.grad(&drawn.layout, &drawn.tensors, context)
}

/// A job and the inputs of a step.
type StepCheck<'a> = &'a dyn Fn(&mut Job, &[SampleId], &Draws<'_>, &PhaseContext<'_>) -> Result<()>;

/// A step of three new images, two exemplars and five generated ones, of three old classes and two new.
fn on_step(
    kind: HeadKind,
    terms: Vec<TermSpec>,
    norm: SyntheticNorm,
    trained: Trained,
    freeze_old_head: bool,
    check: StepCheck<'_>,
) -> Result<()> {
    let config = ProceduralConfig { classes: 5, train_per_class: 2, test_per_class: 1 };
    let dataset = Dataset::procedural(&config, 1)?;
    let (train, _) = dataset.split(&ClassOrder::seeded(5, 1), 0, Evaluate::Test)?;
    let preparation =
        Preparation { augmentation: Augmentation::none(), normalisation: Normalisation::half() };
    let (old, new) = (network(kind, &[3], 1)?.freeze()?, network(kind, &[2], 2)?.freeze()?);
    let mut inversion = InversionConfig::unconditional(1);
    (inversion.generator.channels, inversion.generator.latent) = (2, 4);
    let generator =
        Inversion::new(inversion.clone(), old.clone(), &executors(), 1, 1, &Device::Cpu)?.replay();
    let replay =
        ReplaySpec { inversion, batch: 5, synthetic_norm: norm, exemplar_share: None, warm_start: false };
    let context =
        PhaseContext { train: &train, preparation: &preparation, device: &Device::Cpu, seed: 1, task: 1 };
    let teachers = FrozenNetworks {
        old: Some(old),
        feature_matrix: Some(metric(8)?),
        new: Some(new),
        replay: Some((generator, replay)),
        adversarial: None,
        new_replay: None,
    };
    let spec = PhaseSpec { trained, terms, training: training() };
    // Three new images and two exemplars.
    let samples = [train.samples(3..5)[..3].to_vec(), train.samples(0..1)].concat();
    let source = Source::Samples(samples.clone());
    let classes = Classes { columns: 0..5, n_old: 3, freeze_old_head, positive_head: false };
    let student = network(kind, &[3, 2], 3)?;
    let mut job = Job::new(PhaseKind::Student, student, spec, source, classes, teachers, (1, 1))?;
    job.class_counts = job.class_counts(&context, Draw::new(1, "counts"))?;
    let noise = ["noise", "new noise"].map(|purpose| Draw::new(1, purpose));
    let draws = Draws { images: Draw::new(1, "images"), noise };
    check(&mut job, &samples, &draws, &context)
}

/// A matrix that is symmetric and positive definite, as a feature matrix is but for rounding.
fn metric(width: usize) -> Result<Tensor> {
    let values: Vec<f64> = (0..width * width).map(|at| ((at * 7 % 11) as f64 - 5.0) / 10.0).collect();
    let root = Tensor::from_vec(values, (width, width), &Device::Cpu)?;
    Ok(root.matmul(&root.t()?.contiguous()?)?)
}

/// That many losses have a name, and the gradient of their sum is right.
fn check_terms(
    kind: HeadKind,
    terms: Vec<TermSpec>,
    parts: usize,
    norm: SyntheticNorm,
    trained: Trained,
    freeze_old_head: bool,
) -> Result<()> {
    on_step(kind, terms, norm, trained, freeze_old_head, &|job, samples, draws, context| {
        gradient_is_right(job, samples, draws, context, parts)?;
        assert_eq!(
            freeze_old_head,
            !job.groups.iter().flat_map(|group| &group.names).any(|name| name == "head.0.weight")
        );
        Ok(())
    })
}

fn gradient_is_right(
    job: &mut Job,
    samples: &[SampleId],
    draws: &Draws<'_>,
    context: &PhaseContext<'_>,
    parts: usize,
) -> Result<()> {
    let norm = job.teachers.replay.as_ref().map(|(_, spec)| spec.synthetic_norm);
    let trained = job.spec.trained;
    assert_eq!(job.draw_inputs(samples, draws, context)?.layout.rows(), 10);
    let grad = grad_of(job, samples, draws, context)?;
    assert_eq!(grad.parts.len(), parts, "{:?}", grad.parts.keys());
    assert_eq!(
        grad.updates.is_empty(),
        norm == Some(SyntheticNorm::Frozen) || matches!(trained, Trained::Head | Trained::Correction)
    );
    let trained: Vec<String> = grad.gradients.iter().map(|(name, _)| name.to_owned()).collect();
    let own = job.groups.iter().flat_map(|group| group.names.clone());
    let mut wanted: Vec<String> = own.chain(job.aux_nets.group.names.clone()).collect();
    wanted.sort();
    assert_eq!(trained, wanted);

    let step = 1e-6;
    let brought =
        |name: &str| ["vid", "relation", "projected-kd", "rotation"].iter().any(|it| name.starts_with(it));
    // Every fourth weight, the head, and what terms bring: the reference executor is slow.
    let all = |name: &str| name.contains("head") || name.contains("correction") || brought(name);
    for (turn, name) in trained.iter().enumerate().filter(|(turn, name)| turn % 4 == 0 || all(name)) {
        let grads = grad.gradients.get(name).unwrap().flatten_all()?.to_vec1::<f64>()?;
        let at = (turn * 31) % grads.len();
        let mut moved = |by: f64| -> Result<f64> {
            let store = |job: &mut Job, value: Tensor| match brought(name) {
                true => job.aux_nets.parameters.set(name, value),
                false => job.network.parameters_mut().set(name, value),
            };
            let own = job.aux_nets.parameters.get(name).or_else(|_| job.network.parameters().get(name));
            let before = own?.clone();
            let mut values = before.flatten_all()?.to_vec1::<f64>()?;
            values[at] += by;
            store(job, Tensor::from_vec(values, before.dims(), &Device::Cpu)?);
            let total = grad_of(job, samples, draws, context)?.total.to_scalar::<f64>()?;
            store(job, before);
            Ok(total)
        };
        let difference = (moved(step)? - moved(-step)?) / (2.0 * step);
        let error = (grads[at] - difference).abs();
        assert!(error < 1e-5 * (1.0 + difference.abs()), "{name}[{at}]: {} is not {difference}", grads[at]);
    }
    Ok(())
}

const COLUMNS: DualForm = DualForm::Columns { old: 0.6, new: 0.9 };

#[test]
fn the_gradient_is_right_when_generated_images_have_a_pass_of_their_own() -> Result<()> {
    check(SyntheticNorm::Running, Trained::All, true, COLUMNS)
}

#[test]
fn the_gradient_is_right_when_all_images_share_a_batch() -> Result<()> {
    check(SyntheticNorm::Joint, Trained::All, false, COLUMNS)
}

#[test]
fn the_gradient_is_right_when_statistics_are_frozen() -> Result<()> {
    check(SyntheticNorm::Frozen, Trained::All, true, DualForm::Joint { weight: 0.9, match_scale: true })
}

#[test]
fn the_gradient_is_right_when_the_head_alone_is_trained() -> Result<()> {
    check(SyntheticNorm::Joint, Trained::Head, false, COLUMNS)
}

/// PODNet's loss in the paper's form, whose margin needs the scale.
fn podnet(trained: Trained) -> Vec<TermSpec> {
    let form = NcaForm::Paper { margin: 0.6 };
    let mut terms = vec![TermSpec::Nca(Nca { weight: 1.0, form, rows: Rows::All, balanced: true })];
    if trained == Trained::All {
        terms.push(TermSpec::PodFlat(PodFlat { weight: 1.0, adaptive: true, rows: Rows::All }));
        terms.push(TermSpec::PodSpatial(PodSpatial { weight: 3.0, adaptive: true, rows: Rows::All }));
    }
    terms
}

const PROXIES: HeadKind = HeadKind::MultiProxy { proxies: 3 };

#[test]
fn the_gradient_is_right_with_several_proxies_a_class() -> Result<()> {
    check_terms(PROXIES, podnet(Trained::All), 3, SyntheticNorm::Running, Trained::All, true)
}

#[test]
fn the_gradient_is_right_when_weights_of_classes_alone_are_trained() -> Result<()> {
    for norm in [SyntheticNorm::Joint, SyntheticNorm::Running] {
        check_terms(PROXIES, podnet(Trained::ClassWeights), 1, norm, Trained::ClassWeights, false)?;
    }
    Ok(())
}

/// A term of the list has a check here, and one name in configurations and events.
#[test]
fn every_term_of_the_list_has_its_gradient_checked() -> Result<()> {
    let checked = [
        terms(COLUMNS, Trained::All),
        podnet(Trained::All),
        rivals::of_shares(),
        rivals::data_free(),
        rivals::of_features(),
        rivals::turned(),
        rivals::head_alone(),
    ]
    .concat();
    let graph = Architecture::lucir(8).graph(Shape::Map { channels: 3, height: 32, width: 32 })?;
    let mut kinds = BTreeSet::new();
    for spec in &checked {
        let written = serde_json::to_value(spec).unwrap();
        assert_eq!(written["kind"], spec.kind());
        let name = spec.inner().settings().build(&graph)?.name();
        assert_eq!(name, spec.inner().kind());
        kinds.extend([spec.kind(), spec.inner().kind()]);
    }
    let all = TermSpec::kinds();
    assert!(all.iter().all(|kind| kinds.contains(kind)), "{kinds:?} are checked, of {all:?}");
    Ok(())
}

#[test]
fn networks_of_terms_begin_by_seed_task_and_name() -> Result<()> {
    let begun = |kind, seed, task| -> Result<BTreeMap<String, Vec<f64>>> {
        let spec =
            PhaseSpec { trained: Trained::All, terms: terms(COLUMNS, Trained::All), training: training() };
        let classes = Classes { columns: 0..5, n_old: 3, freeze_old_head: false, positive_head: false };
        let source = Source::Generated { steps: 1 };
        let (student, nobody) = (network(HeadKind::Cosine, &[3, 2], 3)?, FrozenNetworks::default());
        let job = Job::new(kind, student, spec, source, classes, nobody, (seed, task))?;
        let values = job
            .aux_nets
            .parameters
            .iter()
            .map(|(name, it)| Ok((name.to_owned(), it.flatten_all()?.to_vec1()?)));
        values.collect()
    };
    let one = begun(PhaseKind::Student, 1, 1)?;
    assert_eq!(one, begun(PhaseKind::Student, 1, 1)?);
    for other in
        [begun(PhaseKind::Student, 2, 1)?, begun(PhaseKind::Student, 1, 2)?, begun(PhaseKind::Balance, 1, 1)?]
    {
        assert!(one.keys().eq(other.keys()));
        let differ =
            one.iter().filter(|(name, value)| other[*name] != **value).map(|(name, _)| name.as_str());
        assert!(differ.clone().all(|name| name.contains(".conv")) && differ.count() == 2 * 2 + 2 * 3);
    }
    assert_ne!(one["vid.new.stage1.conv1.weight"], one["vid.old.stage1.conv1.weight"]);
    let variance = (5f64 - 1e-5).exp_m1().ln();
    assert!(one["vid.old.stage3.variance"].iter().all(|raw| (raw - variance).abs() < 1e-6));
    Ok(())
}

mod rivals;
mod teachers;
