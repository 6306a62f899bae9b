#!/usr/bin/env bash
# Installs, builds (warnings are errors) and runs every test. Arguments go to ctest, e.g. tools/test.sh -R resnet20.
set -euo pipefail
export LC_ALL=C  # what the programs below print and sort is the same everywhere
cd "$(dirname "$0")/.."

echo "== packages: installs what is missing"
tools/install_deps.sh

if command -v clang-format-14 >/dev/null; then
  echo "== format"
  find core nn quant data train tools tests docs -name '*.cpp' -o -name '*.h' | xargs clang-format-14 --dry-run -Werror
else
  echo "== format: not checked, there is no clang-format-14, and other versions format otherwise"
fi

echo "== build"
cmake --preset ci >/dev/null
cmake --build build

echo "== tests"
ctest --test-dir build --no-tests=error --output-on-failure -j "$(nproc)" "$@"
