//! The setting to suggest when a phase diverges.
//!
//! Of all numbers that multiply a step or a loss, the one that is furthest from what is published is named with its
//! value; if none is far, the learning rate is.

use super::{Recipe, TermSpec, Training};
use crate::phase_kind::{PhaseKind, PhaseSettings};
use crate::term::Scaled;

/// Published rates of SGD are 2 at most (iCaRL), those of Adam 0.01.
const RATES: (f64, f64) = (2.0, 0.01);
/// Published weights of a part of a loss are 100 at most.
const WEIGHT: f64 = 100.0;
/// Published temperatures of distillation are 1 at least, and 20 at most; 1000 in ABD's label loss.
const TEMPERATURES: (f64, f64) = (1.0, 1000.0);
/// Published L2 penalties are 0.1 at most.
const DECAY: f64 = 0.1;

/// A number of a phase with its key: how many times it is beyond what is published, and whether it is too large.
struct Suspect {
    key: String,
    value: f64,
    times: f64,
    too_large: bool,
}

impl Suspect {
    fn large(key: String, value: f64, usual: f64) -> Self {
        Self { key, value, times: value / usual, too_large: true }
    }

    fn temperature(key: String, value: f64) -> Self {
        let (least, most) = TEMPERATURES;
        if value < least {
            return Self { key, value, times: least / value, too_large: false };
        }
        Self::large(key, value, most)
    }
}

impl Recipe {
    /// The suggestion for a diverged phase of a task.
    pub(crate) fn advice(&self, phase: PhaseKind, task: usize) -> String {
        let suspects = self.suspects(phase, task);
        let furthest = suspects.iter().filter(|it| it.times > 1.0);
        let furthest = furthest.max_by(|left, right| left.times.total_cmp(&right.times));
        match (furthest, suspects.first()) {
            (Some(Suspect { key, value, too_large, .. }), _) => {
                let other = if *too_large { "smaller" } else { "larger" };
                format!("{key} is {value:?}, which is far from published values; a {other} one may help")
            }
            (None, Some(rate)) => format!("a lower {} than {:?} may help", rate.key, rate.value),
            (None, None) => "a lower learning-rate may help".to_owned(),
        }
    }

    /// The numbers of a phase, its learning rate first.
    fn suspects(&self, phase: PhaseKind, task: usize) -> Vec<Suspect> {
        let of_phase = |key: &str, training: &Training, terms: &[TermSpec]| {
            let mut found = of_training(key, training);
            for (at, term) in terms.iter().enumerate() {
                of_term(&format!("recipe.{key}.terms.{at}"), term, &mut found);
            }
            found
        };
        match PhaseSettings::of(self, phase, task) {
            Some(PhaseSettings::Training(key, training, terms)) => of_phase(key, training, terms),
            Some(PhaseSettings::Inversion(key, inversion)) => of_inversion(key, inversion),
            None => Vec::new(),
        }
    }
}

fn of_training(key: &str, training: &Training) -> Vec<Suspect> {
    let key = |name: &str| format!("recipe.{key}.training.{name}");
    vec![
        Suspect::large(key("learning-rate"), training.learning_rate, RATES.0),
        Suspect::large(key("weight-decay"), training.weight_decay, DECAY),
    ]
}

fn of_inversion(key: &str, inversion: &dfgr::InversionConfig) -> Vec<Suspect> {
    let key = |name: &str| format!("recipe.{key}.inversion.{name}");
    let weights = &inversion.weights;
    let mut found = vec![Suspect::large(key("learning-rate"), inversion.learning_rate, RATES.1)];
    for (name, weight) in [
        ("statistics.weight", weights.statistics.weight),
        ("label", weights.label),
        ("instance-entropy", weights.instance_entropy),
        ("batch-entropy", weights.batch_entropy),
        ("diversity", weights.diversity),
        ("smoothness", weights.smoothness),
        ("balance", weights.balance),
        ("blur", weights.blur),
    ] {
        found.push(Suspect::large(key(&format!("weights.{name}")), weight, WEIGHT));
    }
    if weights.label > 0.0 {
        found.push(Suspect::temperature(key("weights.label-temperature"), weights.label_temperature));
    }
    found
}

fn of_term(key: &str, term: &TermSpec, found: &mut Vec<Suspect>) {
    if let TermSpec::Scaled(Scaled { term, .. }) = term {
        return of_term(&format!("{key}.term"), term, found);
    }
    let settings = term.settings();
    found.push(Suspect::large(format!("{key}.weight"), settings.weight(), WEIGHT));
    if let Some((name, temperature)) = settings.temperature() {
        found.push(Suspect::temperature(format!("{key}.{name}"), temperature));
    }
    let factors = settings.factors().into_iter();
    found.extend(factors.map(|(name, factor)| Suspect::large(format!("{key}.{name}"), factor, WEIGHT)));
}

#[cfg(test)]
mod tests {
    use cil_engine::optim::Schedule;
    use dfgr::InversionConfig;

    use super::*;
    use crate::methods::lwf;
    use crate::recipe::{ReplaySpec, SyntheticNorm};
    use crate::term::LogitKd;

    #[test]
    fn the_number_that_is_furthest_from_published_ones_is_named() {
        let training = Training {
            epochs: 1,
            batch: 8,
            learning_rate: 0.1,
            schedule: Schedule::constant(),
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            gradient_limit: None,
            drop_last: false,
        };
        let mut recipe = lwf(training.clone(), training);
        let suggestion = |recipe: &Recipe, phase| recipe.advice(phase, 1);
        let plain = "a lower recipe.increment.training.learning-rate than 0.1 may help";
        assert_eq!(suggestion(&recipe, PhaseKind::Student), plain);
        let plain = "a lower recipe.base.training.learning-rate than 0.1 may help";
        assert_eq!(recipe.advice(PhaseKind::Student, 0), plain);
        let TermSpec::LogitKd(LogitKd { temperature, weight, .. }) = &mut recipe.increment.terms[1] else {
            panic!("lwf distils logits")
        };
        (*temperature, *weight) = (0.01, 500.0);
        let expected = "recipe.increment.terms.1.temperature is 0.01, which is far from published values; a larger one \
                        may help";
        assert_eq!(suggestion(&recipe, PhaseKind::Student), expected);
        recipe.increment.training.weight_decay = 50.0;
        assert!(
            suggestion(&recipe, PhaseKind::Student)
                .starts_with("recipe.increment.training.weight-decay is 50.0")
        );
        let mut inversion = InversionConfig::unconditional(10);
        inversion.weights.statistics.weight = 1e5;
        let synthetic_norm = SyntheticNorm::Joint;
        recipe.replay =
            Some(ReplaySpec { inversion, batch: 8, synthetic_norm, exemplar_share: None, warm_start: false });
        let suggestion = suggestion(&recipe, PhaseKind::Inversion);
        assert!(
            suggestion.starts_with("recipe.replay.inversion.weights.statistics.weight is 100000.0"),
            "{suggestion}"
        );
    }
}
