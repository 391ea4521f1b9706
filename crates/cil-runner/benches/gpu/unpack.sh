#!/usr/bin/env bash
# unpack.sh PART...: takes in parts that pack.sh or train.sh made, in any number of calls, beside the folder of this file:
# code/, datasets/ once all images are there, and runs/ (give all of their parts together: OUT/runs.tar.gz.*).
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
runs=()
for part in "$@"; do
  case ${part##*/} in
    runs.tar.gz.*) runs+=("$part") ;;
    *) tar -C "$home" -xf "$part" ;;
  esac
done
cd "$home"
if [ -e code.tar.xz ]; then
  xz -dc code.tar.xz | tar -xf -
  rm code.tar.xz
fi
if [ ${#runs[@]} -gt 0 ]; then
  cd - >/dev/null
  cat "${runs[@]}" | gzip -t || { echo "$0: parts of runs.tar.gz are missing; copy all of them here" >&2; exit 2; }
  mkdir -p "$home/runs"
  cat "${runs[@]}" | tar -C "$home/runs" -xzf -
  cd "$home"
fi
if [ -e images.0 ] && [ -e images.1 ]; then
  mkdir -p datasets
  python3 code/images.py unpack <(cat images.0 images.1) datasets/cifar100
  cp code/class_orders.json datasets/
  rm images.0 images.1
fi
ls "$home"
