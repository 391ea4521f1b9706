//! The command line of the workspace's tasks: `cargo xtask <command>`.
//!
//! Every failure leaves as one sentence on standard error and exit status 1. Nothing is decided here beyond which task
//! runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::dataset::Spec;
use xtask::fetch::{self, Origin};
use xtask::{Client, keys, licences, lint, tidy};

#[derive(Parser)]
#[command(name = "xtask", version, about = "Tasks of the workspace", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Download a data set (or convert a local copy) into the folder layout that training reads
    FetchData(FetchData),
    /// Recompute the digests and counts of a fetched data set
    VerifyData {
        /// The data set
        #[arg(value_parser = spec())]
        name: Spec,
        /// Where data sets live
        #[arg(long, default_value = "datasets")]
        data_dir: PathBuf,
    },
    /// Run rustfmt, clippy, rustdoc, licences and tidy, warnings being errors
    Lint,
    /// Check licences and origins of all dependencies by deny.toml
    Licences,
    /// Check the rules of the house that no compiler checks
    Tidy,
    /// Write docs/configuration.md, and the comments of --dry-run, from the doc comments of the configuration's types
    Keys,
}

#[derive(Args)]
struct FetchData {
    /// The data set
    #[arg(value_parser = spec())]
    name: Spec,
    /// Convert a local copy instead: a folder with the official archives or with hub parquet shards; of tiny-imagenet
    /// the archive itself, or the folder that was unpacked
    #[arg(long, value_name = "PATH", conflicts_with_all = ["source", "base_url", "endpoint", "offline"])]
    from: Option<PathBuf>,
    /// Where data sets live
    #[arg(long, default_value = "datasets")]
    data_dir: PathBuf,
    /// Which publisher to ask
    #[arg(long, value_enum, default_value_t = Source::Official)]
    source: Source,
    /// Where the official archives lie
    #[arg(long, value_name = "URL", default_value = fetch::OFFICIAL_URL)]
    base_url: String,
    /// The hub's address, for `--source hub` [default: HF_ENDPOINT, or the client's own]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Use what was downloaded before and open no connection
    #[arg(long)]
    offline: bool,
    /// Fetch again although the data set is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Source {
    Official,
    Hub,
}

/// Parses the name of a data set that can be fetched.
fn spec() -> impl TypedValueParser<Value = Spec> {
    PossibleValuesParser::new(Spec::names())
        .try_map(|name| Spec::named(&name).ok_or("no data set that can be fetched"))
}

/// Where results go; where the reader went away (`| head`) they are dropped, and what was asked for is done.
struct Printed<W>(W);

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse(), &mut Printed(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, out: &mut dyn Write) -> Result<()> {
    match cli.command {
        Command::FetchData(arguments) => {
            let origin = match (arguments.from, arguments.source) {
                (Some(folder), _) => Origin::Folder(folder),
                (None, Source::Official) => {
                    Origin::Official { base_url: arguments.base_url, client: Client::new() }
                }
                (None, Source::Hub) => Origin::Hub { endpoint: arguments.endpoint, cache: None },
            };
            let request = fetch::Request {
                data_dir: arguments.data_dir,
                origin,
                offline: arguments.offline,
                force: arguments.force,
            };
            fetch::run(&arguments.name, &request, out)
        }
        Command::VerifyData { name, data_dir } => fetch::verify(&name, &data_dir, out),
        Command::Lint => lint::run(out),
        Command::Licences => licences::run(out),
        Command::Tidy => tidy::run(out),
        Command::Keys => keys::run(out),
    }
}
