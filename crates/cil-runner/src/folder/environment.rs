//! `env.json`: what a run ran on and with.
//!
//! Facts that do not change the configuration but may change or explain the numbers; what the system does not report is
//! null.

use std::path::Path;
use std::time::SystemTime;

use cil_data::dataset::Dataset;
use cil_engine::ranks::Spent;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::Engine;
use crate::engine::machine::{self, Gpu};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Commit that the program was built from, with `-dirty` if files differed.
    pub code_version: String,
    /// Version of candle.
    pub candle_version: String,
    /// The kernels that ran the networks.
    pub kernels: String,
    /// Threads, of each process.
    pub threads: usize,
    /// Processes that shared the work, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// The processor's name.
    pub processor: Option<String>,
    /// SHA-256 over labels and pixels of the training images.
    pub train_digest: String,
    /// SHA-256 over labels and pixels of the test images.
    pub test_digest: String,
    /// The model of the base classes, if it was taken from a file.
    pub base_model: Option<BaseModel>,
    /// The GPU, if one computed; none in runs of before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Time and bytes that rank 0 spent on communication, in the process that ended the run, if there were several
    /// ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communication: Option<Spent>,
    /// Names of the data set's classes, by label; none in runs of before they were recorded.
    #[serde(default)]
    pub class_names: Vec<String>,
    /// When, where and by which command; absent from older runs.
    #[serde(default)]
    pub made: Option<Made>,
    /// How often the run was taken up again, and by what.
    #[serde(default)]
    pub resumes: Vec<Resume>,
}

/// When, where and by which command a run was made. Two runs of the same bits differ in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// When the process began, in UTC: `2026-01-31T12:00:00Z`.
    pub started: String,
    /// When it ended; null if it was stopped.
    pub finished: Option<String>,
    /// The machine's name.
    pub host: Option<String>,
    /// The command line, an argument each.
    pub command: Vec<String>,
}

impl Made {
    /// By this process, now.
    pub fn now() -> Self {
        let command = std::env::args_os().map(|it| it.to_string_lossy().into_owned()).collect();
        Self { started: now(), finished: None, host: machine::host(), command }
    }

    /// The command line as it could be typed again.
    pub fn command_line(&self) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+%@".contains(&byte);
        let quoted = |word: &String| match !word.is_empty() && word.bytes().all(is_plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        };
        self.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// The time in UTC, to the second.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A process that resumed a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Seconds of the run that were done.
    pub seconds: f64,
    /// Threads, of each process.
    pub threads: usize,
    /// Processes that shared the work, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// The processor's name.
    pub processor: Option<String>,
    /// When, where and by which command.
    #[serde(default)]
    pub made: Option<Made>,
}

/// A model that a run started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseModel {
    /// As it was given.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl BaseModel {
    /// The model file of these bytes.
    pub fn new(file: &Path, bytes: &[u8]) -> Self {
        Self { file: file.display().to_string(), sha256: sha256(bytes) }
    }
}

impl Environment {
    /// The facts of this process.
    pub fn new(engine: &Engine, dataset: &Dataset, base_model: Option<BaseModel>) -> Self {
        Self {
            code_version: env!("CIL_CODE_VERSION").to_owned(),
            candle_version: env!("CIL_CANDLE_VERSION").to_owned(),
            kernels: engine.kernels.to_owned(),
            threads: engine.threads,
            ranks: (engine.ranks.count() > 1).then(|| engine.ranks.count()),
            processor: machine::processor(),
            train_digest: dataset.digests().train.clone(),
            test_digest: dataset.digests().test.clone(),
            base_model,
            gpu: engine.gpu.clone(),
            communication: None,
            class_names: dataset.class_names().to_vec(),
            made: Some(Made::now()),
            resumes: Vec::new(),
        }
    }
}

impl Environment {
    /// Takes note that this process ends the run now.
    pub fn finish(&mut self) {
        let last = self.resumes.last_mut().map_or(&mut self.made, |resume| &mut resume.made);
        if let Some(made) = last {
            made.finished = Some(now());
        }
    }

