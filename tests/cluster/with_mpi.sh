#!/bin/bash
# with_mpi.sh [PROGRAM]: one data-free run by 1, 2 and 4 processes of a real MPI on this machine, against one process without
# it; one rank killed and the run resumed by another number of ranks; all asked to stop and the run resumed; and what is
# refused. PROGRAM is built with `cargo build -p cil-runner --features mpi`.
#
# Where there are two GPUs, or an emulator of them, and the program has the feature cuda too, the run by one GPU against two.
#
# Says so and ends with 0 where there is no mpirun, or the program was built without the feature.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:-$here/../../target/debug/cil-runner}")
command -v mpirun >/dev/null || { echo "SKIPPED: there is no mpirun here"; exit 0; }
[ -x "$program" ] || { echo "there is no program $program; build it, or name another"; exit 1; }
# Open MPI does not start as root unless told twice, and counts cores; MPICH knows none of this.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
small=()
for change in classes=4 'increments=[2, 2]' architecture.width=4 procedural.config.classes=4 \
  procedural.config.train-per-class=20 procedural.config.test-per-class=10 seed=3 \
  recipe.base.training.epochs=6 recipe.base.training.batch=16 recipe.base.training.learning-rate=0.05 \
  recipe.increment.training.epochs=4 recipe.increment.training.batch=16 \
  recipe.increment.training.learning-rate=0.05 recipe.new-teacher.training.epochs=2 \
  recipe.replay.inversion.iterations=20 recipe.replay.inversion.batch=16 \
  recipe.replay.inversion.generator.channels=8 recipe.replay.batch=16; do
  small+=(--set "$change")
done
preset=demo-lucir-e0-dfgr-dtidkl
one=("$program" run $preset "${small[@]}" --threads 1 --checkpoint-every 0)
run() { "${one[@]}" --device cpu "$@"; }
shared=("${one[@]}" --device cpu)
by() { local count=$1; shift; mpirun -n "$count" "${shared[@]}" "$@"; }

if by 2 --name probe 2>probe.log >/dev/null; then :; else
  grep -q "built without the feature mpi" probe.log || { cat probe.log; exit 1; }
  echo "SKIPPED: $program was built without the feature mpi"; exit 0
fi

# near A B: two runs differ by rounding, which is nothing in the first epoch and grows with every step.
near() {
  python3 - "$1" "$2" <<'PYTHON'
import json, sys
def read(folder):
    lines = [json.loads(line) for line in open(f"runs/{folder}/events.jsonl")]
    units = [((e["task"], e["phase"], e["done"]), e["losses"]) for e in lines if e.get("event") == "progress"]
    rows = [row for e in lines if e.get("event") == "task-end" for row in e["evaluation"]["classifier"]["rows"]]
    return units, rows
(units, rows), (others, other_rows) = map(read, sys.argv[1:])
assert units and [unit for unit, _ in units] == [unit for unit, _ in others], "other phases"
def apart(left, right): return max(abs(loss - right[name]) / (1 + abs(loss)) for name, loss in left.items())
by_unit = [apart(left, right) for (_, left), (_, right) in zip(units, others)]
base = max(by for by, ((task, _, _), _) in zip(by_unit, units) if task == 0)
moved = sum(abs(a - b) for left, right in zip(rows, other_rows) for a, b in zip(left, right)) // 2
total = sum(map(sum, rows))
print(f"{sys.argv[1]} against {sys.argv[2]}: losses differ by {by_unit[0]:.0e} in the first epoch, {base:.0e} over the base "
      f"classes and {max(by_unit):.0e} in all; {moved} of {total} answers differ")
assert by_unit[0] < 1e-5 and base < 1e-3 and max(by_unit) < 0.2 and moved <= total * 0.2
PYTHON
}
# Waits until four units of a run are recorded.
begun() { until [ "$(grep -c '"progress"' "runs/$1.partial/events.jsonl" 2>/dev/null)" -ge 4 ] 2>/dev/null; do sleep 0.02; done; }
same() { cmp "runs/$1/model.safetensors" "runs/$2/model.safetensors" && cmp "runs/$1/base.safetensors" "runs/$2/base.safetensors"; }

