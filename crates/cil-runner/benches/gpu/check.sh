#!/usr/bin/env bash
# check.sh OUT [--seconds 300]: does a GPU compute what the reference does?
#
# Both crates' tests at once, networks at their published sizes first; each that fails, or never ended, is then run again
# by itself, since an error of the GPU spoils every later test of its process; the first of them under compute-sanitizer,
# where that is installed. Exit: 0 all equal, 1 not, 9 the program cannot run here.
. "$(dirname "$0")/common.sh"
options 300 "$@"
preflight

# names PROGRAM FILTER: its tests, those at published sizes first.
names() {
  local all
  all=$("$1" "$2" --list 2>/dev/null | sed -n 's/: test$//p')
  grep '::real::' <<<"$all" || true
  grep -v '::real::' <<<"$all" || true
}

# all PROGRAM FILTER FILE: every test, in two processes.
all() {
  local order
  for order in '::real::' "$2"; do
    local skip=()
    [ "$order" = '::real::' ] || skip=(--skip '::real::')
    "$1" "$order" "${skip[@]}" --test-threads 1 --show-output >>"$3" 2>&1 || true
  done
}
export -f all

# again PROGRAM TEST FILE [COMMAND...]: one test in a process of its own.
again() {
  local program=$1 test=$2 file=$3
  shift 3
  within 60 "$@" "$program" --exact "$test" --nocapture --test-threads 1 >"$file" 2>&1
}

examined=
third=$(((whole - SECONDS) * 2 / 3))
for pair in "$engine_tests cuda:: engine" "$runner_tests engine::gpu:: runner"; do
  read -r program filter name <<<"$pair"
  rm -f "$report/$name.txt"
  (within "$third" bash -c 'all "$@"' _ "$program" "$filter" "$report/$name.txt" || true) &
done
wait
for pair in "$engine_tests cuda:: engine" "$runner_tests engine::gpu:: runner"; do
  read -r program filter name <<<"$pair"
  while read -r test; do
    if grep -qE "^test $test \.\.\. ok" "$report/$name.txt" 2>/dev/null; then
      echo "equal      $test"
      continue
    fi
    file=$report/$name-${test//::/.}.txt
    if again "$program" "$test" "$file" && ! grep -q SKIPPED "$file"; then
      echo "equal      $test (by itself; see $name.txt for what went wrong before)"
      continue
    fi
    echo "NOT EQUAL  $test: $(grep -hE 'FAILED|panicked|^Error|SKIPPED|no time left' "$file" | head -n 2 | tr '\n' ' ' | cut -c1-300)"
    if [ -z "$examined" ] && command -v compute-sanitizer >/dev/null; then
      examined=$test
      again "$program" "$test" "${file%.txt}-memcheck.txt" compute-sanitizer --tool memcheck || true
      grep -m 3 '=========' "${file%.txt}-memcheck.txt" || true
    fi
  done < <(names "$program" "$filter")
done | tee "$report/check.txt"
grep -hE 'comparisons,|refused by cuDNN' "$report"/engine.txt || true
echo "checked in $SECONDS s"
! grep -q '^NOT EQUAL' "$report/check.txt"
