//! Which protocol, method or preset is meant.

use cil_train::methods::heads::{self, Head};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Which configuration is meant.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// A protocol with a method behind it, a preset (both joined by `-`), or a file that ends in .toml
    #[arg(value_name = "PROTOCOL|PRESET|FILE.toml")]
    pub target: String,
    /// The method: what it is built on and what is added, such as lucir+dfgr+dtid
    #[arg(value_name = "METHOD")]
    pub method: Option<String>,
    /// Exemplars of each class, for a method whose name has them, such as lucir; 20 otherwise
    #[arg(long, value_name = "N", requires = "method")]
    pub exemplars: Option<usize>,
    /// The classifier: the trained head, or stored statistics of features
    #[arg(long, value_parser = head(), requires = "method")]
    pub head: Option<&'static Head>,
}

/// Parses the name of a head, and lists them all in a help text.
fn head() -> impl TypedValueParser<Value = &'static Head> {
    let all = std::iter::once(&heads::TRAINED).chain(heads::ALL);
    PossibleValuesParser::new(all.map(|it| PossibleValue::new(it.option).help(it.about)))
        .try_map(|option| Head::of_option(&option).ok_or("not a head"))
}

/// Arguments of `show`.
#[derive(Args, Debug)]
pub struct Show {
    /// A protocol, a method or a preset
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The method, where NAME is a protocol
    #[arg(value_name = "METHOD")]
    pub method: Option<String>,
}

/// Arguments of `presets`.
#[derive(Args, Debug)]
pub struct Presets {
    /// A protocol, a preset, or a part of their names
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print source and expected results of each
    #[arg(long)]
    pub all: bool,
}
