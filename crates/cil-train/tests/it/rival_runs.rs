//! Rival methods in small runs: the images that they read, and corrections of a head after training.

use crate::support::{data, data_free, plan, replay, run, training, values};
use cil_backbone::align::Length;
use cil_data::exemplars::Budget;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;
use cil_train::methods::abd::always_be_dreaming;
use cil_train::methods::bic::bias_correction;
use cil_train::methods::deep_inversion::generated_deep_inversion;
use cil_train::methods::dmc::model_consolidation;
use cil_train::methods::rdfcil::rdfcil;
use cil_train::methods::wa::weight_aligning;
use cil_train::recipe::correction::AlignSpec;
use cil_train::recipe::{Recipe, SyntheticNorm};
use dfgr::InversionConfig;

fn aligned(shrink_only: bool, positive: bool) -> Recipe {
    let mut recipe = weight_aligning(training(2), training(3), Budget::PerClass(3), positive);
    recipe.align = Some(AlignSpec { length: Length::L2, shrink_only, positive });
    recipe
}

/// The head's weights by block, `[classes][width]`.
fn head(recipe: Recipe) -> Vec<Vec<Vec<f64>>> {
    head_after(recipe, &[3, 2, 1])
}

fn head_after(recipe: Recipe, increments: &[usize]) -> Vec<Vec<Vec<f64>>> {
    let (train, _) = data(increments.iter().sum());
    let learner = run(plan(recipe, increments, 1), &train).1;
    let blocks = values(&learner).into_iter().filter(|(name, _)| name.starts_with("head."));
    let block = |(_, bits): (String, Vec<u32>)| {
        let values: Vec<f64> = bits.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect();
        values.chunks(16).map(<[f64]>::to_vec).collect()
    };
    blocks.map(block).collect()
}

fn mean_length(rows: &[Vec<f64>]) -> f64 {
    let length = |row: &Vec<f64>| row.iter().map(|it| it * it).sum::<f64>().sqrt();
    rows.iter().map(length).sum::<f64>() / rows.len() as f64
}

#[test]
fn the_newest_weights_end_as_long_as_the_old_ones() {
    let blocks = head(aligned(false, false));
    assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
    let old = mean_length(&blocks[..2].concat());
    assert!((mean_length(&blocks[2]) / old - 1.0).abs() < 1e-5, "{blocks:?}");
    // Only shrinking: as long as before where that is shorter.
    let ratio = |align: Option<AlignSpec>| {
        let blocks = head_after(Recipe { align, ..aligned(true, false) }, &[3, 2]);
        mean_length(&blocks[1]) / mean_length(&blocks[0])
    };
    let (free, shrunk) = (ratio(None), ratio(aligned(true, false).align));
    assert!((shrunk - free.min(1.0)).abs() < 1e-5, "{free} became {shrunk}");
}

#[test]
fn positive_heads_hold_no_weight_below_zero() {
    let below =
        |blocks: Vec<Vec<Vec<f64>>>| blocks.concat().concat().into_iter().filter(|it| *it < 0.0).count();
    assert_eq!(below(head(aligned(true, true))), 0);
    assert!(below(head(aligned(true, false))) > 10);
}

#[test]
fn corrections_that_cannot_be_are_named() {
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = aligned(true, false);
        recipe.check().unwrap();
        change(&mut recipe);
        let message = format!("{:#}", recipe.check().unwrap_err());
        assert!(message.contains(part), "{message}");
    };
    refused(&|it| it.head = cil_backbone::HeadKind::Cosine, "align changes logits");
    refused(&|it| (it.joint, it.exemplars) = (true, Budget::PerClass(0)), "joint is true");
    refused(&|it| it.base.terms = it.increment.terms.clone(), "base.terms has a scaled term");
}

/// ABD's inversion at the size of these runs.
fn dreams() -> cil_train::recipe::ReplaySpec {
    let mut spec = replay(SyntheticNorm::Joint);
    let small = spec.inversion.clone();
    spec.inversion =
        InversionConfig { generator: small.generator, ..InversionConfig::always_be_dreaming(60) };
    spec.inversion.batch = small.batch;
    spec
}

#[test]
fn data_free_rivals_look_at_no_old_image_and_say_their_losses() {
    let (train, _) = data(5);
    let (base, later) = (training(1), training(2));
    let all: [(Recipe, &[&str]); 5] = [
        (
            rdfcil(base.clone(), later.clone(), training(1), dreams()),
            &["angle-relation", "cross-entropy", "logit-l1"],
        ),
        (
            always_be_dreaming(base.clone(), later.clone(), dreams()),
            &["cross-entropy", "head-cross-entropy", "old-head"],
        ),
        (
            generated_deep_inversion(base.clone(), later.clone(), dreams()),
            &["cross-entropy", "global-kd", "logit-kd"],
        ),
        (model_consolidation(base, later, training(1), replay(SyntheticNorm::Joint)), &["double-regression"]),
        (data_free(SyntheticNorm::Joint), &["cross-entropy", "dual-teacher", "less-forget"]),
    ];
    for (recipe, wanted) in all {
        let (before, refined) =
            ((0..3).map(|class| train.reads(class)).sum::<u64>(), recipe.balance.is_some());
        let epochs = recipe.base.training.epochs as u64;
        let (events, learner) = run(plan(recipe, &[3, 2], 1), &train);
        let read = (0..3).map(|class| train.reads(class)).sum::<u64>() - before;
        assert_eq!(read, 36 * epochs, "{wanted:?} looked at old images");
        let losses = |of: PhaseKind| {
            events.iter().rev().find_map(|event| match event {
                Event::Progress { task: 1, phase, losses, .. } if *phase == of => Some(losses.clone()),
                _ => None,
            })
        };
        let student = losses(PhaseKind::Student).unwrap();
        assert_eq!(student.keys().filter(|it| *it != "total").collect::<Vec<_>>(), wanted);
        assert_eq!(losses(PhaseKind::Balance).is_some(), refined);
        if let Some(balance) = losses(PhaseKind::Balance) {
            assert_eq!(balance.keys().collect::<Vec<_>>(), ["class-balanced", "logit-l1", "total"]);
        }
        learner.model().unwrap().snapshot().check().unwrap();
    }
}

