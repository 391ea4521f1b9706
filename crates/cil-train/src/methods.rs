//! The methods as recipes, and the paper's two schemes as functions from recipe to recipe.
//!
//! Settings of a source that depend on the data set (epochs, rates, batch) are arguments; those that define the method
//! are here, each with its source. `docs` of a preset say where its numbers come from.

pub mod data_free;
pub mod with_exemplars;

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use dtid::dual::DtidConfig;

use crate::loss::nca::NcaForm;
use crate::recipe::{
    Columns, NewReplaySpec, NewTeacherSpec, PhaseSpec, Recipe, Regressor, ReplaySpec, Rows, Teachers,
    TermSpec, Trained, Training,
};
use crate::term::{
    CrossEntropy, DualTeacher, LessForget, LogitKd, MarginRanking, Nca, PodFlat, PodSpatial, Vid,
};

/// Cross-entropy on new images alone: what forgetting looks like.
pub fn fine_tune(base: Training, increment: Training) -> Recipe {
    let terms = vec![CrossEntropy::plain(Rows::Real, Columns::Seen).into()];
    Recipe {
        head: HeadKind::Linear,
        exemplars: Budget::PerClass(0),
        random_exemplars: false,
        oversample: false,
        joint: false,
        restart: false,
        freeze_old_head: false,
        imprint: false,
        base: PhaseSpec { trained: Trained::All, terms: terms.clone(), training: base },
        increment: PhaseSpec { trained: Trained::All, terms, training: increment },
        replay: None,
        adversarial: None,
        new_teacher: None,
        new_replay: None,
        balance: None,
        align: None,
        bias_correction: None,
        logistic: None,
        discriminant: None,
    }
}

/// Every task anew with all images: the upper bound.
pub fn joint(base: Training, increment: Training) -> Recipe {
    Recipe { joint: true, ..fine_tune(base, increment) }
}

/// Learning without forgetting (Li & Hoiem 2016): cross-entropy among the new classes, the old model's softened logits
/// on the old ones; temperature 2 and weight 1 (their p. 5; the same in FACIL's `approach/lwf.py` at 66e3e8e, where
/// there are no exemplars). Old and new columns never compete, so that old classes are kept and new ones are named too
/// seldom; [`lwf_seen`] fails the other way round.
pub fn lwf(base: Training, increment: Training) -> Recipe {
    let mut recipe = fine_tune(base, increment);
    recipe.increment.terms = vec![
        CrossEntropy::plain(Rows::New, Columns::New).into(),
        LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::Real }.into(),
    ];
    recipe
}

/// [`lwf`] with cross-entropy over all classes seen, as it is often run when tasks are not told apart: the new labels
/// push every old logit down, whatever is distilled.
pub fn lwf_seen(base: Training, increment: Training) -> Recipe {
    let mut recipe = lwf(base, increment);
    recipe.increment.terms[0] = CrossEntropy::plain(Rows::New, Columns::Seen).into();
    recipe
}

/// LUCIR (Hou et al. 2019) with that many exemplars a class: cosine head, less-forget constraint of weight
/// 5 sqrt(old / new), margin ranking (0.5, two negatives), imprinted new weights, old class weights left alone; numbers
/// of the released code for CIFAR-100.
pub fn lucir(base: Training, increment: Training, exemplars_per_class: usize) -> Recipe {
    let terms = vec![
        CrossEntropy::plain(Rows::Real, Columns::Seen).into(),
        LessForget { weight: 5.0, adaptive: true, rows: Rows::All }.into(),
        MarginRanking { weight: 1.0, margin: 0.5, negatives: 2, rows: Rows::Old }.into(),
    ];
    let mut recipe = fine_tune(base, increment);
    recipe.head = HeadKind::Cosine;
    recipe.exemplars = Budget::PerClass(exemplars_per_class);
    recipe.freeze_old_head = true;
    recipe.imprint = true;
    recipe.increment.terms = terms;
    recipe
}

/// Proxies of each class in PODNet's head.
const PODNET_PROXIES: usize = 10;
/// Largest element of a gradient in PODNet's code.
const PODNET_GRADIENT_LIMIT: f64 = 5.0;

/// PODNet (Douillard et al. 2020) with that many exemplars a class: ten proxies a class, which begin for new classes at
/// the centres of k-means, old ones left alone; its loss as the released code has it, POD-spatial of weight 3 and
/// POD-flat of weight 1, both times sqrt(seen / new); and after each later task `fine_tuning` of all proxies on the
/// exemplars of all classes. Numbers of the released code for CIFAR-100 (c09fc54,
/// `options/podnet/podnet_cnn_cifar100.yaml`). Without exemplars there is nothing to fine-tune on.
pub fn podnet(
    base: Training,
    increment: Training,
    fine_tuning: Training,
    exemplars_per_class: usize,
) -> Recipe {
    let limited = |training| Training { gradient_limit: Some(PODNET_GRADIENT_LIMIT), ..training };
    let nca: TermSpec =
        Nca { weight: 1.0, form: NcaForm::Released, rows: Rows::Real, balanced: false }.into();
    let mut recipe = fine_tune(limited(base), limited(increment));
    recipe.head = HeadKind::MultiProxy { proxies: PODNET_PROXIES };
    recipe.exemplars = Budget::PerClass(exemplars_per_class);
    recipe.freeze_old_head = true;
    recipe.imprint = true;
    recipe.base.terms = vec![nca.clone()];
    recipe.increment.terms = vec![
        nca.clone(),
        PodFlat { weight: 1.0, adaptive: true, rows: Rows::All }.into(),
        PodSpatial { weight: 3.0, adaptive: true, rows: Rows::All }.into(),
    ];
    recipe.balance = (exemplars_per_class > 0).then(|| PhaseSpec {
        trained: Trained::ClassWeights,
        terms: vec![nca],
        training: limited(fine_tuning),
    });
    recipe
}