    /// When the run began, as far as it was recorded.
    pub fn started(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(&self.made.as_ref()?.started).ok()
    }

    /// Refuses to resume a run of `self` by a process of `own` whose numbers could be others.
    ///
    /// # Errors
    /// A sentence with both values and what would be right.
    pub fn check_same(&self, own: &Self) -> Result<(), String> {
        let Self { code_version, candle_version, kernels, train_digest, test_digest, .. } = self;
        if *kernels != own.kernels {
            return Err(format!(
                "it ran with the kernels {kernels}, and those of {} differ in the last bits; use --kernels {kernels}",
                own.kernels
            ));
        }
        if [code_version, candle_version] != [&own.code_version, &own.candle_version] {
            return Err(format!(
                "it was begun by version {code_version} of this program with candle {candle_version}, and this is \
                 {} with {}, whose bits may differ; use that version to resume it",
                own.code_version, own.candle_version
            ));
        }
        // Runs of before it was recorded do not say which it was.
        if let (Some(gpu), Some(others)) = (&self.gpu, &own.gpu)
            && gpu != others
        {
            return Err(format!(
                "it ran on {gpu}, and this is {others}, whose bits may differ; use the same GPU and libraries to \
                 resume it"
            ));
        }
        if [train_digest, test_digest] != [&own.train_digest, &own.test_digest] {
            return Err(
                "its images were others; use --data-dir with the images that it began with".to_owned()
            );
        }
        Ok(())
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes as digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(gpu: Option<Gpu>) -> Environment {
        Environment {
            code_version: "1".to_owned(),
            candle_version: "0.11.1".to_owned(),
            kernels: "tf32".to_owned(),
            threads: 1,
            ranks: None,
            processor: None,
            train_digest: String::new(),
            test_digest: String::new(),
            base_model: None,
            gpu,
            communication: None,
            class_names: Vec::new(),
            made: None,
            resumes: Vec::new(),
        }
    }

    fn h100() -> Gpu {
        Gpu {
            name: "NVIDIA H100".to_owned(),
            driver: Some("580.65.06".to_owned()),
            cuda: "13.0".to_owned(),
            cudnn: "9.19.0".to_owned(),
            cublas: "13.1.0".to_owned(),
        }
    }

    #[test]
    fn a_run_is_gone_on_with_on_the_same_gpu_and_libraries() {
        let begun = on(Some(h100()));
        assert_eq!(begun.check_same(&on(Some(h100()))), Ok(()));
        let others = [
            Gpu { name: "NVIDIA H200".to_owned(), ..h100() },
            Gpu { driver: Some("590.1".to_owned()), ..h100() },
            Gpu { cuda: "13.1".to_owned(), ..h100() },
            Gpu { cudnn: "9.20.0".to_owned(), ..h100() },
            Gpu { cublas: "13.2.0".to_owned(), ..h100() },
        ];
        for other in others {
            let message = begun.check_same(&on(Some(other.clone()))).unwrap_err();
            assert!(
                message.contains(&h100().to_string()) && message.contains(&other.to_string()),
                "{message}"
            );
        }
        // It was not recorded, or there is none.
        assert_eq!(on(None).check_same(&on(Some(h100()))), Ok(()));
        assert_eq!(on(None).check_same(&on(None)), Ok(()));
    }

    #[test]
    fn a_record_without_a_gpu_says_nothing_of_one() {
        let text = serde_json::to_string(&on(None)).unwrap();
        assert!(!text.contains("gpu"), "{text}");
        assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), on(None));
        let with = serde_json::to_string(&on(Some(h100()))).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&with).unwrap(), on(Some(h100())));
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let command = ["cil-runner", "run", "my file.toml", "--set", "increments=[2, 2]", "--name=it's", ""];
        let made = Made { command: command.map(str::to_owned).to_vec(), ..Made::now() };
        let line = "cil-runner run 'my file.toml' --set 'increments=[2, 2]' '--name=it'\\''s' ''";
        assert_eq!(made.command_line(), line);
        assert!(
            humantime::parse_rfc3339(&made.started).is_ok_and(|it| it <= SystemTime::now()),
            "{}",
            made.started
        );
    }
}