#[test]
fn a_consolidated_student_begins_anew() {
    let (train, _) = data(4);
    let values_of = |restart: bool| {
        let mut recipe =
            model_consolidation(training(1), training(1), training(1), replay(SyntheticNorm::Joint));
        recipe.restart = restart;
        recipe.increment.training.learning_rate = 1e-9;
        let (_, learner) = run(plan(recipe, &[2, 2], 1), &train);
        let base = {
            let recipe =
                model_consolidation(training(1), training(1), training(1), replay(SyntheticNorm::Joint));
            values(&run(plan(recipe, &[2], 1), &train).1)
        };
        let of = |values: &[(String, Vec<u32>)]| {
            let value = values.iter().find(|(name, _)| name == "head.0.weight").unwrap();
            value.1.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<f32>>()
        };
        let (after, base) = (of(&values(&learner)), of(&base));
        after.iter().zip(&base).map(|(after, base)| (after - base).abs()).fold(0.0, f32::max)
    };
    assert!(values_of(false) < 1e-4);
    assert!(values_of(true) > 1e-3);
}

#[test]
fn a_bias_correction_multiplies_and_moves_the_newest_logits_alone() {
    let (train, _) = data(4);
    let mut recipe = bias_correction(training(1), training(1), Budget::PerClass(10), training(3));
    recipe.bias_correction.as_mut().unwrap().training.learning_rate = 0.5;
    let mut learner = Learner::new(plan(recipe, &[2, 2], 1)).unwrap();
    let (mut trained, mut corrected, mut stored) = (Vec::new(), 0, Vec::new());
    while let Some(event) = learner.advance(&train).unwrap() {
        match event {
            Event::Progress { task: 1, phase: PhaseKind::Student, .. } => trained = values(&learner),
            Event::Progress { phase: PhaseKind::BiasCorrection, images, .. } => {
                // One image of each class of both tasks is held out.
                assert_eq!(images, 4);
                corrected += 1;
            }
            Event::TaskLearned { stored_bytes, .. } => stored.push(stored_bytes),
            _ => {}
        }
    }
    assert_eq!((corrected, stored), (3, vec![20 * 3072, 40 * 3072]));
    // Old classes: eleven images in one epoch and once to be herded, nine of them again, and the one held out three
    // times.
    assert_eq!(train.reads(0), 11 + 11 + 9 + 3);
    let floats = |bits: &[u32]| bits.iter().map(|it| f64::from(f32::from_bits(*it))).collect::<Vec<f64>>();
    let ends = values(&learner);
    let pair = |name: &str| {
        let of = |values: &[(String, Vec<u32>)]| floats(&values.iter().find(|it| it.0 == name).unwrap().1);
        (of(&trained), of(&ends))
    };
    for ((name, before), (_, after)) in trained.iter().zip(&ends) {
        assert_eq!(before == after, !name.starts_with("head.1"), "{name}");
    }
    let (before, after) = pair("head.1.weight");
    let scale = after[0] / before[0];
    assert!((scale - 1.0).abs() > 1e-3, "{scale}");
    assert!(before.iter().zip(&after).all(|(before, after)| (before * scale - after).abs() < 1e-5));
    let (before, after) = pair("head.1.bias");
    let shifts: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before * scale).collect();
    assert!((shifts[0] - shifts[1]).abs() < 1e-5 && shifts[0].abs() > 1e-4, "{shifts:?}");
}

#[test]
fn a_bias_correction_without_an_image_to_hold_out_is_refused() {
    let recipe = bias_correction(training(1), training(1), Budget::PerClass(9), training(1));
    let error_text =
        Learner::new(plan(recipe.clone(), &[2, 2], 1)).err().map(|error| format!("{error:#}")).unwrap();
    assert!(
        error_text.contains("held-out is 0.1 of 9 exemplars a class in task 2")
            && error_text.contains("10 exemplars"),
        "{error_text}"
    );
    // A budget for all classes runs out in a later task.
    let recipe = Recipe { exemplars: Budget::Total(40), ..recipe };
    assert!(recipe.check_increments(&[2, 2, 2]).is_ok());
    let error_text = recipe.check_increments(&[2, 2, 2, 2]).unwrap_err().to_string();
    assert!(error_text.contains("6 exemplars a class in task 4"), "{error_text}");
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = recipe.clone();
        change(&mut recipe);
        let message = format!("{:#}", recipe.check().unwrap_err());
        assert!(message.contains(part), "{message}");
    };
    refused(&|it| it.exemplars = Budget::PerClass(0), "keep exemplars");
    refused(&|it| it.head = cil_backbone::HeadKind::WithoutBias, "set head to \"linear\"");
    refused(&|it| it.bias_correction.as_mut().unwrap().held_out = 1.0, "held-out is 1");
    refused(&|it| it.increment.trained = cil_train::recipe::Trained::Correction, "increment.trained");
    refused(&|it| it.align = aligned(true, false).align, "leave one out");
}
