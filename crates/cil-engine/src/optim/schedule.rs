//! How the learning rate moves.
//!
//! The rate is a function of the position alone, so a resumed run has the rate of an uninterrupted one.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::bounds;

/// The last unit that a schedule can speak of; no phase has as many.
const LAST_UNIT: usize = 100_000_000;

/// The decay of the rate after warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decay {
    /// Nothing.
    Constant,
    /// Times `gamma` after every `every` units.
    Step {
        /// Units between changes.
        every: usize,
        /// Factor of a change.
        gamma: f64,
    },
    /// Times `gamma` at each milestone.
    MultiStep {
        /// Units, from 0, at which the rate changes.
        milestones: Vec<usize>,
        /// Factor of a change.
        gamma: f64,
    },
    /// Half a cosine from the starting rate to `minimum` of it.
    Cosine {
        /// The share of the starting rate that the last unit would be followed by.
        minimum: f64,
    },
}

/// A rate by position; a unit is an epoch or an iteration, as its owner says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    /// Units in which the rate rises in equal parts to its start; the last of them has it in full.
    #[serde(default)]
    pub warm_up: usize,
    /// The decay after warm-up. Milestones count from the very beginning; a cosine spans the units after warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// No warm-up, one rate.
    pub fn constant() -> Self {
        Self { warm_up: 0, decay: Decay::Constant }
    }

    /// No warm-up, a cosine to 0.
    pub fn cosine() -> Self {
        Self { warm_up: 0, decay: Decay::Cosine { minimum: 0.0 } }
    }

    /// No warm-up, times `gamma` at each milestone.
    pub fn multi_step(milestones: &[usize], gamma: f64) -> Self {
        Self { warm_up: 0, decay: Decay::MultiStep { milestones: milestones.to_vec(), gamma } }
    }

    /// Refuses numbers that no schedule of `total` units (`unit` is what they are called) has.
    ///
    /// # Errors
    /// Naming the key within the schedule, its value and what would be right.
    pub fn check(&self, total: usize, unit: &str) -> Result<()> {
        if self.warm_up >= total && self.warm_up > 0 {
            bail!("warm-up is {} of {total} {unit}; use fewer", self.warm_up);
        }
        match &self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { every, gamma } => {
                if *every == 0 || *every > LAST_UNIT {
                    bail!("decay.every is {every}; use a value from 1 to {LAST_UNIT}");
                }
                bounds::positive("decay.gamma", *gamma, 1.0)
            }
            Decay::MultiStep { milestones, gamma } => {
                if let Some(late) = milestones.iter().find(|it| **it > LAST_UNIT) {
                    bail!("decay.milestones holds {late}; milestones are from 0 to {LAST_UNIT}");
                }
                let twice = |it: &&usize| milestones.iter().filter(|other| other == it).count() > 1;
                if let Some(milestone) = milestones.iter().find(twice) {
                    bail!("decay.milestones holds {milestone} twice; name it once");
                }
                bounds::positive("decay.gamma", *gamma, 1.0)
            }
            Decay::Cosine { minimum } => bounds::within("decay.minimum", *minimum, 0.0, 1.0),
        }
    }

    /// The rate of unit `position` (from 0) of `total`, starting from `base`.
    pub fn rate(&self, base: f64, position: usize, total: usize) -> f64 {
        if position < self.warm_up {
            return base * (position + 1) as f64 / self.warm_up as f64;
        }
        let power = |gamma: f64, times: usize| base * gamma.powi(times as i32);
        match &self.decay {
            Decay::Constant => base,
            Decay::Step { every, gamma } => power(*gamma, position / (*every).max(1)),
            Decay::MultiStep { milestones, gamma } => {
                power(*gamma, milestones.iter().filter(|milestone| **milestone <= position).count())
            }
            Decay::Cosine { minimum } => {
                let span = total.saturating_sub(self.warm_up).max(1) as f64;
                let done = ((position - self.warm_up) as f64 / span).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                base * (minimum + (1.0 - minimum) * share)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_to_the_start_and_a_cosine_spans_the_rest() {
        let schedule = Schedule { warm_up: 4, ..Schedule::cosine() };
        let rates: Vec<f64> = (0..8).map(|at| schedule.rate(2.0, at, 8)).collect();
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let wanted = [0.5, 1.0, 1.5, 2.0, 2.0, 1.0 + half, 1.0, 1.0 - half];
        assert!(rates.iter().zip(wanted).all(|(rate, wanted)| (rate - wanted).abs() < 1e-12), "{rates:?}");
    }

    #[test]
    fn every_number_of_every_schedule_has_bounds() {
        let after = |warm_up: usize, decay: Decay| Schedule { warm_up, decay };
        let step = |every: usize, gamma: f64| after(0, Decay::Step { every, gamma });
        let cosine = |minimum: f64| after(0, Decay::Cosine { minimum });
        for right in [
            after(7, Decay::Constant),
            step(1, 1.0),
            Schedule::multi_step(&[], 0.1),
            // Beyond the end, as in a phase that was made shorter.
            Schedule::multi_step(&[0, 80, 120], 0.1),
            cosine(0.0),
            cosine(1.0),
        ] {
            right.check(8, "epochs").unwrap();
        }
        for (wrong, expected) in [
            (after(8, Decay::Constant), "warm-up is 8 of 8 epochs; use fewer"),
            (after(usize::MAX, Decay::Constant), "of 8 epochs"),
            (step(0, 0.1), "decay.every is 0; use a value from 1"),
            (step(usize::MAX, 0.1), "use a value from 1 to 100000000"),
            (step(1, f64::NAN), "decay.gamma is NaN; use a value above 0 and at most 1"),
            (step(1, 0.0), "decay.gamma is 0"),
            (step(1, -0.1), "decay.gamma is -0.1"),
            (Schedule::multi_step(&[3], 1.5), "decay.gamma is 1.5"),
            (Schedule::multi_step(&[3], f64::INFINITY), "decay.gamma is inf"),
            (Schedule::multi_step(&[3, usize::MAX], 0.1), "decay.milestones holds 18446744073709551615"),
            (Schedule::multi_step(&[3, 5, 3], 0.1), "decay.milestones holds 3 twice"),
            (cosine(f64::NAN), "decay.minimum is NaN; use a value from 0 to 1"),
            (cosine(-1.0), "decay.minimum is -1"),
            (cosine(5.0), "decay.minimum is 5"),
        ] {
            let message = wrong.check(8, "epochs").unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = r#"{"decay": {"kind": "cosine", "minimum": 0.0}, "warmup": 3}"#;
        assert!(serde_json::from_str::<Schedule>(text).is_err());
        let text = r#"{"decay": {"kind": "multi-step", "milestones": [80, 120], "gamma": 0.1}}"#;
        assert_eq!(serde_json::from_str::<Schedule>(text).unwrap(), Schedule::multi_step(&[80, 120], 0.1));
    }
}