run --name alone --json >/dev/null
for count in 1 2 4; do
  by $count --name "by$count" --json >"by$count.json" 2>"by$count.log" || { cat "by$count.log"; exit 1; }
  [ "$(grep -c '"tasks"' "by$count.json")" = 1 ] || { echo "not one rank printed"; exit 1; }
  near alone "by$count"
done
same alone by1
by 2 --name again --json >/dev/null 2>&1
same by2 again
echo "1 rank is one process to the bit; 2 ranks give the same bits twice"

# A rank dies: the job ends, and others go on, with another number of ranks or the same one.
for count in 1 3 2; do
  mpirun -n 2 "${shared[@]}" --name killed$count >/dev/null 2>killed.log & job=$!
  begun killed$count
  ranks=($(pgrep -P "$job" -f "killed$count"))
  kill -KILL "${ranks[1]}"
  began=$SECONDS
  if wait "$job"; then echo "a job with a dead rank succeeded"; exit 1; fi
  [ $((SECONDS - began)) -lt 15 ] || { echo "the other rank waited on"; exit 1; }
  [ -d runs/killed$count.partial ] || { echo "the run ended before its rank was killed"; exit 1; }
  mpirun -n $count "$program" resume runs/killed$count --device cpu --threads 1 --json >/dev/null 2>resume.log || { cat resume.log; exit 1; }
  near by2 killed$count
done
same by2 killed2
echo "a killed rank ended the job, and 1, 2 and 3 ranks went on with it"

# Asked to stop: all stop at one place, and it is saved.
for signal in USR1 TERM; do
  mpirun -n 2 "${shared[@]}" --name stopped$signal >/dev/null 2>stopped.log & job=$!
  begun stopped$signal
  # SIGTERM as srun sends it, to every rank: Open MPI's mpirun kills its ranks on one, and hands SIGUSR1 on.
  case $signal in USR1) kill -USR1 "$job" ;; *) kill -TERM $(pgrep -P "$job" -f "stopped$signal") ;; esac
  status=0; wait "$job" || status=$?
  grep -q "interrupted, and saved" stopped.log || { cat stopped.log; exit 1; }
  [ "$status" = 75 ] || echo "mpirun ended with $status, the program with 75"
  mpirun -n 2 "$program" resume runs/stopped$signal --device cpu --threads 1 --json >/dev/null 2>&1
  same by2 stopped$signal
done
echo "SIGUSR1 to mpirun, and SIGTERM to the ranks, stopped all of them together, saved"

refused() {
  local words=$1 status=0; shift
  "$@" >/dev/null 2>refused.log || status=$?
  [ "$status" = 2 ] && grep -q "$words" refused.log || { echo "not refused with 2: $*"; cat refused.log; exit 1; }
}
refused "share their work" mpirun -n 2 "$program" bench
refused "share their work" mpirun -n 2 "$program" run $preset --dry-run
refused "shares no batch" mpirun -n 2 "$program" run $preset --kernels reference
refused "names one GPU" mpirun -n 2 "$program" run $preset --device cuda:1
refused "a configuration of digest" mpirun -n 1 "$program" run $preset "${small[@]}" --device cpu --name other \
  : -n 1 "$program" run $preset "${small[@]}" --device cpu --set seed=4 --name other
refused "the kernels portable, and rank 0 has" mpirun -n 1 "$program" run $preset "${small[@]}" --device cpu --name other \
  : -n 1 "$program" run $preset "${small[@]}" --device cpu --kernels portable --name other
[ ! -e runs/other ] && [ ! -e runs/other.partial ] || { echo "a refused job left a folder"; exit 1; }
echo "jobs that cannot share a run are refused, each with its sentence"

# Ranks with a GPU each.
gpus=("${one[@]}" --device cuda --kernels exact)
if mpirun -n 2 "${gpus[@]}" --name gpus2 --json >/dev/null 2>gpus.log; then
  "${gpus[@]}" --name gpus1 --json >/dev/null
  near gpus1 gpus2
  mpirun -n 2 "${gpus[@]}" --name gpus2again --json >/dev/null 2>&1
  same gpus2 gpus2again
  echo "two ranks with a GPU each are near one GPU, and give the same bits twice"
else
  grep -qE "built without the feature cuda|there is no GPU|CUDA, |have one GPU|need NCCL" gpus.log || { cat gpus.log; exit 1; }
  echo "SKIPPED ranks with a GPU each: $(grep -m 1 -o "error: .*" gpus.log)"
fi
