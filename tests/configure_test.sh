#!/usr/bin/env bash
# What configuring decides: presets after one another in one folder, the versions of oneDNN, what a project that adds this one
# gets, and what is written down for those who install it. Builds nothing.
#   configure_test.sh GENERATOR CXX [PREFIX_PATH]
set -euo pipefail
export LC_ALL=C
generator=$1 cxx=$2 prefix_path=${3:-}
project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
settings=(-G "$generator" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix_path")

fail() {
  echo "configure_test: $*" >&2
  if [ -s "$work/said" ]; then tail -n 20 "$work/said" >&2; fi
  exit 1
}
configure() { cmake "${settings[@]}" "$@" >"$work/said" 2>&1; }
cached() { sed -n "s/^$1:[A-Z]*=//p" "$work/build/CMakeCache.txt"; }

# Each preset says everything: nothing of an earlier one stays behind in the folder that they share.
cd "$project"
configure -B "$work/build" --preset release -DFAQ_TESTS=OFF -DFAQ_SANITIZE=undefined || fail "preset release"
for row in "ci ON" "release OFF"; do
  read -r preset werror <<<"$row"
  configure -B "$work/build" --preset "$preset" || fail "preset $preset"
  [ "$(cached FAQ_TESTS) $(cached FAQ_WERROR) $(cached FAQ_SANITIZE)" = "ON $werror " ] ||
    fail "preset $preset: FAQ_TESTS=$(cached FAQ_TESTS) FAQ_WERROR=$(cached FAQ_WERROR) FAQ_SANITIZE=$(cached FAQ_SANITIZE)"
done

for preset in asan tsan; do
  configure -B "$work/$preset" --preset "$preset" || fail "preset $preset"
done

# The kernel benchmarks want a library that not everybody has, and are not built for sanitizers.
mkdir "$work/benchmark"
echo 'add_library(benchmark::benchmark INTERFACE IMPORTED)' >"$work/benchmark/benchmarkConfig.cmake"
there=-Dbenchmark_DIR=$work/benchmark missing=-DCMAKE_DISABLE_FIND_PACKAGE_benchmark=ON
for row in "AUTO built $there" "AUTO none $missing" "AUTO none $there -DFAQ_SANITIZE=undefined" "AUTO none $there -DFAQ_PROGRAMS=OFF" \
           "OFF none $there" "ON built $there" "ON refused $missing"; do
  read -r bench expected options <<<"$row"
  rm -rf "$work/bench"
  if ! configure -B "$work/bench" -S . -DFAQ_TESTS=OFF -DFAQ_BENCH="$bench" $options; then
    found=refused
  elif grep -q tools/bench/main.cpp "$work/bench/compile_commands.json"; then
    found=built
  else
    found=none
  fi
  [ $found = "$expected" ] || fail "FAQ_BENCH=$bench $options: expected $expected, found $found"
done
grep -q libbenchmark-dev "$work/said" || fail "the package of Google Benchmark is not named"

# MPI, in place of which stands a module that finds nothing but a name.
mkdir "$work/mpi"
cat >"$work/mpi/FindMPI.cmake" <<'END'
set(MPI_FOUND TRUE)
set(MPI_CXX_FOUND TRUE)
if(NOT TARGET MPI::MPI_CXX)
  add_library(MPI::MPI_CXX INTERFACE IMPORTED)
endif()
END
there=-DCMAKE_MODULE_PATH=$work/mpi missing=-DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON
for row in "AUTO mpi_transport $there" "AUTO no_mpi $missing" "OFF no_mpi $there" "ON mpi_transport $there" "ON refused $missing"; do
  read -r mpi expected options <<<"$row"
  rm -rf "$work/with"
  if ! configure -B "$work/with" -S . -DFAQ_TESTS=OFF -DFAQ_BENCH=OFF -DFAQ_MPI="$mpi" $options; then
    found=refused
  else
    found=$(grep -oE 'ranks/(mpi_transport|no_mpi)\.cpp"' "$work/with/compile_commands.json" | sed 's|.*/||; s|\.cpp"||' | sort -u)
    linked=$(grep -c 'LINK_ONLY:MPI::MPI_CXX' "$work/with"/CMakeFiles/Export/*/faq-targets.cmake || true)
    wanted=$(grep -c '^ *if(TRUE)$' <(sed -n '/find_dependency(Threads)/,$p' "$work/with/faq-config.cmake" | grep -B1 'find_dependency(MPI') || true)
    [ "$linked $wanted" = "$([ "$expected" = no_mpi ] && echo 0 0 || echo 1 1)" ] ||
      fail "FAQ_MPI=$mpi $options: the package links MPI: $linked, looks for it: $wanted"
  fi
  [ "$found" = "$expected" ] || fail "FAQ_MPI=$mpi $options: expected $expected, found $found"
done
grep -q libopenmpi-dev "$work/said" || fail "the package of MPI is not named"

# ONNX, in place of whose protobuf stands a module that finds nothing but names.
mkdir "$work/onnx" "$work/protobuf"
touch "$work/onnx/onnx.proto"
cat >"$work/protobuf/FindProtobuf.cmake" <<'END'
set(Protobuf_FOUND TRUE)
if(NOT TARGET protobuf::protoc)
  add_executable(protobuf::protoc IMPORTED)
  set_target_properties(protobuf::protoc PROPERTIES IMPORTED_LOCATION /bin/true)
  add_library(protobuf::libprotobuf-lite INTERFACE IMPORTED)
endif()
END
there="-DCMAKE_MODULE_PATH=$work/protobuf -DONNX_PROTO_DIR=$work/onnx"
for row in "AUTO onnx_file $there" "AUTO no_onnx -DCMAKE_DISABLE_FIND_PACKAGE_Protobuf=ON" "OFF no_onnx $there" "ON onnx_file $there" \
           "ON refused -DCMAKE_DISABLE_FIND_PACKAGE_Protobuf=ON"; do
  read -r onnx expected options <<<"$row"
  rm -rf "$work/with"
  if ! configure -B "$work/with" -S . -DFAQ_TESTS=OFF -DFAQ_BENCH=OFF -DFAQ_ONNX="$onnx" $options; then
    found=refused
  else
    found=$(grep -oE 'onnx/(onnx_file|no_onnx)\.cpp"' "$work/with/compile_commands.json" | sed 's|.*/||; s|\.cpp"||' | sort -u)
  fi
  [ "$found" = "$expected" ] || fail "FAQ_ONNX=$onnx $options: expected $expected, found $found"
done
grep -q libonnx-dev "$work/said" || fail "the package of ONNX is not named"

# What is installed finds its libraries by name, and its headers where they were put.
configure -B "$work/build" -S . -DCMAKE_INSTALL_INCLUDEDIR=headers || fail "with another folder for headers"
targets=("$work"/build/CMakeFiles/Export/*/faq-targets.cmake)
grep -q '"${_IMPORT_PREFIX}/headers"' "${targets[0]}" || fail "the exported target does not name headers"
if grep -nE 'FAQ_VERSION|INTERFACE_LINK_LIBRARIES.*[;"]/' "${targets[0]}"; then
  fail "the exported target has a definition or a file of this machine"
fi

# oneDNN 2.6 to 3.x: another version's package, with the version file that oneDNN's own has.
onednn() {  # VERSION
  mkdir -p "$work/onednn"
  cat >"$work/onednn/dnnl-config.cmake" <<'END'
if(NOT TARGET DNNL::dnnl)
  add_library(DNNL::dnnl INTERFACE IMPORTED)
endif()
END
  cat >"$work/version.cmake" <<END
include(CMakePackageConfigHelpers)
write_basic_package_version_file($work/onednn/dnnl-config-version.cmake VERSION $1 COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
END
  cmake -P "$work/version.cmake"
}
for row in "2.5.4 refused" "2.6.0 taken" "2.7.5 taken" "3.0.0 taken" "3.8.1 taken" "4.0.0 refused"; do
  read -r version expected <<<"$row"
  onednn "$version"
  if configure -B "$work/build" -S . -Ddnnl_DIR="$work/onednn"; then found=taken; else found=refused; fi
  [ $found = "$expected" ] || fail "oneDNN $version: expected $expected, found $found"
  grep -qE "oneDNN $version|found $version" "$work/said" || fail "oneDNN $version is not named"
done

# A project that adds this one gets the library, and keeps its own ways.
mkdir "$work/parent"
cat >"$work/parent/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.23)
project(parent LANGUAGES CXX)
add_subdirectory($project faq)
file(WRITE \${CMAKE_BINARY_DIR}/main.cpp "int main() {}\n")
add_executable(app \${CMAKE_BINARY_DIR}/main.cpp)
target_link_libraries(app PRIVATE faq::faq)
get_property(targets DIRECTORY $project PROPERTY BUILDSYSTEM_TARGETS)
get_property(definitions TARGET faq PROPERTY INTERFACE_COMPILE_DEFINITIONS)
message(STATUS "targets [\${targets}], build type [\${CMAKE_BUILD_TYPE}], definitions [\${definitions}]")
END
configure -S "$work/parent" -B "$work/added" -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON || fail "as a part of another project"
grep -qF 'targets [faq_build_options;faq_version;faq_headers;faq_runtime;faq_onnx;faq], build type [], definitions []' "$work/said" || fail "not only the library"
if [ -e "$work/added/compile_commands.json" ] || [ -e "$work/added/faq/tools" ] || [ -e "$work/added/faq/tests" ]; then
  fail "programs, tests or compile commands for another project"
fi
if grep -nE 'faq-config|libfaq|/nn' "$work/added/faq/cmake_install.cmake"; then fail "install rules for another project"; fi

# The revision: of git, of an archive that git has made, or unknown; and never that of a repository which the sources only lie in.
mkdir -p "$work/repository/tools/cmake" "$work/archive"
cp "$project"/tools/cmake/version.c* "$work/repository/tools/cmake"
cp "$project/.gitattributes" "$work/repository"
# Of sources that came as an archive, as git has them.
sed -i 's/set(revision "[0-9a-f]\{40\}")/set(revision "$Format:%H$")/' "$work/repository/tools/cmake/version.cmake"
revision() {  # SOURCE: what its own script writes
  cmake -DVERSION=1.2.3 -DSOURCE="$1" -DOUTPUT="$work/version.cpp" -P "$1/tools/cmake/version.cmake" || fail "version.cmake in $1"
  grep -q '"1.2.3"' "$work/version.cpp" || fail "version.cmake does not write the version"
  sed -n 's/.*revision() { return "\(.*\)"; }/\1/p' "$work/version.cpp"
}
unset GIT_DIR GIT_WORK_TREE
[ "$(revision "$work/repository")" = unknown ] || fail "sources without git have a revision: $(revision "$work/repository")"
if command -v git >/dev/null; then
  in_repository() { git -C "$work/repository" -c user.name=x -c user.email=x@x.example -c commit.gpgsign=false "$@" >"$work/said" 2>&1; }
  in_repository init && [ "$(revision "$work/repository")" = unknown ] || fail "a repository without a commit"
  in_repository add . && in_repository commit -m x || fail "git commit"
  head=$(git -C "$work/repository" rev-parse HEAD | cut -c 1-12)
  [ "$(revision "$work/repository")" = "$head" ] || fail "of git: expected $head, found $(revision "$work/repository")"
  touch -d 2001-01-01 "$work/version.cpp"
  revision "$work/repository" >/dev/null
  [ "$(date -r "$work/version.cpp" +%Y)" = 2001 ] || fail "version.cpp is written though nothing has changed"
  git -C "$work/repository" archive HEAD | tar -C "$work/archive" -xf -
  [ "$(revision "$work/archive")" = "$head" ] || fail "of an archive: expected $head, found $(revision "$work/archive")"
  mkdir "$work/repository/vendor"
  cp -r "$work/repository/tools" "$work/repository/vendor"
  [ "$(revision "$work/repository/vendor")" = unknown ] || fail "the revision of a repository that the sources only lie in"
  echo "# changed" >>"$work/repository/tools/cmake/version.cpp.in"
  [ "$(revision "$work/repository")" = "$head-dirty" ] || fail "of changed files: found $(revision "$work/repository")"
fi