/// Exemplars' share of what old classes count for beside generated images: ours, not tuned.
const EXEMPLAR_SHARE: f64 = 0.5;

/// DF-GR on top of `base` (Choi et al. 2021): images of a generator inverted from the old model in every step, labelled
/// and with every class counting the same in the cross-entropy, since distilling old columns alone does not keep new
/// logits from drowning old ones. Margin ranking wants real old images: it is of exemplars alone, and without them left
/// out (0.8 and 1.6 points better on two class orders, docs/results.md). Exemplars have half of what old classes count
/// for, however few they are beside the generated images. What the base distils on every row it now distils on
/// generated images too.
#[must_use]
pub fn with_dfgr(mut base: Recipe, replay: ReplaySpec) -> Recipe {
    let half = (!base.exemplars.is_none()).then_some(EXEMPLAR_SHARE);
    base.replay = Some(ReplaySpec { exemplar_share: replay.exemplar_share.or(half), ..replay });
    for term in base.increment.terms.iter_mut().chain(base.balance.iter_mut().flat_map(|it| &mut it.terms)) {
        match term {
            TermSpec::CrossEntropy(CrossEntropy { rows, columns, balanced, .. }) => {
                (*rows, *columns, *balanced) = (Rows::All, Columns::Seen, true);
            }
            TermSpec::Nca(Nca { rows, balanced, .. }) => (*rows, *balanced) = (Rows::All, true),
            TermSpec::MarginRanking(MarginRanking { rows, .. }) => *rows = Rows::Exemplars,
            _ => {}
        }
    }
    if base.exemplars.is_none() {
        base.increment.terms.retain(|term| !matches!(term, TermSpec::MarginRanking { .. }));
    }
    base
}

/// DF-GR on top of `base` for its distillation alone: generated images are in every step, and what the base distils on
/// real images (the old model's logits, in [`lwf`]) it distils on them too, but no label is learned from them. Where
/// the cross-entropy sees them, they cost the new classes accuracy (docs/results.md). Ours.
#[must_use]
pub fn with_dfgr_distilled(mut base: Recipe, replay: ReplaySpec) -> Recipe {
    base.replay = Some(replay);
    for term in &mut base.increment.terms {
        if let TermSpec::LogitKd(LogitKd { rows, .. }) = term {
            *rows = Rows::All;
        }
    }
    base
}

/// `base` without its own distillation of the old model's logits, for [`with_dtid`] to stand in its place: both follow
/// the old model on its columns.
#[must_use]
pub fn without_logits_of_its_own(mut base: Recipe) -> Recipe {
    base.increment.terms.retain(|term| !matches!(term, TermSpec::LogitKd { .. }));
    base
}

/// DT-ID on top of `base` (Choi et al. 2021): a second teacher trained on the new classes, both teachers' logits
/// distilled, and their stage maps too where there is `vid`, made by [`both_teachers_maps`].
#[must_use]
pub fn with_dtid(
    mut base: Recipe,
    new_teacher: NewTeacherSpec,
    weight: f64,
    config: DtidConfig,
    vid: Option<TermSpec>,
) -> Recipe {
    base.new_teacher = Some(new_teacher);
    base.increment.terms.push(DualTeacher { weight, config, rows: Rows::All, new_rows: Rows::New }.into());
    base.increment.terms.extend(vid);
    base
}

/// `base` where the new images are not shared but the new teacher is: images of a second generator, inverted from it,
/// in their place. The patent application of Choi et al. 2021 names such a generator (claim 2); what it is for is our
/// inference. `base` has both schemes and no exemplar.
#[must_use]
pub fn with_new_images_unshared(base: Recipe, new_replay: NewReplaySpec) -> Recipe {
    Recipe { new_replay: Some(new_replay), ..base }
}

/// `base` without its own distillation of the old model's maps, for [`with_dtid`] with `vid` to stand in its place:
/// whether Choi et al. 2021 keep it is not known, so both are there. Distillation of pooled features (less-forget,
/// POD-flat) stays.
#[must_use]
pub fn without_maps_of_its_own(mut base: Recipe) -> Recipe {
    base.increment.terms.retain(|term| !matches!(term, TermSpec::PodSpatial { .. }));
    base
}

/// Variational information distillation of all stages from both teachers, the old one's on all rows: our reading of
/// Choi et al. 2021, which speaks of intermediate layers.
pub fn both_teachers_maps(weight: f64) -> TermSpec {
    let (teachers, rows, regressor) = (Teachers::Both, Rows::All, Regressor::Normed);
    Vid { weight, teachers, stages: Vec::new(), rows, new_rows: Rows::New, regressor }.into()
}

#[cfg(test)]
mod tests {
    use cil_engine::optim::{Decay, Schedule};
    use dfgr::InversionConfig;

    use super::*;
    use crate::recipe::SyntheticNorm;

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
            let nca =
                |it: &TermSpec| matches!(it, TermSpec::Nca(Nca { rows: Rows::All, balanced: true, .. }));
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
}
