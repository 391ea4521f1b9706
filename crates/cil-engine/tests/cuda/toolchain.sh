#!/usr/bin/env bash
# toolchain.sh FOLDER: puts a CUDA 13.0 toolchain that can build the feature `cuda`, and run nothing, into FOLDER, without
# root, GPU or driver; prints the variables to export. Run it again at will: a finished folder is left as it is.
#
#   eval "$(crates/cil-engine/tests/cuda/toolchain.sh ../cuda)"
#   cargo build -p cil-runner --features cuda
#
# The compiler comes as Python packages, through pip as it is set up here. The libraries to link with are stubs made here:
# right names, every function that cudarc may call, each answering an error. They must not come before the real ones when
# the program runs. NVCC is a wrapper that leaves candle's kernels for quantised models out: nine parts in ten of the
# compile time; calling one of them aborts.
set -euo pipefail
die() { echo "$0: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: $0 FOLDER"
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "x86-64 Linux only"
for tool in python3 gcc g++ cargo; do command -v $tool >/dev/null || die "$tool is missing"; done
workspace=$(cd "$(dirname "$0")/../../../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
root=$folder/nvidia/cu13

# CUDA 13.0.2; any driver of 580 or later runs what it compiles.
if [ ! -e "$folder/.installed" ]; then
  fresh=$(mktemp -d "$folder/.new.XXXXXX")
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --no-cache-dir --only-binary=:all: --target "$fresh" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
  cp -a "$fresh"/. "$folder"/
  rm -rf "$fresh"
  chmod -R u+w "$root"
  chmod +x "$root"/bin/* "$root"/nvvm/bin/*
  ln -sfn lib "$root/lib64"
  for library in "$root"/lib/lib*.so.*; do
    name=${library##*/}
    ln -sfn "$name" "$root/lib/${name%%.so.*}.so"
  done
  : >"$folder/.installed"
fi

# The functions are read from cudarc's own bindings.
stubs=$root/lib/stubs
version=$(sed -n '/^name = "cudarc"/{n;s/version = "\(.*\)"/\1/p}' "$workspace/Cargo.lock")
if [ ! -e "$stubs/.done-$version" ]; then
  (cd "$workspace" && cargo fetch --quiet >&2)
  sources=
  for found in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-"$version"/src; do sources=$found; done
  [ -d "$sources" ] || die "cargo fetched no cudarc $version"
  mkdir -p "$stubs"
  while read -r module library soname failure; do
    {
      echo 'typedef const char *text;'
      sed -n '/extern "C" {/,/}/p' "$sources/$module/sys/mod.rs" | grep -oE 'fn [A-Za-z_0-9]+ *\(' |
        sed 's/fn //; s/ *(//' | sort -u | while read -r name; do
        case $name in
          cuGetErrorString | cuGetErrorName) echo "int $name(int error, text *to) { *to = \"a stub of lib$library\"; return 0; }" ;;
          cudnnGetLastErrorString) echo "void $name(char *to, unsigned long size) { if (size) *to = 0; }" ;;
          *GetErrorString | *GetStatusName | *GetStatusString | *GetErrorName) echo "text $name(void) { return \"a stub\"; }" ;;
          *) echo "int $name(void) { return $failure; }" ;;
        esac
      done
    } >"$stubs/$library.c"
    gcc -shared -fPIC -O1 -w -fno-builtin -Wl,-soname,"$soname" -o "$stubs/lib$library.so" "$stubs/$library.c"
    ln -sfn "lib$library.so" "$stubs/$soname"
  done <<'T'
driver cuda libcuda.so.1 100
nvrtc nvrtc libnvrtc.so.13 5
curand curand libcurand.so.10 203
cublas cublas libcublas.so.13 1
cublaslt cublasLt libcublasLt.so.13 1
cudnn cudnn libcudnn.so.9 1001
T
  : >"$stubs/.done-$version"
fi

cat >"$root/bin/nvcc-short" <<'W'
#!/usr/bin/env bash
# nvcc, but candle's kernels for quantised models become stubs that abort when called.
set -e
here=$(dirname "$(readlink -f "$0")")
source=${!#} object='' output='' before=''
for argument in "$@"; do
  if [ "$argument" = -c ]; then object=1; fi
  if [ "$before" = -o ]; then output=$argument; fi
  before=$argument
done
case $source in *moe/moe_*.cu | *mmq_gguf/mmq_*.cu | *mmvq_gguf.cu)
  if [ -n "$object" ] && [ -n "$output" ] && [ -n "${CARGO_MANIFEST_DIR:-}" ]; then
    case $source in
      *moe/moe_gguf.cu)
        echo '#include <stdlib.h>'
        grep -oE 'pub fn [a-z0-9_]+' "$CARGO_MANIFEST_DIR/src/ffi.rs" | sed 's/pub fn //' | sort -u |
          sed 's/.*/void &(void) { abort(); }/'
        ;;
      *) echo 'typedef int empty;' ;;
    esac | exec gcc -O1 -fPIC -x c -c -o "$output" -
    exit
  fi ;;
esac
exec "$here/nvcc" "$@"
W
chmod +x "$root/bin/nvcc-short"
cat <<V
export CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root CUDA_TOOLKIT_ROOT_DIR=$root
export NVCC=$root/bin/nvcc-short CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
export PATH=$root/bin:\$PATH
V
