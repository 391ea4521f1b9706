//! The whole way from generator weights to the loss and back, by finite differences; and what a run of it does.

mod shared;

use candle_core::DType;
use cil_backbone::head::normalized;
use cil_backbone::{Architecture, HeadKind, Network, StageCells};
use cil_engine::Shape;
use cil_engine::cpu::CpuExecutor;
use cil_engine::reference::ReferenceExecutor;

use super::*;
use crate::config::{Direction, Statistics};
use crate::generator::{GeneratorConfig, GeneratorKind};
use crate::loss::ChannelReduction;

const IMAGES_OF: Shape = Shape::Map { channels: 3, height: 8, width: 8 };

fn reference() -> ExecutorFactory {
    Arc::new(|graph| Ok(Arc::new(ReferenceExecutor::new(graph)) as Arc<dyn Executor>))
}

fn cpu() -> ExecutorFactory {
    Arc::new(|graph| Ok(Arc::new(CpuExecutor::new(graph)?) as Arc<dyn Executor>))
}

/// A teacher of four classes whose statistics are those of some noise, so that there is something to match.
fn teacher(executors: &ExecutorFactory, dtype: DType) -> Result<Frozen> {
    teacher_of(&[4], executors, dtype)
}

/// The same with classes in these blocks.
fn teacher_of(blocks: &[usize], executors: &ExecutorFactory, dtype: DType) -> Result<Frozen> {
    let architecture = Architecture { width: 4, ..Architecture::lucir(8) };
    let mut network = Network::new(architecture, IMAGES_OF, HeadKind::Cosine, executors, 5, &Device::Cpu)?;
    blocks.iter().try_for_each(|classes| network.grow(*classes))?;
    let mut stream = Draw::new(1, "test images").stream("noise");
    let pixels: Vec<f32> = (0..64 * 192).map(|_| stream.normal() as f32).collect();
    let images = Tensor::from_vec(pixels, (64, 3, 8, 8), &Device::Cpu)?;
    for _ in 0..30 {
        let pass = network.executor().forward(network.parameters(), &images, ForwardSpec::TRAIN)?;
        if let Some(update) = pass.statistics {
            network.parameters_mut().update_statistics(&update, 0.3)?;
        }
    }
    network.parameters_mut().set("head.scale", Tensor::new(&[8f32], &Device::Cpu)?);
    let mut snapshot = network.snapshot();
    snapshot.parameters = snapshot.parameters.to_dtype(dtype)?;
    Network::from_snapshot(snapshot, executors, 5, &Device::Cpu)?.freeze()
}

fn config(conditional: bool) -> InversionConfig {
    let mut config = InversionConfig::unconditional(40);
    config.generator =
        GeneratorConfig { kind: GeneratorKind::Dafl, latent: 6, conditional, label_width: 3, channels: 8 };
    config.batch = 12;
    config
}

fn every_part(
    mut config: InversionConfig,
    direction: Direction,
    reduction: ChannelReduction,
) -> InversionConfig {
    config.weights.statistics = Statistics { weight: 0.3, direction, reduction };
    let weights = &mut config.weights;
    (weights.label, weights.label_temperature) = (0.7, 1.5);
    (weights.instance_entropy, weights.batch_entropy) = (0.4, 1.1);
    (weights.diversity, weights.smoothness) = (0.2, 0.5);
    (weights.balance, weights.blur) = (0.3, 0.6);
    config
}

fn moved(inversion: &mut Inversion, name: &str, at: usize, by: f64) -> Result<f64> {
    let before = inversion.parameters.get(name)?.clone();
    let mut values = before.flatten_all()?.to_vec1::<f64>()?;
    values[at] += by;
    inversion.parameters.set(name, Tensor::from_vec(values, before.dims(), &Device::Cpu)?);
    let total = inversion.grad(&inversion.inputs()?)?.total.to_scalar::<f64>()?;
    inversion.parameters.set(name, before);
    Ok(total)
}

fn check_by_differences(config: InversionConfig) -> Result<()> {
    check_by_differences_at(config, None)
}

