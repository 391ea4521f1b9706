//! Arguments of `audit`.

use std::path::PathBuf;

use clap::Args;

use super::target::Target;

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// What to audit; its recipe must have a replay. With --oracle a run folder.
    #[command(flatten)]
    pub target: Target,
    /// Where the missing points of a finished run are, from real images of all its classes; name its folder
    #[arg(long, conflicts_with_all = ["method", "exemplars", "head", "set", "base_model", "other_model", "picture"])]
    pub oracle: bool,
    /// Change one key of the configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The model to invert (base.safetensors of a run)
    #[arg(long, value_name = "FILE", required_unless_present = "oracle")]
    pub base_model: Option<PathBuf>,
    /// A model of the same classes from another seed: does it see in the images what was asked for?
    #[arg(long, value_name = "FILE", required_unless_present = "oracle")]
    pub other_model: Option<PathBuf>,
    /// Where the picture goes
    #[arg(long, value_name = "FILE.png")]
    pub picture: Option<PathBuf>,
}
