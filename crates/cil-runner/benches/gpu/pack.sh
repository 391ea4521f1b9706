#!/usr/bin/env bash
# pack.sh FOLDER [--mib N] [--data-dir datasets]: all that check.sh, race.sh and train.sh need on a machine without a
# toolchain, as two parts: FOLDER/a.tar (program, tests, scripts and the first of the images) and FOLDER/b.tar (the rest).
#
# Run it where the feature can be built (docs/cuda.md). --mib is the size of part a at most; half of all by default. Images
# are packed without loss by images.py, which needs numpy. There: tar -xf a.tar && code/unpack.sh a.tar b.tar
. "$(dirname "$0")/common.sh"
folder='' mib='' data=''
while [ $# -gt 0 ]; do
  case $1 in
    --mib) mib=${2:?"--mib needs a number"}; shift ;;
    --data-dir) data=${2:?"--data-dir needs a folder"}; shift ;;
    -*) die "$1 is no option; --mib and --data-dir are" ;;
    *) folder=$1 ;;
  esac
  shift
done
[ -z "$mib" ] || [ "$mib" -gt 0 ] 2>/dev/null || die "--mib $mib: use a whole number above 0"
[ -n "$folder" ] || die "usage: pack.sh FOLDER [--mib N] [--data-dir datasets]"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
data=${data:-$root/datasets}
[ -d "$data/cifar100" ] || die "$data/cifar100 is missing; run cargo xtask fetch-data cifar100"
programs
cd "$root"
rm -rf "$folder/code"
mkdir "$folder/code"
strip -o "$folder/code/cil-runner" "$runner"
strip -o "$folder/code/engine-tests" "$engine_tests"
strip -o "$folder/code/runner-tests" "$runner_tests"
cp "$here"/*.sh "$here"/*.py "$here"/../pytorch/*.py docs/sweeps/*.toml "$folder/code/"
cp "$data/class_orders.json" "$folder/code/"
git describe --always --dirty >"$folder/code/VERSION"
# What is packed of the images depends on them alone.
packed=$folder/images-$(sha256sum <"$data/cifar100/manifest.json" | cut -c1-12).tar
[ -e "$packed" ] || { python3 "$here/images.py" pack "$data/cifar100" "$packed.new" && mv "$packed.new" "$packed"; }
tar -C "$folder" -cf - code | xz -T0 -6 >"$folder/code.tar.xz"
code=$(stat -c %s "$folder/code.tar.xz") images=$(stat -c %s "$packed")
most=$((mib ? mib << 20 : (code + images) / 2 + (64 << 10)))
first=$((most - code - (64 << 10)))
# Of few images none may be left for part a.
[ "$first" -ge 0 ] || [ -z "$mib" ] || die "--mib $mib: the code alone is $(((code >> 20) + 1)) MiB; use more"
first=$((first > 0 ? first : 0))
head -c "$first" "$packed" >"$folder/images.0"
tail -c +$((first + 1)) "$packed" >"$folder/images.1"
tar -C "$folder" -cf "$folder/a.tar" code.tar.xz images.0 code/unpack.sh
tar -C "$folder" -cf "$folder/b.tar" images.1
rm -rf "$folder"/{code,code.tar.xz,images.0,images.1}
ls -l "$folder"