fn check_by_differences_at(config: InversionConfig, targets: Option<Targets>) -> Result<()> {
    let executors = reference();
    let teacher = teacher(&executors, DType::F64)?;
    let mut inversion = Inversion::new(config, teacher, &executors, 3, 1, &Device::Cpu)?;
    targets.map_or(Ok(()), |targets| inversion.aim_at(targets))?;
    let gradients = inversion.grad(&inversion.inputs()?)?.gradients;
    let names: Vec<String> = gradients.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names.len(), inversion.group.names.len(), "every weight has a gradient");
    let step = 1e-6;
    for (turn, name) in names.iter().enumerate() {
        let grads = gradients.get(name).unwrap().flatten_all()?.to_vec1::<f64>()?;
        let at = (turn * 37) % grads.len();
        let difference =
            (moved(&mut inversion, name, at, step)? - moved(&mut inversion, name, at, -step)?) / (2.0 * step);
        let error = (grads[at] - difference).abs();
        assert!(error < 1e-5 * (1.0 + difference.abs()), "{name}[{at}]: {} is not {difference}", grads[at]);
    }
    Ok(())
}

#[test]
fn the_gradient_of_every_weight_is_right_without_labels() -> Result<()> {
    check_by_differences(every_part(config(false), Direction::GeneratedToStored, ChannelReduction::Sum))
}

#[test]
fn the_gradient_of_every_weight_is_right_where_the_teacher_sees_changed_images() -> Result<()> {
    for conditional in [false, true] {
        let mut config = every_part(config(conditional), Direction::GeneratedToStored, ChannelReduction::Sum);
        (config.crop_padding, config.flip) = (2, true);
        check_by_differences(config)?;
    }
    Ok(())
}

/// Targets of the teacher's four classes, whose means are far apart: of its pooled features, or of two stages.
fn targets(stages: Vec<StageCells>, dtype: DType) -> Result<Targets> {
    let width = if stages.is_empty() { 16 } else { 16 * 4 + 8 };
    let mut stream = Draw::new(1, "targets").stream("numbers");
    let mut rows = |count: usize, scale: f64| {
        let values: Vec<f64> = (0..count * width).map(|_| scale * stream.normal()).collect();
        Tensor::from_vec(values, (count, width), &Device::Cpu)?.to_dtype(dtype)
    };
    Targets::new(stages, rows(4, 0.2)?, rows(5, 0.05)?, 0.3)
}

fn two_stages() -> Vec<StageCells> {
    let of = |stage, cells, normalised| StageCells { stage, cells, normalised };
    vec![of(3, 2, true), of(2, 1, false)]
}

#[test]
fn the_gradient_of_every_weight_is_right_with_targets() -> Result<()> {
    for (stages, conditional) in
        [(vec![], true), (two_stages(), true), (vec![], false), (two_stages(), false)]
    {
        let mut config = every_part(config(conditional), Direction::GeneratedToStored, ChannelReduction::Sum);
        config.weights.features = 0.7;
        check_by_differences_at(config, Some(targets(stages, DType::F64)?))?;
    }
    Ok(())
}

#[test]
fn a_generator_with_targets_follows_its_labels_and_its_noise() -> Result<()> {
    let executors = cpu();
    let teacher = teacher(&executors, DType::F32)?;
    let mut config = config(true);
    (config.iterations, config.batch, config.learning_rate) = (150, 32, 5e-3);
    config.weights.statistics.weight = 0.0;
    (config.weights.instance_entropy, config.weights.batch_entropy) = (0.0, 0.0);
    config.weights.features = 1.0;
    // Features that the teacher has: those of four other images are the classes' means.
    let mut stream = Draw::new(4, "test images").stream("noise");
    let pixels: Vec<f32> = (0..4 * 192).map(|_| stream.normal() as f32).collect();
    let view = teacher.forward(&Tensor::from_vec(pixels, (4, 3, 8, 8), &Device::Cpu)?)?;
    let means = normalized(&view.features)?;
    let apart = ((means.get(0)? - means.get(1)?)? * 0.2)?.unsqueeze(0)?;
    let begin = || Inversion::new(config.clone(), teacher.clone(), &executors, 3, 1, &Device::Cpu);
    let mut inversion = begin()?;
    let error = inversion.advance(1).unwrap_err().to_string();
    assert!(error.contains("weights.features is 1; kept statistics"), "{error}");
    inversion = begin()?;
    inversion.aim_at(Targets::new(Vec::new(), means.clone(), apart, 1.0)?)?;
    let first = inversion.advance(10)?;
    inversion.advance(130)?;
    let last = inversion.advance(10)?;
    assert!(last.losses["features"] < 0.2 * first.losses["features"], "{first:?} {last:?}");
    // The nearest mean is that of the label, whatever the noise.
    let batch = inversion.replay().sample(60, Draw::new(9, "sample"))?;
    let nearest = normalized(&batch.view.features)?.matmul(&means.t()?)?.argmax(1)?.to_vec1::<u32>()?;
    let right =
        batch.labels.to_vec()?.iter().zip(&nearest).filter(|(label, nearest)| label == nearest).count();
    assert!(right > 50, "{right} of 60");
    let few = Targets::new(Vec::new(), means.narrow(0, 0, 3)?, means.narrow(0, 0, 1)?, 1.0)?;
    assert!(begin()?.aim_at(few).unwrap_err().to_string().contains("targets of 3 classes"));
    Ok(())
}

