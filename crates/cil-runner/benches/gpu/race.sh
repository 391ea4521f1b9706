#!/usr/bin/env bash
# race.sh OUT [--seconds 240] [--rounds 20]: training, a learning step and inversion, beside PyTorch's on the same GPU.
#
# In TF32 and bf16, captured as CUDA graphs and not, ours and PyTorch's in turn (its best: channels last, captured), those
# that say most first. Where Nsight Compute is installed, the last thing is the time of every kernel of a training step.
# Exit: 0, 9 if the program cannot run here; what fails by itself says why in its line.
. "$(dirname "$0")/common.sh"
rounds=20
options 240 "$@"
preflight

# ours WORK KERNELS [OPTION...]
ours() {
  local file="$report/ours-$*" line
  file=${file// /}
  # shellcheck disable=SC2086
  if within 30 "$runner" bench --device cuda --kernels "$2" --work $1 "${@:3}" --rounds "$rounds" --json \
    >"$file.json" 2>"$file.txt"; then
    line=$(python3 -c '
import json, sys
all = json.load(open(sys.argv[1])); it = all["works"][0]; low, high = it["quartiles"]
say = "{milliseconds:.3f} ms, {images_per_second:.0f} images/s (quartiles {low:.3f} to {high:.3f}, processor {own:.3f} ms, refused {no})"
print(say.format(**it, low=low, high=high, own=it.get("processor_milliseconds") or 0, no=sum(all["refusals"].values())))' "$file.json")
  else
    line="FAILED: $(grep -h '^error' "$file.txt" | tail -n 1 || true)"
  fi
  echo "ours $* batch 128: $line"
}

theirs() { # WORK MODES
  # shellcheck disable=SC2086
  within 40 python3 "$here/pytorch.py" $1 --modes "$2" --seconds 20 2>"$report/pytorch-${1// /}.txt" | grep '^PyTorch' ||
    echo "PyTorch $1 $2: FAILED: $(tail -n 1 "$report/pytorch-${1// /}.txt")"
}

{
  for kernels in tf32 bf16; do
    for work in train step invert; do
      ours "$work" $kernels
      theirs "$work" $kernels-graph
    done
  done
  for work in train step invert; do ours "$work" tf32 --no-cuda-graphs; done
  ours train bf16 --batch 1024 | sed 's/ batch 128:/:/'
  theirs "train --batch 1024" bf16-graph
  ours train exact
} | tee "$report/race.txt"
if command -v ncu >/dev/null; then
  # One metric, so one pass a kernel: what a step's time is made of.
  within 60 ncu --clock-control none --metrics gpu__time_duration.sum --csv -s 900 -c 450 "$runner" bench --device cuda \
    --kernels tf32 --no-cuda-graphs --work train --rounds 1 >"$report/kernels.csv" 2>&1 || echo "ncu: $(tail -n 1 "$report/kernels.csv")"
fi
# PyTorch compiles for longer than all before took.
theirs train bf16-compiled,tf32,bf16 | tee -a "$report/race.txt"
echo "raced in $SECONDS s"
