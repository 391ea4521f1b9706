//! A learner that goes on from a model which another process left: to the same bits as one that never stopped.

use crate::support::{data, data_free, executors, plan, replay, run, run_from, training, values};
use candle_core::Tensor;
use cil_backbone::{Architecture, Frozen, HeadKind, Network, StageCells, Variant};
use cil_data::dataset::Dataset;
use cil_data::exemplars::Exemplars;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::{Images, TrainSet};
use cil_engine::Parameters;
use cil_train::learner::{Learner, Plan, classifier_of};
use cil_train::methods::{fine_tune, frozen::frozen_features};
use cil_train::recipe::{DiscriminantSpec, LogisticSpec, Recipe, SyntheticNorm};

const SIZES: [usize; 3] = [3, 2, 1];

fn dataset() -> Dataset {
    let config = ProceduralConfig { classes: 6, train_per_class: 12, test_per_class: 6 };
    Dataset::procedural(&config, 1).unwrap()
}

/// The images of the classes from `first` on, and no other.
fn later(first: usize) -> TrainSet {
    let dataset = dataset();
    let all = dataset.train();
    let (height, width) = all.sides();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let places: Vec<usize> = (0..all.len()).filter(|at| all.label(*at) >= first).collect();
    for at in &places {
        pixels.extend_from_slice(all.image(*at));
        labels.push(all.label(*at) as u16);
    }
    let images = Images::new(height, width, pixels, labels).unwrap();
    TrainSet::after(images, SIZES.iter().sum(), (all.len() - places.len()) as u64).unwrap()
}

fn bits(values: &Parameters) -> Vec<(String, Vec<u64>)> {
    let of = |tensor: &candle_core::Tensor| {
        let values = tensor.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap();
        values.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
    };
    values.iter().map(|(name, tensor)| (name.to_owned(), of(tensor))).collect()
}

/// A run over all images at once beside one that restarts with each task, from the model and the statistics alone.
fn goes_on_to_the_same_bits(recipe: &Recipe) {
    let whole = TrainSet::after(dataset().train().clone(), 6, 0).unwrap();
    let (_, at_once) = run(plan(recipe.clone(), &SIZES, 3), &whole);
    let mut before: Option<Learner> = None;
    for task in 0..SIZES.len() {
        let first = SIZES[..task].iter().sum();
        let mut learner = Learner::new(plan(recipe.clone(), &SIZES[..=task], 3)).unwrap();
        if let Some(before) = &before {
            let model = before.model().unwrap().snapshot().clone();
            learner.adopt(model, before.kept_statistics().unwrap().as_ref(), Exemplars::default()).unwrap();
        }
        let images = if task == 0 { &whole } else { &later(first) };
        before = Some(run_from(learner, images).1);
    }
    let by_parts = before.unwrap();
    assert_eq!(values(&by_parts), values(&at_once));
    let statistics = |learner: &Learner| learner.kept_statistics().unwrap().as_ref().map(bits);
    assert_eq!(statistics(&by_parts), statistics(&at_once));
    assert!(statistics(&by_parts).is_some());
}

#[test]
fn a_model_and_its_statistics_are_all_that_a_task_needs_of_those_before() {
    let discriminant = Some(DiscriminantSpec::pooled(0.01));
    let frozen = Recipe { discriminant: discriminant.clone(), ..frozen_features(training(2), training(1)) };
    goes_on_to_the_same_bits(&frozen);
    goes_on_to_the_same_bits(&Recipe { discriminant, ..data_free(SyntheticNorm::Joint) });
}

