#!/usr/bin/env bash
# What a GPU is asked in the quarter of an hour that one may be had: check, then race, then train.
#
# On the machine that builds (docs/cuda.md says how its toolchain is set up):
#   gpu.sh pack FOLDER        program, tests, PyTorch's side and CIFAR-100, as parts of at most 48 MiB
# On the machine with the GPU:
#   gpu.sh keep PART...       takes parts in, in any number of calls; KEEP (/tmp/cil-gpu) is where they go
#   gpu.sh all OUT            check (100 s at most), race (200 s), and train for the rest of CALL_SECONDS (530)
#   gpu.sh check|race|train OUT
# OUT gets eight files at most, of at most 15 MB: summary.txt, report.tar.gz with all that was said, and the run in parts.
# check and race need no data. Further slices of the training go on where the last one stopped: gpu.sh train OUT, again;
# on a fresh machine take in OUT/run.tar.gz.* of the last slice first, with `keep`.
#
# SWEEP (b50-five-steps.toml: the paper's protocol, its base task once) and KERNELS (tf32) change what is trained.
set -euo pipefail
keep=${KEEP:-/tmp/cil-gpu}
sweep=${SWEEP:-$keep/code/b50-five-steps.toml}
kernels=${KERNELS:-tf32}
whole=${CALL_SECONDS:-530} # seconds that a call may take
deadline=$whole            # of the part that is under way
report=$keep/report        # what is said, until it is delivered

# within MOST COMMAND...: stops it after MOST seconds, or when the part's time is up.
within() {
  local most=$1 left=$((deadline - SECONDS))
  shift
  [ "$left" -gt 5 ] || { echo "no time left for $*" >&2; return 124; }
  timeout -s INT -k 20 "$((left < most ? left : most))" "$@"
}

# part MOST NAME: does it, in MOST seconds at most.
part() {
  deadline=$((SECONDS + $1 < whole ? SECONDS + $1 : whole))
  printf '\n== %s, from second %s\n' "$2" $SECONDS >>"$report/summary.txt"
  "$2" 2>&1 | tee -a "$report/summary.txt" || echo "$2: failed" | tee -a "$report/summary.txt"
  deliver
}

# All that there is so far into OUT: what a later part does not finish is not lost.
deliver() {
  cp "$report/summary.txt" "$out/summary.txt"
  tar -C "$report" -czf "$out/report.tar.gz" .
  [ ! -d "$keep/runs" ] || tar -C "$keep" -czf - runs | split -b 15M -d - "$out/run.tar.gz."
}

