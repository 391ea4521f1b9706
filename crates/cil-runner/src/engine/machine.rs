//! The machine of a run, and its resources.
//!
//! A fact that cannot be found out is `None`, never a guess, and never an error.

use std::{fmt, fs};

use serde::{Deserialize, Serialize};

/// A GPU, and the libraries that compute on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// Version of the driver.
    pub driver: Option<String>,
    /// The CUDA release that the driver is for.
    pub cuda: String,
    /// Version of cuDNN.
    pub cudnn: String,
    /// Version of cuBLAS.
    pub cublas: String,
}

impl fmt::Display for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, driver, cuda, cudnn, cublas } = self;
        let driver = driver.as_deref().unwrap_or("unknown");
        write!(formatter, "{name} with driver {driver}, CUDA {cuda}, cuDNN {cudnn} and cuBLAS {cublas}")
    }
}

/// Most memory that this process ever held, in bytes (`VmHWM` of Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    parse_peak_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor time of all threads of this process so far, in milliseconds; finished threads are left out.
pub fn processor_milliseconds() -> Option<f64> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e6)
}

/// Version of NVIDIA's driver, such as `580.65.06`.
pub fn nvidia_driver() -> Option<String> {
    parse_nvidia_driver(&fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The first number of the line with the version, under any name of the module.
fn parse_nvidia_driver(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| {
        word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.parse::<u32>().is_ok())
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// The name that this machine has for itself.
pub fn host() -> Option<String> {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The processor's own name.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_passes() {
        let Some(before) = processor_milliseconds() else { return };
        let start = std::time::Instant::now();
        // On a busy machine this thread may wait long for its turn.
        while start.elapsed().as_secs() < 30 {
            if processor_milliseconds().is_some_and(|after| after > before) {
                return;
            }
        }
        panic!("no processor time passed in 30 seconds");
    }

    #[test]
    fn the_drivers_version_is_found_whatever_module_it_is() {
        let closed =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 13.2.0\n";
        assert_eq!(parse_nvidia_driver(closed).as_deref(), Some("550.54.15"));
        assert_eq!(parse_nvidia_driver(open).as_deref(), Some("580.65.06"));
        assert_eq!(parse_nvidia_driver("GCC version: 13.2.0\n"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(parse_peak_memory("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(parse_peak_memory("Name:\tx\n"), None);
    }
}
