#!/usr/bin/env bash
# The library as another project finds it: installs a build, builds docs/example against that, and trains.
# What was installed is moved before it is used: nothing in it may know where it was built or installed.
#   package_test.sh BUILD GENERATOR CXX [PREFIX_PATH]
set -euo pipefail
export LC_ALL=C
build=$1 generator=$2 cxx=$3 prefix_path=${4:-}
project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

manifest=$build/install_manifest.txt  # of what users installed themselves
if [ -e "$manifest" ]; then cp "$manifest" "$work/manifest"; fi
cmake --install "$build" --prefix "$work/first" >/dev/null
if [ -e "$work/manifest" ]; then cp "$work/manifest" "$manifest"; else rm "$manifest"; fi
mv "$work/first" "$work/installed"
if grep -rnE "$work/first|$build|\.(so|a|dylib)[\";]" "$work/installed"/lib*/cmake "$work/installed"/lib*/*/cmake 2>/dev/null |
   grep -v '_IMPORT_PREFIX'; then
  echo "package_test: the package names files of this machine" >&2
  exit 1
fi
# What only kernels include is not installed: users of the library need no header of oneDNN.
if grep -rl 'dnnl\.hpp' "$work/installed/include"; then exit 1; fi
cmake -S "$project/docs/example" -B "$work/build" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$work/installed;$prefix_path" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" >/dev/null
cmake --build "$work/build"

weights=$project/tools/quickstart/resnet20-fashion-mnist.safetensors
"$project/tools/packages/tiny_data.sh" "$work/data"
"$work/build/fine_tune" resnet20 "$weights" "$work/data" "$work/run" 2 | tee "$work/said"
cp "$work/run/integer.safetensors" "$work/integer.safetensors"
loss=$(sed -n 's/^deployed: .*loss \([0-9.]*\) in integers$/\1/p' "$work/said")
OMP_NUM_THREADS=1 "$work/installed/bin/faq-eval" --weights "$work/integer.safetensors" --data-path "$work/data" --json \
  | tee "$work/json"
evaluated=$(sed -n 's/.*"loss":\([0-9.]*\).*/\1/p' "$work/json")
[ "$loss" = "$(printf '%.4f' "$evaluated")" ]

# A unit outside the library learns and is deployed.
[ "$("$work/build/own_unit" "$work/own.safetensors")" = "deployed: top-1 100.00" ]

# The example that links faq::runtime alone names as many images rightly as faq-eval does.
right=0
for image in $(seq 0 19); do
  said=$(dd if="$work/data/t10k-images-idx3-ubyte" bs=784 iflag=skip_bytes skip=$((16 + 784 * image)) count=1 status=none |
    OMP_NUM_THREADS=1 "$work/build/deploy" "$work/integer.safetensors")
  if [ "${said% *}" = "$((image % 10))" ]; then right=$((right + 1)); fi
done
top1=$(sed -n 's/.*"top1":\([0-9.]*\).*/\1/p' "$work/json")
[ "$(awk "BEGIN { print $top1 / 5 }")" = "$right" ]
if head -c 700 "$work/data/t10k-images-idx3-ubyte" | "$work/build/deploy" "$work/integer.safetensors" 2>"$work/refused"; then exit 1; fi
grep -q 'pixels: expected 784 bytes (28×28×1), found 700' "$work/refused"
# faq::onnx writes what faq-export writes, where it was built with ONNX.
if "$work/installed/bin/faq-export" "$work/integer.safetensors" --onnx "$work/expected.onnx" >"$work/said" 2>&1; then
  mkdir "$work/onnx"
  cat >"$work/onnx/main.cpp" <<END
#include <faq/quant/deploy/onnx/onnx_file.h>
#include <faq/quant/deploy/onnx_export.h>

int main(int, char** argv) { faq::write_onnx(faq::onnx_model(faq::IntegerNetwork::load(argv[1])), argv[2]); }
END
  cat >"$work/onnx/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.23)
project(onnx LANGUAGES CXX)
find_package(faq REQUIRED)
add_executable(onnx main.cpp)
target_link_libraries(onnx PRIVATE faq::onnx)
END
  cmake -S "$work/onnx" -B "$work/onnx/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/installed;$prefix_path" \
    -DCMAKE_CXX_COMPILER="$cxx" >/dev/null
  cmake --build "$work/onnx/build" >/dev/null
  "$work/onnx/build/onnx" "$work/integer.safetensors" "$work/found.onnx"
  cmp "$work/expected.onnx" "$work/found.onnx"
else
  grep -q 'this build has no ONNX' "$work/said"
fi

# Nothing of what decodes, displays and archives is linked with it, nor need it be there; and headers that are called as ours are not
# taken for them.
mkdir -p "$work/runtime/own/core" "$work/runtime/own/quant/deploy"
for header in core/tensor.h core/error.h quant/deploy/preprocessing.h; do
  echo '#error "a header of the application"' >"$work/runtime/own/$header"
done
cat >"$work/runtime/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.23)
project(runtime LANGUAGES CXX)
find_package(faq REQUIRED COMPONENTS runtime)
add_executable(deploy $project/docs/example/deploy.cpp)
target_include_directories(deploy BEFORE PRIVATE own)
target_link_libraries(deploy PRIVATE faq::runtime)
END
cmake --no-warn-unused-cli -S "$work/runtime" -B "$work/runtime/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/installed;$prefix_path" \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_DISABLE_FIND_PACKAGE_fmt=ON -DCMAKE_DISABLE_FIND_PACKAGE_LibArchive=ON \
  -DCMAKE_DISABLE_FIND_PACKAGE_JPEG=ON -DCMAKE_DISABLE_FIND_PACKAGE_PNG=ON -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON >/dev/null
cmake --build "$work/runtime/build" >/dev/null
ldd "$work/runtime/build/deploy" >"$work/linked"
if grep -E 'libarchive|libjpeg|libpng|libfmt|libmpi' "$work/linked"; then exit 1; fi