libraries() { # where CUDA's libraries lie if they came as Python packages
  local packages
  packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || return 0
  for folder in "$packages"/*/lib; do printf '%s:' "$folder"; done
}

pack() {
  local root folder target
  root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
  target=${CARGO_TARGET_DIR:-$root/target}
  cd "$root"
  cargo build -p cil-runner --features cuda
  executables() { # of a crate's unit tests
    cargo test -p "$1" --features cuda --lib --no-run --message-format short 2>&1 |
      sed -n 's/.*Executable.*(\(.*\))/\1/p'
  }
  mkdir -p "$folder/code"
  strip -o "$folder/code/cil-runner" "$target/debug/cil-runner"
  strip -o "$folder/code/engine-tests" "$(executables cil-engine)"
  strip -o "$folder/code/runner-tests" "$(executables cil-runner)"
  cp crates/cil-runner/benches/gpu/* crates/cil-runner/benches/pytorch/*.py docs/sweeps/*.toml "$folder/code/"
  tar -C "$folder" -czf "$folder/code.tar.gz" code
  rm -rf "$folder/code"
  [ -d datasets/cifar100 ] || { echo "datasets/cifar100 is missing; cargo xtask fetch-data cifar100 is right" >&2; exit 1; }
  rm -f "$folder"/data.tar.gz.*
  tar -C datasets -chf - cifar100 class_orders.json | gzip | split -b 48M -d - "$folder/data.tar.gz."
  ls -l "$folder"
}

keep() {
  local part kind
  mkdir -p "$keep/parts"
  for part in "$@"; do
    case $part in
      *.tar.gz.[0-9]*) cp "$part" "$keep/parts/" ;;
      *) tar -C "$keep" -xzf "$part" ;;
    esac
  done
  for kind in data run; do
    compgen -G "$keep/parts/$kind.tar.gz.*" >/dev/null || continue
    cat "$keep/parts/$kind".tar.gz.* | gzip -t 2>/dev/null || { echo "$kind: more parts are to come"; continue; }
    mkdir -p "$keep/datasets"
    cat "$keep/parts/$kind".tar.gz.* | tar -C "$keep$([ $kind = run ] || echo /datasets)" -xzf -
    rm "$keep/parts/$kind".tar.gz.*
  done
  ls "$keep"
}

check() {
  nvidia-smi >"$report/gpu.txt" 2>&1 || true
  local tests
  for tests in engine-tests:cuda:: runner-tests:engine::gpu::; do
    within 100 "$keep/code/${tests%%:*}" "${tests#*:}" --nocapture --test-threads 1 >"$report/${tests%%:*}.txt" 2>&1 ||
      echo "NOT EQUAL, or not done in time: see report.tar.gz, ${tests%%:*}.txt"
    grep -E '^test |SKIPPED|panicked|^test result' "$report/${tests%%:*}.txt" | tail -n 60 || true
  done
}

race() {
  local work how
  # At 128 images a step, and for training where a GPU of this size is full.
  for work in train invert eval "train --batch 1024"; do
    for how in tf32 bf16 exact "tf32 --no-cuda-graphs"; do
      # shellcheck disable=SC2086
      within 20 "$keep/code/cil-runner" bench --device cuda --kernels $how --work $work --rounds 20 --json \
        >"$report/ours-${work// /}-${how// /}.json" 2>"$report/ours-${work// /}-${how// /}.txt" || echo "ours, $work, $how: failed"
      echo "ours, $work, $how: $(tr -d '\n' <"$report/ours-${work// /}-${how// /}.json" | cut -c1-600)"
    done
    # shellcheck disable=SC2086
    within 40 python3 "$keep/code/pytorch.py" $work --seconds 18 >"$report/pytorch-${work// /}.txt" 2>&1 ||
      echo "PyTorch, $work: failed"
    grep -h images "$report/pytorch-${work// /}.txt" || true
  done
}

train() {
  local graphs status
  mkdir -p "$keep/runs"
  cd "$keep"
  # What it has when it is stopped is in its checkpoints. Graphs that a driver refuses are told, and done without.
  for graphs in "" --no-cuda-graphs; do
    status=0
    # shellcheck disable=SC2086
    within "$whole" code/cil-runner sweep run "$sweep" --device cuda --kernels "$kernels" $graphs \
      --data-dir datasets --out runs >"$report/train.txt" 2>>"$report/train-log.txt" || status=$?
    [ $status = 1 ] || break
    echo "FAILED ${graphs:-with CUDA graphs}: $(grep -h '^error' "$report/train-log.txt" runs/*/logs/* 2>/dev/null | tail -n 3)"
  done
  [ $status = 0 ] || echo "stopped, or failed: see train-log.txt"
  tail -n 3 "$report/train-log.txt" || true
  code/cil-runner sweep status "$sweep" --device cpu --data-dir datasets --out runs 2>/dev/null || true
  code/cil-runner sweep report "$sweep" --device cpu --data-dir datasets --out runs >"$report/sweep.md" 2>/dev/null || true
  local result
  for result in runs/*/*/result.json; do
    [ ! -f "$result" ] || cp "$result" "$report/$(basename "$(dirname "$result")").json"
  done
}

command=${1:-}
[ $# -ge 2 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shift
case $command in
  pack) pack "$1" ;;
  keep) keep "$@" ;;
  check | race | train | all)
    mkdir -p "$1" "$report"
    out=$(cd "$1" && pwd)
    export LD_LIBRARY_PATH="$(libraries)${LD_LIBRARY_PATH:-}"
    # The driver compiles the kernels at the first launch; what it made is kept for the next start.
    export CUDA_CACHE_PATH=$keep/cache
    if [ "$command" = all ]; then
      part 100 check
      part 200 race
      part "$whole" train
    else
      part "$whole" "$command"
    fi
    ;;
  *) echo "$0: $command is no command; pack, keep, check, race, train or all is right" >&2; exit 2 ;;
esac
