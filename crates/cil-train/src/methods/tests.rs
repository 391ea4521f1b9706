//! Recipes of the methods, and what the schemes make of them.

use cil_engine::optim::{Decay, Schedule};
use dfgr::InversionConfig;

use super::*;
use crate::recipe::Columns;
use crate::recipe::{PhaseSpec, Recipe, ReplaySpec, Rows, SyntheticNorm, TermSpec, Trained, Training};
use crate::term::{CrossEntropy, LogitKd, MarginRanking, Nca};

fn training() -> Training {
    Training {
        epochs: 1,
        batch: 8,
        learning_rate: 0.1,
        schedule: Schedule { warm_up: 0, decay: Decay::Cosine { minimum: 0.0 } },
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
        gradient_limit: None,
        drop_last: false,
    }
}

#[test]
fn margins_are_ranked_on_real_old_images_only() {
    let ranks = |exemplars, replays: bool| {
        let recipe = lucir(training(), training(), exemplars);
        let inversion = InversionConfig::unconditional(1);
        let recipe = if replays { with_dfgr(recipe, replay(inversion)) } else { recipe };
        recipe.check().unwrap();
        let share = recipe.replay.as_ref().and_then(|it| it.exemplar_share);
        let rows = recipe.increment.terms.iter().find_map(|term| match term {
            TermSpec::MarginRanking(MarginRanking { rows, .. }) => Some(*rows),
            _ => None,
        });
        (rows, share)
    };
    assert_eq!(ranks(20, false), (Some(Rows::Old), None));
    assert_eq!(ranks(20, true), (Some(Rows::Exemplars), Some(0.5)));
    assert_eq!(ranks(0, false), (Some(Rows::Old), None));
    assert_eq!(ranks(0, true), (None, None));
}

fn replay(inversion: InversionConfig) -> ReplaySpec {
    let synthetic_norm = SyntheticNorm::Joint;
    ReplaySpec { inversion, batch: 8, synthetic_norm, exemplar_share: None, warm_start: false }
}

#[test]
fn podnet_is_its_code_s_and_fine_tunes_only_on_exemplars() {
    let recipe = |exemplars| podnet(training(), training(), training(), exemplars);
    let kept = recipe(20);
    kept.check().unwrap();
    let balance = kept.balance.as_ref().unwrap();
    assert_eq!((balance.trained, balance.terms.len()), (Trained::ClassWeights, 1));
    for phase in [&kept.base, &kept.increment, balance] {
        assert_eq!(phase.training.gradient_limit, Some(5.0));
    }
    assert_eq!(recipe(0).balance, None);
}

#[test]
fn schemes_on_podnet_label_generated_images_and_replace_maps_if_asked() {
    let inversion = InversionConfig::unconditional(1);
    let replay = replay(inversion);
    let base = podnet(training(), training(), training(), 20);
    let replayed = with_dfgr(base.clone(), replay);
    replayed.check().unwrap();
    let labelled = |phase: &PhaseSpec| {
        let nca = |it: &TermSpec| matches!(it, TermSpec::Nca(Nca { rows: Rows::All, balanced: true, .. }));
        phase.terms.iter().any(nca)
    };
    assert!(labelled(&replayed.increment) && labelled(replayed.balance.as_ref().unwrap()));
    assert!(!labelled(&replayed.base));
    let names = |recipe: &Recipe| recipe.increment.terms.len();
    assert_eq!(names(&without_maps_of_its_own(base.clone())), names(&base) - 1);
    let still = without_maps_of_its_own(base).increment.terms;
    assert!(!still.iter().any(|it| matches!(it, TermSpec::PodSpatial { .. })));
}

#[test]
fn schemes_on_learning_without_forgetting_label_no_generated_image() {
    let inversion = InversionConfig::unconditional(1);
    let replay = replay(inversion);
    let replayed = with_dfgr_distilled(lwf(training(), training()), replay);
    replayed.check().unwrap();
    let [
        TermSpec::CrossEntropy(CrossEntropy { rows: labelled, columns, .. }),
        TermSpec::LogitKd(LogitKd { rows: distilled, .. }),
    ] = replayed.increment.terms[..]
    else {
        panic!("{replayed:?}")
    };
    assert_eq!((labelled, columns, distilled), (Rows::New, Columns::New, Rows::All));
    let left = without_logits_of_its_own(replayed).increment.terms;
    assert!(matches!(left[..], [TermSpec::CrossEntropy { .. }]), "{left:?}");
}

#[test]
fn the_two_forms_of_learning_without_forgetting_differ_in_what_competes() {
    let columns = |recipe: Recipe| match recipe.increment.terms[..] {
        [TermSpec::CrossEntropy(CrossEntropy { columns, .. }), TermSpec::LogitKd { .. }] => columns,
        _ => panic!("{recipe:?}"),
    };
    assert_eq!(columns(lwf(training(), training())), Columns::New);
    assert_eq!(columns(lwf_seen(training(), training())), Columns::Seen);
}

#[test]
fn names_are_used_once_and_every_recipe_and_head_can_run() {
    let words: Vec<&str> = ALL.iter().map(|it| it.word).chain(heads::ALL.iter().map(|it| it.word)).collect();
    for (at, word) in words.iter().enumerate() {
        assert!(!words[..at].contains(word), "{word} is used twice");
    }
    for method in ALL {
        let recipe = (method.recipe)(&same_in_every_task(training()));
        recipe.check().unwrap_or_else(|error| panic!("{}: {error:#}", method.word));
        for presets in method.presets {
            presets.settings.map(|it| it().lengths.base.epochs);
            assert_eq!(method.presets_in(presets.family).unwrap().listed, presets.listed, "{}", method.word);
        }
    }
    for head in heads::ALL {
        let mut recipe = (frozen::METHOD.recipe)(&same_in_every_task(training()));
        recipe.discriminant = head.spec.map(|it| it());
        recipe.check().unwrap_or_else(|error| panic!("{}: {error:#}", head.word));
        assert_eq!(heads::Head::of_option(head.option), Some(head));
    }
}