/// What the teacher sees depends on both keys; what is replayed does not.
#[test]
fn padding_and_mirroring_change_what_the_teacher_sees() -> Result<()> {
    let executors = reference();
    let mut totals = Vec::new();
    for change in [(0, false), (2, false), (3, false), (0, true)] {
        let mut config = config(false);
        (config.crop_padding, config.flip) = change;
        let inversion =
            Inversion::new(config, teacher(&executors, DType::F64)?, &executors, 3, 1, &Device::Cpu)?;
        let total = inversion.grad(&inversion.inputs()?)?.total.to_scalar::<f64>()?;
        assert!(!totals.contains(&total), "{change:?} changes nothing");
        totals.push(total);
    }
    let mut wide = config(false);
    wide.crop_padding = 65;
    let error = wide.check().unwrap_err().to_string();
    assert!(error.contains("inversion.crop-padding is 65; use a value from 0 to 64"), "{error}");
    Ok(())
}

#[test]
fn the_gradient_of_every_weight_is_right_with_labels() -> Result<()> {
    check_by_differences(every_part(config(true), Direction::StoredToGenerated, ChannelReduction::Mean))
}

#[test]
fn a_run_lowers_the_loss_and_its_images_are_the_teachers() -> Result<()> {
    let executors = cpu();
    let teacher = teacher(&executors, DType::F32)?;
    let mut config = config(false);
    (config.iterations, config.batch, config.learning_rate) = (120, 32, 5e-3);
    let mut inversion = Inversion::new(config, teacher, &executors, 3, 1, &Device::Cpu)?;
    let first = inversion.advance(10)?;
    assert_eq!((first.done, first.images), (10, 320));
    inversion.advance(100)?;
    let last = inversion.advance(50)?;
    assert_eq!((last.done, last.images, inversion.is_done()), (120, 320, true));
    let falls = |part: &str| last.losses[part] < 0.6 * first.losses[part];
    assert!(falls("statistics") && falls("instance-entropy"), "{first:?} {last:?}");
    assert!(last.learning_rate < 0.1 * first.learning_rate);
    let draw = Draw::new(9, "sample");
    let batch = inversion.replay().sample(40, draw)?;
    assert_eq!(batch.images.dims(), [40, 3, 8, 8]);
    assert_eq!(batch.labels.to_vec()?, batch.view.logits.argmax(1)?.to_vec1::<u32>()?);
    let again = inversion.replay().sample(40, draw)?;
    let values = |it: &Tensor| it.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&batch.images), values(&again.images));
    let other = inversion.replay().sample(40, Draw { position: 1, ..draw })?;
    assert_ne!(values(&batch.images), values(&other.images));
    Ok(())
}

#[test]
fn slices_do_not_matter_and_tasks_and_seeds_do() -> Result<()> {
    let executors = cpu();
    let teacher = teacher(&executors, DType::F32)?;
    let run = |slices: &[usize], seed, task| -> Result<Vec<f32>> {
        let mut inversion =
            Inversion::new(config(true), teacher.clone(), &executors, seed, task, &Device::Cpu)?;
        for slice in slices {
            inversion.advance(*slice)?;
        }
        inversion.parameters.get("end.conv.weight")?.flatten_all()?.to_vec1()
    };
    let straight = run(&[40], 3, 1)?;
    assert_eq!(straight, run(&[1, 7, 12, 100], 3, 1)?);
    assert_ne!(straight, run(&[40], 4, 1)?);
    assert_ne!(straight, run(&[40], 3, 2)?);
    Ok(())
}

