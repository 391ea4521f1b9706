# What check.sh, race.sh and train.sh share; it is sourced, with the arguments of the script.
#
# They run from a checkout, whose program and tests they then build, or from the folder that unpack.sh made of pack.sh's
# parts. Options of all three, behind the folder that takes what they say:
#   --seconds N    time that the whole call may take
#   --kernels K    exact, tf32 or bf16
#   --mib N        size of the parts that runs are handed back in
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=${0##*/}
die() { echo "$me: $*" >&2; exit 2; }

# options SECONDS ARGUMENT...: reads them; SECONDS is the script's own default.
options() {
  whole=$1 kernels=tf32 mib=15 out=
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      --seconds) whole=${2:?"$1 needs a number"}; shift ;;
      --kernels) kernels=${2:?"$1 needs a name"}; shift ;;
      --mib) mib=${2:?"$1 needs a number"}; shift ;;
      --sweep) sweep=${2:?"$1 needs a file"}; shift ;;
      --data-dir) data=${2:?"$1 needs a folder"}; shift ;;
      --runs) runs=${2:?"$1 needs a folder"}; shift ;;
      --rounds) rounds=${2:?"$1 needs a number"}; shift ;;
      -*) die "$1 is no option; see the head of $me" ;;
      *) [ -z "$out" ] || die "$1 is one folder too many"; out=$1 ;;
    esac
    shift
  done
  [ -n "$out" ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
  [ "$whole" -gt 0 ] 2>/dev/null || die "--seconds $whole: use a whole number of seconds above 0"
  mkdir -p "$out/report"
  out=$(cd "$out" && pwd)
  report=$out/report
}

# within MOST COMMAND...: stops it after MOST seconds, or when the call's time is up.
within() {
  local most=$1 left=$((whole - SECONDS))
  shift
  [ "$left" -gt 3 ] || { echo "no time left for $*" >&2; return 124; }
  timeout -s INT -k 10 "$((left < most ? left : most))" "$@"
}

# The program and the two crates' tests: those beside this file, or the checkout's.
programs() {
  if [ -x "$here/cil-runner" ]; then
    runner=$here/cil-runner engine_tests=$here/engine-tests runner_tests=$here/runner-tests
    return
  fi
  local root
  root=$(git -C "$here" rev-parse --show-toplevel)
  cd "$root"
  cargo build -p cil-runner --features cuda
  runner=${CARGO_TARGET_DIR:-$root/target}/debug/cil-runner
  engine_tests=$(tests_of cil-engine) runner_tests=$(tests_of cil-runner)
}

tests_of() { # the executable of a crate's unit tests
  cargo test -p "$1" --features cuda --lib --no-run --message-format short 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p'
}

# Where CUDA's libraries lie if they came as Python packages, and where a toolkit puts them.
libraries() {
  local found
  found=$(python3 -c 'import glob, nvidia; print(":".join(it for at in nvidia.__path__ for it in glob.glob(at + "/*/lib")))' 2>/dev/null || true)
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}${LD_LIBRARY_PATH:+:}${found}${found:+:}/usr/local/cuda/lib64"
  # The driver compiles the kernels at the first launch; what it made is kept for the next start.
  export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$here/cache}
  mkdir -p "$CUDA_CACHE_PATH"
}

# Ends the call where nothing could come of it: the program does not start, or does not compute.
preflight() {
  programs
  libraries
  { nvidia-smi -q 2>/dev/null | grep -E 'Product Name|Driver Version|CUDA Version|Addressing' || echo "nvidia-smi: none"; } |
    tee "$report/gpu.txt"
  if ldd "$runner" | grep 'not found'; then
    echo "$me: the program cannot start here: the libraries above are missing" >&2
    exit 9
  fi
  # What cuDNN says of what it refuses, and the kernels compiled once before anything is timed.
  if ! CUDNN_LOGLEVEL_DBG=1 CUDNN_LOGDEST_DBG=$report/cudnn.txt within 60 "$runner" bench --device cuda \
    --kernels "$kernels" --work train --batch 16 --rounds 1 --json >"$report/preflight.json" 2>"$report/preflight.txt"; then
    echo "$me: the program does not compute here: $(tail -n 3 "$report/preflight.txt")" >&2
    exit 9
  fi
  echo "ready after $SECONDS s: $(grep -A6 '"gpu"' "$report/preflight.json" | tr -d ' \n')"
}