#[test]
fn statistics_that_were_never_kept_are_of_generated_images() {
    let (_, first) = run(plan(fine_tune(training(12), training(1)), &SIZES[..1], 3), &{
        TrainSet::after(dataset().train().clone(), 6, 0).unwrap()
    });
    let model = first.model().unwrap().snapshot().clone();
    let mut recipe = frozen_features(training(2), training(1));
    (recipe.head, recipe.imprint, recipe.freeze_old_head) = (HeadKind::Linear, false, false);
    let mut generator = replay(SyntheticNorm::Joint);
    generator.inversion.iterations = 200;
    recipe.replay = Some(generator);
    recipe.discriminant = Some(DiscriminantSpec { generated: Some(500), ..DiscriminantSpec::pooled(1.0) });
    let mut learner = Learner::new(plan(recipe.clone(), &SIZES[..2], 3)).unwrap();
    learner.adopt(model.clone(), None, Exemplars::default()).unwrap();
    let (_, learner) = run_from(learner, &later(3));
    let kept = learner.kept_statistics().unwrap().unwrap();
    assert_eq!(
        kept.get("means").unwrap().dims(),
        [5, Architecture { width: 4, ..Architecture::lucir(8) }.feature_width()]
    );
    // The backbone is the old one, to the bit, and the discriminant is what the statistics say.
    let backbone = |learner: &Learner| -> Vec<_> {
        values(learner).into_iter().filter(|(name, _)| !name.starts_with("head.")).collect()
    };
    assert_eq!(backbone(&learner), backbone(&first));
    let device = candle_core::Device::Cpu;
    let spec = recipe.discriminant.clone().unwrap();
    let again = classifier_of(learner.model().unwrap(), &spec, &kept, &device).unwrap();
    let own = learner.classifier().unwrap().unwrap();
    assert_eq!(bits(&again.snapshot().parameters), bits(&own.snapshot().parameters));

    recipe.discriminant = Some(DiscriminantSpec::pooled(1.0));
    let mut without = Learner::new(plan(recipe, &SIZES[..2], 3)).unwrap();
    let message = without.adopt(model, None, Exemplars::default()).unwrap_err().to_string();
    assert!(message.contains("set discriminant.generated to the number"), "{message}");
}

/// A network whose features end in a ReLU, and a recipe that appends classes to its head.
fn appending(sizes: &[usize], cells: &[(usize, usize)]) -> Plan {
    let stages =
        cells.iter().map(|(stage, cells)| StageCells { stage: *stage, cells: *cells, normalised: false });
    let mut recipe = frozen_features(training(12), training(1));
    (recipe.head, recipe.imprint, recipe.freeze_old_head) = (HeadKind::Linear, false, false);
    recipe.replay = Some(replay(SyntheticNorm::Joint));
    let stages = stages.collect();
    recipe.logistic = Some(LogisticSpec { generated: 300, penalty: 0.003, given_up: 0.1, stages });
    let architecture = Architecture { width: 4, ..Architecture::small(Variant::He, 8) };
    Plan { backbone: architecture.into(), ..plan(recipe, sizes, 3) }
}

fn logits(of: &Frozen, images: &TrainSet) -> Tensor {
    let preparation = plan(fine_tune(training(1), training(1)), &SIZES, 3).preparation;
    let batch = images.images(&images.samples(0..6), &preparation, None, &candle_core::Device::Cpu).unwrap();
    of.forward(&batch).unwrap().logits
}

#[test]
fn appended_classes_stand_beside_a_head_that_stays() {
    let whole = TrainSet::after(dataset().train().clone(), 6, 0).unwrap();
    for cells in [&[][..], &[(3, 1), (2, 2)], &[(1, 2), (3, 1)]] {
        let (_, first) = run(appending(&SIZES[..1], cells), &whole);
        let mut models = vec![first.model().unwrap().clone()];
        let mut statistics: Option<Parameters> = None;
        for task in 1..SIZES.len() {
            let mut learner = Learner::new(appending(&SIZES[..=task], cells)).unwrap();
            let before = models.last().unwrap().snapshot().clone();
            learner.adopt(before, statistics.as_ref(), Exemplars::default()).unwrap();
            let (_, learner) = run_from(learner, &later(SIZES[..task].iter().sum()));
            statistics = learner.kept_statistics().unwrap();
            let appended: usize = SIZES[1..=task].iter().sum();
            assert_eq!(statistics.as_ref().unwrap().get("means").unwrap().dims()[0], appended);
            models.push(learner.classifier().unwrap().unwrap());
        }
        // All at once, by one learner: the same bits.
        let (_, at_once) = run(appending(&SIZES, cells), &whole);
        let values = |model: &Frozen| bits(&model.snapshot().parameters);
        assert_eq!(values(at_once.model().unwrap()), values(&models[2]));
        let said: Vec<Tensor> = models.iter().map(|model| logits(model, &whole)).collect();
        for (before, after) in [(0, 1), (1, 2), (0, 2)] {
            let width = said[before].dim(1).unwrap();
            let kept = said[after].narrow(1, 0, width).unwrap();
            let apart = (&said[before] - &kept).unwrap().abs().unwrap().max_all().unwrap();
            let apart = apart.to_scalar::<f32>().unwrap();
            assert!(apart < 1e-4, "{cells:?}: {apart}");
        }
        // New images are found among all classes; what the old ones are answered depends on the generator, which is
        // hasty here.
        let answers = said[2].argmax(1).unwrap().to_vec1::<u32>().unwrap();
        let samples = whole.samples(0..6);
        let right =
            samples.iter().zip(&answers).filter(|(it, answer)| whole.class_of(**it) == **answer as usize);
        let new = right.filter(|(it, _)| whole.class_of(**it) >= 3).count();
        assert!(new >= 18, "{cells:?}: {new} of 36");
    }
}