#[test]
fn a_restored_inversion_goes_on_to_the_same_bits_and_foreign_states_are_refused() -> Result<()> {
    let executors = cpu();
    let teacher = teacher(&executors, DType::F32)?;
    let fresh = |config| Inversion::new(config, teacher.clone(), &executors, 3, 1, &Device::Cpu);
    let bits = |it: &Inversion| -> Result<Vec<u32>> {
        let values = it.parameters.get("end.conv.weight")?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    };
    let mut straight = fresh(config(true))?;
    straight.advance(7)?;
    let state = straight.state()?;
    let mut resumed = fresh(config(true))?;
    resumed.restore(&state)?;
    assert_eq!(format!("{:?}", straight.advance(20)?), format!("{:?}", resumed.advance(20)?));
    assert_eq!(bits(&straight)?, bits(&resumed)?);
    let replay = |values: &Parameters| {
        Replay::restore(config(true).generator, teacher.clone(), &executors, values, &Device::Cpu)
    };
    let images = |replay: &Replay| -> Result<Vec<f32>> {
        replay.sample(3, Draw::new(1, "sample"))?.images.flatten_all()?.to_vec1()
    };
    assert_eq!(images(&replay(&straight.state()?.generator)?)?, images(&straight.replay())?);
    let error = replay(&state.optimizer).unwrap_err().to_string();
    assert!(error.contains("is too many"), "{error}");
    let refused = |state: InversionState, part: &str| -> Result<()> {
        let error = fresh(config(true))?.restore(&state).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        Ok(())
    };
    refused(InversionState { done: 41, ..state.clone() }, "41 of 40 iterations are done")?;
    refused(
        InversionState { generator: fresh(config(false))?.state()?.generator, ..state.clone() },
        "tensor",
    )?;
    refused(InversionState { optimizer: state.generator.clone(), ..state }, "holds no tensor")
}

#[test]
fn a_generator_may_warm_start_from_the_one_before_and_grow_by_its_classes() -> Result<()> {
    let executors = cpu();
    let (four, six) = (teacher(&executors, DType::F32)?, teacher_of(&[4, 2], &executors, DType::F32)?);
    let fresh = |teacher: &Frozen, conditional| {
        Inversion::new(config(conditional), teacher.clone(), &executors, 3, 2, &Device::Cpu)
    };
    let all = |it: &Inversion| -> Result<BTreeMap<String, Vec<f32>>> {
        it.parameters.iter().map(|(name, it)| Ok((name.to_owned(), it.flatten_all()?.to_vec1()?))).collect()
    };
    for conditional in [false, true] {
        let mut before = fresh(&four, conditional)?;
        before.advance(5)?;
        let mut after = fresh(&six, conditional)?;
        let begun = all(&after)?;
        after.warm_start_from(before.replay().parameters())?;
        assert_eq!(after.done(), 0, "iterations and Adam begin anew");
        let (before, now) = (all(&before)?, all(&after)?);
        for (name, values) in &now {
            match name.contains("embed") {
                // [label width 3, classes]: four columns of before, two of its own.
                true => {
                    assert_eq!((before[name].len(), values.len()), (12, 18));
                    for row in 0..3 {
                        assert_eq!(values[row * 6..row * 6 + 4], before[name][row * 4..row * 4 + 4]);
                        assert_eq!(values[row * 6 + 4..row * 6 + 6], begun[name][row * 6 + 4..row * 6 + 6]);
                    }
                }
                false => assert_eq!(*values, before[name], "{name}"),
            }
        }
        assert_eq!(now.keys().any(|name| name.contains("embed")), conditional);
        after.advance(1)?;
    }
    let mut other = fresh(&six, true)?;
    assert!(other.warm_start_from(fresh(&four, false)?.replay().parameters()).is_err());
    Ok(())
}

#[test]
fn an_asked_label_is_kept_and_a_loss_that_bursts_is_in_the_report() -> Result<()> {
    let executors = cpu();
    let teacher = teacher(&executors, DType::F32)?;
    let config = config(true);
    let inversion = Inversion::new(config.clone(), teacher.clone(), &executors, 3, 1, &Device::Cpu)?;
    let labels = inversion.replay().sample(200, Draw::new(1, "sample"))?.labels.to_vec()?;
    assert!((0..4).all(|class| labels.iter().filter(|it| **it == class).count() > 25));
    let mut inversion = Inversion::new(config, teacher, &executors, 3, 1, &Device::Cpu)?;
    // Beyond what a configuration may ask for.
    inversion.config.learning_rate = 1e30;
    let report = inversion.advance(40)?;
    assert!(report.losses.values().any(|loss| !loss.is_finite()), "{report:?}");
    Ok(())
}
