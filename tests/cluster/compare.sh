#!/bin/bash
# compare.sh ONE OTHER: the same models, to the bit, and the same accuracies in two folders of one sweep.
set -euo pipefail
one=$1 other=$2
files() { (cd "$1" && find . -name '*.safetensors' | sort); }
diff <(files "$one") <(files "$other") || { echo "not the same files"; exit 1; }
count=0
while read -r file; do
  cmp "$one/$file" "$other/$file"
  count=$((count + 1))
done < <(files "$one")
accuracies() {
  (cd "$1" && find . -name result.json | sort | xargs python3 -c '
import json, sys
for path in sys.argv[1:]:
    print(path, json.dumps(json.load(open(path))["tasks"], sort_keys=True))')
}
cmp <(accuracies "$one") <(accuracies "$other")
echo "the same $count models to the bit, and the same accuracies"
