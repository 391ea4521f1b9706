#!/usr/bin/env bash
# build.sh FOLDER: builds the emulator of the CUDA driver, cuBLAS, cuDNN and NCCL there; with FOLDER on LD_LIBRARY_PATH it is used.
# Needs g++ and the sources of cudarc and candle-kernels, which cargo has fetched if the feature `cuda` was ever built.
# It computes with what this processor has: build it where it is to run.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"

# Where cargo has put the sources of a package, in the version of Cargo.lock.
fetched() {
  local version sources= found
  version=$(sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/\1/p}" ../../../../Cargo.lock)
  for found in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$version"/src; do sources=$found; done
  [ -d "$sources" ] || { echo "$0: $1 $version is not fetched; run cargo fetch" >&2; return 1; }
  echo "$sources"
}
cudarc=$(fetched cudarc)
candle=$(fetched candle-kernels)

# CUDA's headers: candle.cpp declares what the kernels need of them.
mkdir -p "$out/headers/cuda/std"
for header in cuda.h cuda_fp16.h cuda_bf16.h cuda_fp8.h cuda/std/limits; do : >"$out/headers/$header"; done
flags=(-std=c++17 -fPIC -fvisibility=hidden -ffp-contract=off -I ../../src/cuda -I "$out" -I "$out/headers" -I "$candle")

grep -oh '^KERNEL([a-z_]*)' ../../src/cuda/kernels/*.cuh | sed 's/KERNEL/ENTRY/' >"$out/entries.inc"
g++ "${flags[@]}" -E -P -DKERNEL_HERE=KERNEL_HERE candle.cpp | tr '\n' ' ' |
  grep -oE 'extern "C" +KERNEL_HERE +void +[a-z0-9_]+' | sed 's/.* \([a-z0-9_]*\)$/ENTRY(\1)/' >"$out/candle.inc"
g++ "${flags[@]}" -O2 -Wno-unknown-pragmas -c candle.cpp -o "$out/candle.o" &
g++ "${flags[@]}" -O2 -c emulator.cpp -o "$out/emulator.o"
g++ "${flags[@]}" -O2 -c pinned.cpp -o "$out/pinned.o"
g++ "${flags[@]}" -O2 -c nccl.cpp -o "$out/nccl.o"
g++ "${flags[@]}" -O3 -march=native -c products.cpp -o "$out/products.o"
wait $!
nm "$out"/{emulator,pinned,nccl,products}.o | awk '$2 == "T" { print $3 }' | sort >"$out/defined"
# Every other function that cudarc may name succeeds and does nothing.
{
  for module in driver nvrtc curand cublas cublaslt cudnn; do
    sed -n '/extern "C" {/,/}/p' "$cudarc/$module/sys/mod.rs" | grep -oE 'fn [A-Za-z_0-9]+ *\(' | sed 's/fn //; s/ *(//'
  done | sort -u | comm -23 - "$out/defined" | sed 's/.*/int &() { return 0; }/'
} >"$out/others.c"
gcc -O1 -fPIC -w -fno-builtin -c "$out/others.c" -o "$out/others.o"
g++ -shared -o "$out/libemulator.so" "$out"/{emulator,pinned,nccl,products,candle,others}.o -pthread
for name in libcuda.so.1 libnvrtc.so.13 libcurand.so.10 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libnccl.so.2; do
  ln -sfn libemulator.so "$out/$name"
done
