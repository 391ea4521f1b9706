//! Which numbers a setting may have.
//!
//! A number that cannot be intended (a temperature of 1e30, a weight that is NaN) is refused before anything is
//! computed, with its key, its value and the range. The ranges are some powers of ten wider than published values, so
//! they forbid no experiment; within them, every loss is finite.

use candle_core::{Result, bail};

/// Largest starting learning rate; published ones are 2 at most.
pub const LARGEST_RATE: f64 = 1e6;
/// Largest weight of a part of a loss; published ones are some hundreds at most.
pub const LARGEST_WEIGHT: f64 = 1e6;
/// Largest L2 penalty; published ones are 0.1 at most.
pub const LARGEST_DECAY: f64 = 100.0;

/// Refuses a value that is not from `least` to `most`; NaN is in no range.
///
/// # Errors
/// Naming the key, the value and the range.
pub fn within(key: &str, value: f64, least: f64, most: f64) -> Result<()> {
    if !(least..=most).contains(&value) {
        // `{:?}` writes 1e308 and not its 309 digits.
        bail!("{key} is {value:?}; use a value from {least} to {most}");
    }
    Ok(())
}

/// Refuses a value that is not above 0 and at most `most`; NaN is in no range.
///
/// # Errors
/// Naming the key, the value and the range.
pub fn positive(key: &str, value: f64, most: f64) -> Result<()> {
    if !(value > 0.0 && value <= most) {
        bail!("{key} is {value:?}; use a value above 0 and at most {most}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_range_are_in_it_and_nan_is_in_none() {
        assert!(within("a", 0.0, 0.0, 2.0).is_ok() && within("a", 2.0, 0.0, 2.0).is_ok());
        assert!(positive("a", 2.0, 2.0).is_ok());
        for value in [f64::NAN, f64::INFINITY, -1.0, 2.1] {
            assert!(within("a", value, 0.0, 2.0).is_err() && positive("a", value, 2.0).is_err(), "{value}");
        }
        let message = within("a.b", 1e308, 0.0, 2.0).unwrap_err().to_string();
        assert!(message.starts_with("a.b is 1e308; use a value from 0 to 2"), "{message}");
        let message = positive("a.b", 0.0, 1e6).unwrap_err().to_string();
        assert!(message.starts_with("a.b is 0.0; use a value above 0 and at most 1000000"), "{message}");
    }
}
