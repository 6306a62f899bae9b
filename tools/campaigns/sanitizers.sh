#!/usr/bin/env bash
# The test suite under clang's sanitizers:
#
#   tools/campaigns/sanitizers.sh            # both of the following
#   tools/campaigns/sanitizers.sh asan       # address and undefined behaviour, leaks: the whole suite
#   tools/campaigns/sanitizers.sh tsan       # threads: loader, trainer, ranks
#   tools/campaigns/sanitizers.sh asan -R tar   # arguments go to ctest
#
# Needs clang with its runtime (Debian: clang-14 libclang-rt-14-dev libomp-14-dev). FAQ_CXX names the compiler
# (clang++-14), JOBS how many tests run at once (all CPUs).
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."

compiler=${FAQ_CXX:-$(command -v clang++-14 || command -v clang++)}
jobs=${JOBS:-$(nproc)}
# Of the compiler that is used: its OpenMP tells the thread sanitizer of its barriers through this library.
archer=$(dirname "$(readlink -f "$(command -v "$compiler")")")/../lib/libarcher.so
# Addresses are not randomised: the older sanitizers find no place for their shadow memory otherwise.
fixed=(setarch "$(uname -m)" -R)

build() {
  cmake --preset "$1" -DCMAKE_CXX_COMPILER="$compiler" ${FAQ_CMAKE_OPTIONS:-} >/dev/null
  cmake --build "build-$1" -j "$jobs"
}

tests() {
  "${fixed[@]}" ctest --test-dir "build-$1" --no-tests=error --output-on-failure -j "$jobs" --timeout 3600 "${@:2}"
}

# Nothing is excluded here. tests/CMakeLists.txt says what a build with sanitizers leaves out: tests that build or install the
# project again, and those that measure times.
asan() {
  build asan
  export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
  # LLVM's OpenMP keeps something of threads that have ended.
  printf 'leak:libomp.so\n' >build-asan/leaks.txt
  export LSAN_OPTIONS=suppressions=$PWD/build-asan/leaks.txt:print_suppressions=0
  tests asan "$@"
}

tsan() {
  [ -e "$archer" ] || { echo "sanitizers.sh: no libarcher.so of $compiler (Debian: libomp-14-dev)" >&2; exit 1; }
  build tsan
  export OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1:second_deadlock_stack=1
  if [ $# -gt 0 ]; then
    tests tsan "$@"
  else
    OMP_WAIT_POLICY=passive "${fixed[@]}" build-tsan/tests/faq_tests --durations yes \
      "loader*,[loader],[tar],[data],[trainer],[training_loop],[fine_tune],[teacher],[ranks],[parallel],[threads],[cache],[reused]"
  fi
}

case ${1:-all} in
  asan) asan "${@:2}" ;;
  tsan) tsan "${@:2}" ;;
  all) asan; tsan ;;
  *) echo "sanitizers.sh: expected asan or tsan, got $1" >&2; exit 64 ;;
esac
