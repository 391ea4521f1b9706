//! Means and spreads.
//!
//! A spread is the sample standard deviation, and there is none of a single value.

use serde::Serialize;

/// Mean and spread of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many values there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation; null of a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { count, mean, deviation })
    }

    /// In percent with one digit, such as `79.8 ± 0.4`; `sign`: with `+` where it is positive.
    pub fn percent(spread: Option<Self>, sign: bool) -> String {
        let Some(it) = spread else { return "-".to_owned() };
        let plus = if sign && it.mean >= 0.0 { "+" } else { "" };
        let deviation = it.deviation.map_or(String::new(), |it| format!(" ± {:.1}", 100.0 * it));
        format!("{plus}{:.1}{deviation}", 100.0 * it.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_samples() {
        let it = Spread::of(&[0.5, 0.7, 0.9]).unwrap();
        assert!((it.mean - 0.7).abs() < 1e-12 && (it.deviation.unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(Spread::percent(Some(it), false), "70.0 ± 20.0");
        assert_eq!(Spread::percent(Spread::of(&[0.25]), true), "+25.0");
        assert_eq!(Spread::percent(Spread::of(&[-0.25]), true), "-25.0");
        assert_eq!(Spread::percent(Spread::of(&[]), false), "-");
    }
}
