//! `env.json`: what a run ran on and with.
//!
//! One decision: facts that do not change the configuration but may change or explain the numbers; what the system does
//! not tell is null.

use std::path::Path;

use cil_data::dataset::Dataset;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::Engine;
use crate::machine;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Commit that the program was built from, with `-dirty` if files differed.
    pub code_version: String,
    /// Version of candle.
    pub candle_version: String,
    /// What ran the networks.
    pub kernels: String,
    /// Threads.
    pub threads: usize,
    /// The processor's name.
    pub processor: Option<String>,
    /// SHA-256 over labels and pixels of the training images.
    pub train_digest: String,
    /// SHA-256 over labels and pixels of the test images.
    pub test_digest: String,
    /// The model of the base classes, if it was taken from a file.
    pub base_model: Option<BaseModel>,
    /// Names of the data set's classes, by label; none in runs of before they were recorded.
    #[serde(default)]
    pub class_names: Vec<String>,
    /// How often the run was taken up again, and by what.
    #[serde(default)]
    pub resumes: Vec<Resume>,
}

/// A process that went on with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Seconds of the run that were done.
    pub seconds: f64,
    /// Threads.
    pub threads: usize,
    /// The processor's name.
    pub processor: Option<String>,
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
            processor: machine::processor(),
            train_digest: dataset.digests().train.clone(),
            test_digest: dataset.digests().test.clone(),
            base_model,
            class_names: dataset.class_names().to_vec(),
            resumes: Vec::new(),
        }
    }
}

impl Environment {
    /// Refuses to go on with a run of `self` by a process of `own` whose numbers could be others.
    ///
    /// # Errors
    /// A sentence with both values and what would be right.
    pub fn check_same(&self, own: &Self) -> Result<(), String> {
        let Self { code_version, candle_version, kernels, train_digest, test_digest, .. } = self;
        if *kernels != own.kernels {
            return Err(format!(
                "it ran with the kernels {kernels}, and those of {} differ in the last bits; --kernels {kernels} is right",
                own.kernels
            ));
        }
        if [code_version, candle_version] != [&own.code_version, &own.candle_version] {
            return Err(format!(
                "it was begun by version {code_version} of this program with candle {candle_version}, and this is \
                 {} with {}, whose bits may differ; that version can go on with it",
                own.code_version, own.candle_version
            ));
        }
        if [train_digest, test_digest] != [&own.train_digest, &own.test_digest] {
            return Err("its images were others; --data-dir should name the images it began with".to_owned());
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
