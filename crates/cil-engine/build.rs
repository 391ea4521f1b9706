//! Compiles the CUDA executor's kernels to PTX, if it is asked for.
//!
//! The compiler is `$NVCC`, or `nvcc` on the path: what candle's own kernels are compiled with.

use std::env;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/cuda/kernels.cu";
const PARTS: &str = "src/cuda/kernels";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed={PARTS}");
    println!("cargo:rerun-if-env-changed=NVCC");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let compiler = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let folder = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for (value, name) in [("float", "f32"), ("Bf16", "bf16")] {
        let output = Path::new(&folder).join(format!("kernels_{name}.ptx"));
        // Compute capability 8.0 has bf16 and TF32 in its tensor cores; the driver compiles for what is there.
        let status = Command::new(&compiler)
            .args(["-ptx", "-O3", "-arch=compute_80", SOURCE])
            .arg(format!("-DVALUE={value}"))
            .arg(format!("-DNAMED(name)=name##_{name}"))
            .arg("-o")
            .arg(&output)
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                panic!("NVCC={compiler} failed on {SOURCE} ({status}); use CUDA 12.0 or newer")
            }
            Err(error) => {
                panic!(
                    "NVCC={compiler} cannot be run ({error}); the feature cuda needs the CUDA compiler, \
                     see docs/cuda.md"
                )
            }
        }
    }
}
