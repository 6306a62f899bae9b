#!/usr/bin/env bash
# Shared libraries (BUILD_SHARED_LIBS=ON): they build, carry the version in their names, export what they are to export, and serve the
# programs and projects outside. What they compute is the business of the other tests, so they are compiled fast, and kept.
#   shared_test.sh GENERATOR CXX NM FOLDER [CMAKE_OPTION...]
set -euo pipefail
export LC_ALL=C
generator=$1 cxx=$2 nm=$3 folder=$4
shift 4
project=$(cd "$(dirname "$0")/.." && pwd)
build=$folder/build
mkdir -p "$folder"
fail() {
  echo "shared_test: $*" >&2
  if [ -s "$folder/said" ]; then tail -n 20 "$folder/said" >&2; fi
  exit 1
}

cmake -S "$project" -B "$build" -G "$generator" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 \
  -DBUILD_SHARED_LIBS=ON -DFAQ_TESTS=OFF -DFAQ_BENCH=OFF "$@" >"$folder/said" 2>&1 || fail "configuring"
cmake --build "$build" --parallel "$(nproc)" >"$folder/said" 2>&1 || fail "building"

# faq-0.1.0 is libfaq.so.0.1.0. Programs ask for libfaq.so.0.1, which a patch may replace; links ask for libfaq.so.
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
minor=${version%.*}
for name in libfaq libfaq_runtime; do
  [ "$(readlink "$build/$name.so")" = "$name.so.$minor" ] || fail "$name.so is no link to $name.so.$minor"
  [ "$(readlink "$build/$name.so.$minor")" = "$name.so.$version" ] || fail "$name.so.$minor is no link to $name.so.$version"
  objdump -p "$build/$name.so" >"$folder/said"
  grep -qE "^ +SONAME +$name\.so\.$minor\$" "$folder/said" || fail "$name.so has another soname"
done
objdump -p "$build/faq-train" >"$folder/said"
grep -qE "^ +NEEDED +libfaq\.so\.$minor\$" "$folder/said" || fail "faq-train does not use the shared library"

# What is exported, and what only runs networks.
"$cxx" -std=c++20 -O1 -I"$build/include" -o "$folder/deploy" "$project/docs/example/deploy.cpp" -L"$build" -lfaq_runtime -Wl,-rpath,"$build" \
  $(pkg-config --cflags nlohmann_json 2>/dev/null) >"$folder/said" 2>&1 || fail "linking deploy"
objdump -p "$folder/deploy" >"$folder/said"
if grep -qE 'NEEDED +libfaq\.so' "$folder/said"; then fail "deploy wants more than the runtime"; fi
"$project/tests/runtime_test.sh" "$nm" "$build/libfaq_runtime.so" "$folder/deploy" "$build/libfaq.so"

# Installed, moved, found by projects, and used.
"$project/tests/package_test.sh" "$build" "$generator" "$cxx" >"$folder/said" 2>&1 || fail "package_test.sh"
"$project/tests/packages_test.sh" "$build" "$cxx" || fail "packages_test.sh"