#[test]
fn a_head_of_several_stages_is_gone_on_from_by_appending_alone() {
    let whole = TrainSet::after(dataset().train().clone(), 6, 0).unwrap();
    let (_, first) = run(appending(&SIZES[..2], &[(3, 1), (2, 2)]), &whole);
    let model = first.classifier().unwrap().unwrap().snapshot().clone();
    let backbone = model.backbone.clone();
    let mut recipe = fine_tune(training(1), training(1));
    recipe.head = HeadKind::Linear;
    let mut other = Learner::new(Plan { backbone, ..plan(recipe, &SIZES, 3) }).unwrap();
    let message = other.adopt(model.clone(), None, Exemplars::default()).unwrap_err().to_string();
    assert!(message.contains("reads several stages"), "{message}");
    let mut learner = Learner::new(appending(&SIZES, &[(3, 1)])).unwrap();
    let statistics = first.kept_statistics().unwrap();
    assert!(learner.adopt(model, statistics.as_ref(), Exemplars::default()).is_err());
    for (cells, part) in
        [(&[(2, 2)][..], "lacks stage 3 with 1 cell"), (&[(3, 1), (4, 1)], "logistic.stages.1.stage is 4")]
    {
        let message = format!("{:#}", Learner::new(appending(&SIZES, cells)).err().unwrap());
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_model_of_another_form_is_refused() {
    let recipe = fine_tune(training(1), training(1));
    let network = |blocks: &[usize], kind, architecture| {
        let images = cil_engine::Shape::Map { channels: 3, height: 32, width: 32 };
        let mut network =
            Network::new(architecture, images, kind, &executors(), 0, &candle_core::Device::Cpu).unwrap();
        blocks.iter().for_each(|classes| network.grow(*classes).unwrap());
        network.snapshot()
    };
    let own = Architecture { width: 4, ..Architecture::lucir(8) };
    let message = |model| {
        let mut learner = Learner::new(plan(recipe.clone(), &SIZES, 1)).unwrap();
        learner.adopt(model, None, Exemplars::default()).unwrap_err().to_string()
    };
    assert!(
        message(network(&[2], HeadKind::Linear, own)).contains("has blocks [2]; the plan's tasks [3, 2, 1]")
    );
    assert!(message(network(&[3, 2, 1], HeadKind::Linear, own)).contains("do not continue them"));
    assert!(message(network(&[3], HeadKind::Cosine, own)).contains("head is Cosine"));
    assert!(message(network(&[3], HeadKind::Linear, Architecture::lucir(8))).contains("the plan has"));
    let mut twice = Learner::new(plan(recipe, &SIZES, 1)).unwrap();
    twice.adopt(network(&[3], HeadKind::Linear, own), None, Exemplars::default()).unwrap();
    let again = twice.adopt(network(&[3], HeadKind::Linear, own), None, Exemplars::default());
    assert!(again.unwrap_err().to_string().contains("before the run begins"));
    let mut begun = Learner::new(plan(fine_tune(training(1), training(1)), &SIZES, 1)).unwrap();
    begun.advance(&data(6).0).unwrap();
    let late = begun.adopt(network(&[3], HeadKind::Linear, own), None, Exemplars::default());
    assert!(late.unwrap_err().to_string().contains("before the run begins"));
}
