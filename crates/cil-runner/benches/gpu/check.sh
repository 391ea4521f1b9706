#!/usr/bin/env bash
# check.sh OUT [--seconds 300]: does a GPU compute what the reference does?
#
# Every test of both crates in a process of its own, since an error of the GPU spoils all later calls of its process; as
# many at once as half of the processor's cores, networks at their published sizes first. The first test that fails is run
# again under compute-sanitizer, where that is installed. Tests that only the emulator can do (it counts launches, and refuses
# what it is told to) are skipped, and said to be. Exit: 0 all equal, 1 not, 9 the program cannot run here.
. "$(dirname "$0")/common.sh"
options 300 "$@"
preflight

# names PROGRAM FILTER CRATE: its tests, one a line with what it takes to run it, those at published sizes first.
names() {
  "$1" "$2" --list 2>/dev/null | sed -n 's/: test$//p' | awk -v program="$1" -v crate="$3" '
    { print ($0 ~ /::real::/ ? 0 : 1), program, crate, $0 }'
}

# one PROGRAM CRATE TEST MOST [COMMAND...]: runs one test, and tells in one line what came of it.
one() {
  local program=$1 test=$3 most=$4 file="$report/$2-${3//::/.}.txt" began=$SECONDS
  if timeout -s INT -k 5 "$most" "$program" --exact "$test" --nocapture >"$file" 2>&1; then
    local skipped
    skipped=$(sed -n 's/^SKIPPED *//p' "$file" | head -n 1)
    case $skipped in
      '') echo "equal      $test ($((SECONDS - began)) s)" ;;
      *"only the emulator"*) echo "skipped    $test: $skipped" ;;
      *) echo "NOT EQUAL  $test: $skipped" ;;
    esac
  else
    echo "NOT EQUAL  $test ($((SECONDS - began)) s): $(grep -hE 'FAILED|panicked|^Error|SKIPPED|not ' "$file" | head -n 3 |
      tr '\n' ' ' | cut -c1-400)"
  fi
}
export -f one
export report

cores=$(nproc)
{ names "$engine_tests" cuda:: engine; names "$runner_tests" engine::gpu:: runner; } | sort -s -n -k1,1 | cut -d' ' -f2- |
  sed "s/$/ $(((whole - SECONDS) * 2 / 3))/" |
  xargs -P "$((cores > 2 ? cores / 2 : 1))" -L1 bash -c 'one "$@"' _ | tee "$report/check.txt"
grep -hE 'comparisons,|refused by cuDNN' "$report"/engine-*.txt || true
failed=$(sed -n 's/^NOT EQUAL  \([^ ]*\).*/\1/p' "$report/check.txt" | head -n 1)
if [ -n "$failed" ] && command -v compute-sanitizer >/dev/null; then
  case $failed in cuda::*) program=$engine_tests ;; *) program=$runner_tests ;; esac
  within 60 compute-sanitizer --tool memcheck "$program" --exact "$failed" --nocapture >"$report/memcheck.txt" 2>&1 || true
  grep -m 3 '=========' "$report/memcheck.txt" || true
fi
echo "checked in $SECONDS s"
[ -z "$failed" ]
