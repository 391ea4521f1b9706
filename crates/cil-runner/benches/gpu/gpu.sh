#!/usr/bin/env bash
# What a GPU is asked in the half hour that one may be had: check, then race, then train.
#
# On the machine that builds (docs/cuda.md says how its toolchain is set up):
#   gpu.sh pack FOLDER        program, tests, PyTorch's side and CIFAR-100, as parts of at most 60 MB
# On the machine with the GPU:
#   gpu.sh keep PART...       takes parts in, in any number of calls; KEEP (/tmp/cil-gpu) is where they go
#   gpu.sh all OUT            check, race and train, at most 9 minutes in all; small files in OUT
#   gpu.sh check|race|train OUT
# Further slices of the training go on where the last one stopped: gpu.sh train OUT, again. On a fresh machine take in
# OUT/run.tar.gz of the last slice first, with `keep`.
#
# PRESET (cifar100-b50-t5-lucir-e0-dfgr-dtidkl), KERNELS (tf32), SECONDS_TO_TRAIN (what is left of the call) change it.
set -euo pipefail
keep=${KEEP:-/tmp/cil-gpu}
preset=${PRESET:-cifar100-b50-t5-lucir-e0-dfgr-dtidkl}
kernels=${KERNELS:-tf32}
whole=530 # seconds that a call may take

# within MOST COMMAND...: stops it after MOST seconds, or when the call's time is up.
within() {
  local most=$1 left=$((whole - SECONDS))
  shift
  [ "$left" -gt 5 ] || { echo "no time left for $*"; return 1; }
  timeout -s INT -k 20 "$((left < most ? left : most))" "$@"
}

libraries() { # where CUDA's libraries lie if they came as Python packages
  local packages
  packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || return 0
  for folder in "$packages"/*/lib; do printf '%s:' "$folder"; done
}

pack() {
  local root folder target tests
  root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
  target=${CARGO_TARGET_DIR:-$root/target}
  cd "$root"
  cargo build -p cil-runner --features cuda
  tests=$(cargo test -p cil-engine --features cuda --lib --no-run --message-format short 2>&1 |
    sed -n 's/.*Executable.*(\(.*\))/\1/p')
  mkdir -p "$folder/code"
  strip -o "$folder/code/cil-runner" "$target/debug/cil-runner"
  strip -o "$folder/code/engine-tests" "$tests"
  cp crates/cil-runner/benches/gpu/* crates/cil-runner/benches/pytorch/*.py "$folder/code/"
  tar -C "$folder" -czf "$folder/code.tar.gz" code
  rm -rf "$folder/code"
  tar -C datasets -chf - cifar100 class_orders.json | gzip | split -b 60M -d - "$folder/data.tar.gz."
  ls -l "$folder"
}

keep() {
  mkdir -p "$keep"
  for part in "$@"; do
    case $part in
      *data.tar.gz.*) cp "$part" "$keep/" ;;
      *) tar -C "$keep" -xzf "$part" ;;
    esac
  done
  if compgen -G "$keep/data.tar.gz.*" >/dev/null && cat "$keep"/data.tar.gz.* | gzip -t 2>/dev/null; then
    mkdir -p "$keep/datasets"
    cat "$keep"/data.tar.gz.* | tar -C "$keep/datasets" -xzf -
    rm "$keep"/data.tar.gz.*
  fi
  ls "$keep"
}

check() {
  nvidia-smi >"$1/gpu.txt" 2>&1 || true
  within 150 "$keep/code/engine-tests" cuda:: --nocapture --test-threads 1 >"$1/check.txt" 2>&1 ||
    echo "NOT EQUAL, or not done in time: see check.txt" | tee -a "$1/check.txt"
  tail -n 5 "$1/check.txt"
}

race() {
  local work
  for work in train eval invert; do
    for how in exact tf32 bf16; do
      within 60 "$keep/code/cil-runner" bench --device cuda --kernels $how --work $work --rounds 100 --json \
        >"$1/ours-$work-$how.json" 2>"$1/ours-$work-$how.txt" || echo "ours, $work, $how: failed"
    done
    within 90 python3 "$keep/code/pytorch.py" $work >"$1/pytorch-$work.txt" 2>&1 || echo "PyTorch, $work: failed"
  done
  grep -h images "$1"/pytorch-*.txt || true
}

train() {
  local seconds=${2:-$whole} found run
  mkdir -p "$keep/runs"
  cd "$keep"
  # A run's folder is named after the preset and the seed.
  found=$(compgen -G "runs/$preset-s*" | head -n 1 || true)
  run=${found:-runs/$preset-s1}
  run=${run%.partial}
  if [ -d "$run" ]; then
    echo "$run is whole"
  else
    local what=(run "$preset")
    [ -z "$found" ] || what=(resume "$run")
    within "$seconds" code/cil-runner "${what[@]}" --device cuda --kernels "$kernels" \
      --data-dir datasets --out runs >>"$1/train.txt" 2>&1 || echo "stopped after at most $seconds s"
  fi
  tail -n 3 "$1/train.txt" || true
  tar -C "$keep" -czf "$1/run.tar.gz" runs
  for file in env.json events.jsonl result.json config.toml; do
    cp "$run"*/"$file" "$1/" 2>/dev/null || true
  done
}

command=${1:-}
[ $# -ge 2 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shift
case $command in
  pack) pack "$1" ;;
  keep) keep "$@" ;;
  check | race | train | all)
    mkdir -p "$1"
    out=$(cd "$1" && pwd)
    export LD_LIBRARY_PATH="$(libraries)${LD_LIBRARY_PATH:-}"
    # The driver compiles the kernels at the first launch; what it made is kept for the next start.
    export CUDA_CACHE_PATH=$keep/cache
    if [ "$command" = all ]; then
      check "$out"
      race "$out"
      train "$out" "${SECONDS_TO_TRAIN:-}"
    else
      "$command" "$out" ${SECONDS_TO_TRAIN:+"$SECONDS_TO_TRAIN"}
    fi
    ;;
  *) echo "$0: $command is no command; pack, keep, check, race, train or all is right" >&2; exit 2 ;;
esac
