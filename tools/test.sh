#!/usr/bin/env bash
# Installs, builds (warnings are errors) and runs every test. Arguments go to ctest, e.g. tools/test.sh -R resnet20.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_deps.sh

echo "== format"
find core nn quant data train tools tests docs -name '*.cpp' -o -name '*.h' | xargs clang-format-14 --dry-run -Werror

echo "== build"
cmake --preset ci >/dev/null
cmake --build build

echo "== tests"
ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"
