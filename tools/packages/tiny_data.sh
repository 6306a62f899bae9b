#!/usr/bin/env bash
# Twenty images of 28 × 28 in IDX files, two of each class; what is on them does not matter.
#   tiny_data.sh DIR
set -euo pipefail
weights=$(dirname "$0")/../quickstart/resnet20-fashion-mnist.safetensors
mkdir -p "$1"
for split in train t10k; do
  { printf '\0\0\10\3\0\0\0\24\0\0\0\34\0\0\0\34'; head -c 15680 "$weights"; } >"$1/$split-images-idx3-ubyte"
  printf '\0\0\10\1\0\0\0\24\0\1\2\3\4\5\6\7\10\11\0\1\2\3\4\5\6\7\10\11' >"$1/$split-labels-idx1-ubyte"
done
