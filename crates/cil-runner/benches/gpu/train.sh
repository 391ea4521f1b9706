#!/usr/bin/env bash
# train.sh OUT [--seconds 3600] [--sweep FILE] [--kernels tf32] [--data-dir DIR] [--runs DIR] [--mib 15]: trains a sweep,
# for as long as it may.
#
# It goes on where the last call stopped, from checkpoints; a run that another version of the program or another GPU left
# half-done is put aside, since nobody here can go on with it to the same bits. What it has is in DIR and, newest checkpoint
# of each run only, as OUT/runs.tar.gz.00 and so on, events and results apart as OUT/results.tar.gz. Where steps cannot be
# captured as CUDA graphs it says so and goes on without them. Exit: 0 done, 1 not, 9 the program cannot run here.
. "$(dirname "$0")/common.sh"
sweep='' data='' runs=''
options 3600 "$@"
preflight
packed=$([ -x "$here/cil-runner" ] && echo yes || echo "")
root=${packed:+$here/..}
root=$(cd "${root:-$(git -C "$here" rev-parse --show-toplevel)}" && pwd)
sweep=${sweep:-$([ -n "$packed" ] && echo "$here" || echo "$root/docs/sweeps")/b50-five-steps.toml}
data=${data:-$root/datasets} runs=${runs:-$root/runs}
mkdir -p "$runs"

# What this program cannot go on with: it would refuse it every time.
strangers() {
  python3 - "$runs" "$report/preflight.json" <<'P'
import json, pathlib, sys
own = json.load(open(sys.argv[2]))
aside = pathlib.Path(sys.argv[1]) / "of-others"
for file in pathlib.Path(sys.argv[1]).glob("**/*.partial/env.json"):
    if aside in file.parents:
        continue
    was = json.loads(file.read_text())
    if was["code_version"] == own["code_version"] and was.get("gpu") in (None, own.get("gpu")):
        continue
    aside.mkdir(exist_ok=True)
    place = aside / f"{file.parent.name}-{len(list(aside.iterdir()))}"
    file.parent.rename(place)
    print(f"put aside: {file.parent.name}, begun by version {was['code_version']} on {(was.get('gpu') or {}).get('name')}")
P
}

# Results and events apart: small, and whole even where what is handed back is cut off. Of each run the newest checkpoint.
deliver() {
  rm -f "$out"/runs.tar.gz.*
  (
    cd "$runs"
    find . -type f ! -path './of-others/*' ! -name '*.checkpoint' ! -name '*.safetensors' -print0 |
      tar --null -czf "$out/results.tar.gz" -T -
    {
      find . -type f ! -path './of-others/*' ! -name '*.checkpoint' -print0
      find . -type f ! -path './of-others/*' -name '*.checkpoint' | sort -r | awk -F/ '{
        folder = substr($0, 1, length($0) - length($NF)); if (!seen[folder]++) printf "%s%c", $0, 0 }'
    } | tar --null -czf - -T - | split -b "${mib}M" -d - "$out/runs.tar.gz."
  )
}

strangers
status=1
for graphs in "" --no-cuda-graphs; do
  status=0
  # shellcheck disable=SC2086
  within "$((whole - SECONDS - 15))" "$runner" sweep run "$sweep" --device cuda --kernels "$kernels" $graphs \
    --data-dir "$data" --out "$runs" >"$report/train.txt" 2>>"$report/train-log.txt" || status=$?
  [ $status = 1 ] || break
  echo "FAILED ${graphs:-with CUDA graphs}: $(grep -h '^error' "$report/train-log.txt" "$runs"/*/logs/* 2>/dev/null | tail -n 3)"
done
[ $status = 0 ] || echo "stopped, or failed ($status): see report/train-log.txt"
tail -n 3 "$report/train-log.txt" || true
"$runner" sweep status "$sweep" --device cpu --data-dir "$data" --out "$runs" 2>/dev/null | tee "$report/status.txt" || true
"$runner" sweep report "$sweep" --device cpu --data-dir "$data" --out "$runs" >"$report/sweep.md" 2>/dev/null || true
deliver
ls -l "$out"
echo "trained in $SECONDS s"
exit $((status > 0))
