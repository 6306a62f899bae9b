#!/usr/bin/env bash
# The main job on a fresh Debian 12 or 13 machine: installs, builds, fine-tunes a pretrained ResNet-20 on Fashion-MNIST to 8 and to
# 4 bits, evaluates the integer networks and prints one table. Under ten minutes on two cores.
# Usage: tools/quickstart.sh [OUTPUT_DIR]   (default runs/quickstart in this project; its w8a8 and w4a4 are made anew)
#        FASHION_MNIST=DIR names another folder with the four IDX files.
set -euo pipefail
export LC_ALL=C  # printf reads and writes decimal points

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }  # seen from where the caller stands
out=${1:+$(absolute "$1")}
data=$(absolute "${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}")
cd "$(dirname "$0")/.."
out=${out:-$PWD/runs/quickstart}
# Made by: faq-train --model resnet20 --data-path /usr/share/datasets/fashion-mnist --preset fp32 --epochs 6
#          --mean 0.2860 --std 0.3530 --seed 1 --threads 1 --workers 1 --output-dir runs/fashion-mnist-fp32   (its best.safetensors)
weights=tools/quickstart/resnet20-fashion-mnist.safetensors

echo "== packages: installs what is missing" >&2
tools/install_deps.sh
echo "== build: faq-train and faq-eval" >&2
cmake --preset release >/dev/null
cmake --build build --target faq-train faq-eval
echo "== results go to $out (w8a8, w4a4, table.md: made anew)" >&2
rm -rf "$out/w8a8" "$out/w4a4" "$out/table.md"
mkdir -p "$out"

common=(--model resnet20 --weights "$weights" --data-path "$data" --mean 0.2860 --std 0.3530)
echo "== 8 bits, 1 epoch" >&2
build/faq-train "${common[@]}" --preset faq-8bit --output-dir "$out/w8a8"
echo "== 4 bits, 1 epoch (the recipe has 110; a short run wants a higher rate)" >&2
build/faq-train "${common[@]}" --preset faq-4bit --epochs 1 --lr 0.02 --lr-scheduler cosine --output-dir "$out/w4a4"

# One row: name, bits, the accuracy of the float network and of this one, the size of its file, speed.
echo "== evaluates the float network and both integer networks" >&2
float=$(build/faq-eval --weights "$weights" --data-path "$data" --json --quiet | jq .top1)
row() {  # NAME BITS FILE
  local top1 rate
  read -r top1 rate < <(build/faq-eval --weights "$3" --data-path "$data" --json --quiet | jq -r '"\(.top1) \(.images_per_s)"')
  printf '| %s | %s | %.2f | %.2f | %d KB | %.0f |\n' "$1" "$2" "$float" "$top1" "$(($(stat -c %s "$3") / 1000))" "$rate"
}
{
  echo "| network | bits (weights, activations) | float top-1 | integer top-1 | integer file | images/s |"
  echo "|---|---|---|---|---|---|"
  row "ResNet-20" "8, 8" "$out/w8a8/integer.safetensors"
  row "ResNet-20" "4, 4" "$out/w4a4/integer.safetensors"
} | tee "$out/table.md"
