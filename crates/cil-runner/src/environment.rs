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
        Self { file: file.display().to_string(), sha256: hexadecimal(&Sha256::digest(bytes)) }
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
        }
    }
}

/// Bytes as digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
