//! How a command ends badly.
//!
//! Errors are `anyhow` throughout, and three marker types determine the exit status; everything else is status 1. One
//! sentence is printed, the chain of causes joined by colons.

use std::fmt;

/// The command line or the configuration is wrong: exit status 2.
#[derive(Debug)]
pub struct BadInput(pub String);

/// The user stopped the run: exit status 130.
#[derive(Debug)]
pub struct Interrupted(pub String);

/// The user stopped it, and what was done is kept for the next time: exit status 75.
#[derive(Debug)]
pub struct Kept(pub String);

impl fmt::Display for BadInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}
impl std::error::Error for Interrupted {}
impl std::error::Error for Kept {}

/// The error of a wrong command or configuration.
pub fn bad_input(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// The error as one sentence: its causes joined by colons, each without the backtrace that candle appends where
/// `RUST_BACKTRACE` asks for one.
pub fn sentence(error: &anyhow::Error) -> String {
    let texts = error.chain().map(ToString::to_string);
    texts.map(|text| text.lines().next().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(": ")
}

/// The exit status of this error.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    if error.is::<BadInput>() {
        2
    } else if error.is::<Interrupted>() {
        130
    } else if error.is::<Kept>() {
        75
    } else {
        1
    }
}

/// Whether a process that ended with this status was stopped by its user.
pub fn exit_status_means_interrupted(status: i32) -> bool {
    [75, 130].contains(&status)
}

/// The name among `names` that was probably meant by `wrong`, if one is near.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(wrong, name), name));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 > 0.7).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_status_survives_context() {
        let error = Err::<(), _>(bad_input("no such key")).context("in a.toml").unwrap_err();
        assert_eq!(exit_status(&error), 2);
        assert_eq!(format!("{error:#}"), "in a.toml: no such key");
        assert_eq!(exit_status(&anyhow::anyhow!("other")), 1);
        assert_eq!(exit_status(&Interrupted("stopped".into()).into()), 130);
        assert_eq!(exit_status(&Kept("stopped".into()).into()), 75);
        let long = anyhow::anyhow!("wrong\n   0: main").context("in a");
        assert_eq!(sentence(&long), "in a: wrong");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("epoch", ["epochs", "batch", "seed"]), Some("epochs"));
        assert_eq!(nearest("zzz", ["epochs", "batch", "seed"]), None);
    }
}
