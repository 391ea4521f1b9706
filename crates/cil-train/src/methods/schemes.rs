//! The two schemes of Choi et al. 2021 as functions from recipe to recipe.

use dtid::dual::DtidConfig;

use crate::recipe::{
    AdversarialReplaySpec, Columns, NewReplaySpec, NewTeacherSpec, Recipe, Regressor, ReplaySpec, Rows,
    Teachers, TermSpec,
};
use crate::term::{CrossEntropy, DualTeacher, LogitKd, MarginRanking, Nca, Vid};

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
/// real images (the old model's logits, in [`lwf`](super::lwf())) it distils on them too, but no label is learned
/// from them. Where the cross-entropy sees them, they cost the new classes accuracy (docs/results.md). Ours.
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

/// Replay of adversarial images (APR, Honda 2026) on top of `base`, with `batch` of them in every step: what the
/// base distils on real images (the old model's logits, in [`lwf`](super::lwf())) it distils on them too, and no label
/// is learned from them. Numbers of the released code (hirotomusiker/APR-EFCIL at 7ad25b8). `base` has a classifier of
/// kept statistics, whose class means they are made with.
#[must_use]
pub fn with_adversarial(mut base: Recipe, batch: usize) -> Recipe {
    let spec = AdversarialReplaySpec { images: 200, step: 8.0, iterations: 4, noise: 1.0, batch };
    base.adversarial = Some(spec);
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
