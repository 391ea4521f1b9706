#!/usr/bin/env bash
# build.sh FOLDER: builds the emulator of the CUDA driver and of cuDNN there; put FOLDER on LD_LIBRARY_PATH to use it.
# Needs g++ and the sources of cudarc, which cargo has fetched if the feature `cuda` was ever built.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
version=$(sed -n '/^name = "cudarc"/{n;s/version = "\(.*\)"/\1/p}' ../../../../Cargo.lock)
sources=
for found in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-"$version"/src; do sources=$found; done
[ -d "$sources" ] || { echo "$0: cudarc $version is not fetched; cargo fetch is right" >&2; exit 1; }

grep -oh '^KERNEL([a-z_]*)' ../../src/cuda/kernels/*.cuh | sed 's/KERNEL/ENTRY/' >"$out/entries.inc"
g++ -std=c++17 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -I ../../src/cuda -I "$out" -c emulator.cpp -o "$out/emulator.o"
nm "$out/emulator.o" | awk '$2 == "T" { print $3 }' | sort >"$out/defined"
# Every other function that cudarc may name succeeds and does nothing.
{
  for module in driver nvrtc curand cublas cublaslt cudnn; do
    sed -n '/extern "C" {/,/}/p' "$sources/$module/sys/mod.rs" | grep -oE 'fn [A-Za-z_0-9]+ *\(' | sed 's/fn //; s/ *(//'
  done | sort -u | comm -23 - "$out/defined" | sed 's/.*/int &() { return 0; }/'
} >"$out/others.c"
gcc -O1 -fPIC -w -fno-builtin -c "$out/others.c" -o "$out/others.o"
g++ -shared -o "$out/libemulator.so" "$out/emulator.o" "$out/others.o"
for name in libcuda.so.1 libnvrtc.so.13 libcurand.so.10 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9; do
  ln -sfn libemulator.so "$out/$name"
done
