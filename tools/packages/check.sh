#!/usr/bin/env bash
# What a user of the packages does, on a machine without anything of faq. Installs packages, so it is for a machine to throw away:
#   tools/fresh_machine.sh bookworm --bring build-deb/packages -- tools/packages/check.sh deb /root/brought
#   tools/fresh_machine.sh bookworm --bring build-portable/packages -- tools/packages/check.sh tarball /root/brought
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
project=$(cd "$(dirname "$0")/../.." && pwd)
kind=${1:-} packages=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
weights=$project/tools/quickstart/resnet20-fashion-mnist.safetensors
"$project/tools/packages/tiny_data.sh" "$work/data"

say() { echo "== $*"; }
install() { apt-get install -y -q --no-install-recommends "$@" >"$work/apt" 2>&1 || { tail -n 20 "$work/apt" >&2; exit 1; }; }

# The quick start's main job, small: fine-tunes, evaluates, exports.
main_job() {  # FOLDER_OF_PROGRAMS
  rm -rf "$work/run" "$work/c"
  "$1"faq-train --version
  "$1"faq-train --model resnet20 --weights "$weights" --data-path "$work/data" --preset faq-4bit --epochs 2 -b 10 --quiet \
    --output-dir "$work/run" >"$work/said"
  "$1"faq-eval --weights "$work/run/integer.safetensors" --data-path "$work/data" --quiet
  "$1"faq-export "$work/run/integer.safetensors" --c "$work/c" >>"$work/said"
  "$1"faq-bench --model resnet20 -b 2 --steps 2 --mode infer >>"$work/said"
  [ -s "$work/c/network.c" ]
}

# Both ways to build docs/example, or one program of it that needs faq::runtime alone.
build() {  # PKG_CONFIG_NAME CMAKE_COMPONENTS PROGRAM...
  local name=$1 components=$2
  shift 2
  mkdir -p "$work/$name"
  {
    echo "cmake_minimum_required(VERSION 3.23)"
    echo "project(example LANGUAGES CXX)"
    echo "find_package(faq 0.1 REQUIRED $components)"
    for program in "$@"; do
      echo "add_executable($program $project/docs/example/$program.cpp)"
      echo "target_link_libraries($program PRIVATE faq::$([ "$name" = faq ] && echo faq || echo runtime))"
    done
  } >"$work/$name/CMakeLists.txt"
  cmake -S "$work/$name" -B "$work/$name/build" -DCMAKE_BUILD_TYPE=Release >"$work/cmake" 2>&1 || { tail -n 20 "$work/cmake" >&2; exit 1; }
  cmake --build "$work/$name/build" >"$work/cmake" 2>&1 || { tail -n 20 "$work/cmake" >&2; exit 1; }
  for program in "$@"; do
    c++ -std=c++20 -O1 -o "$work/$name/$program" "$project/docs/example/$program.cpp" $(pkg-config --cflags --libs "$name")
  done
  head -c 784 "$weights" | "$work/$name/deploy" "$work/run/integer.safetensors" >"$work/$name/by_pkg_config"
  head -c 784 "$weights" | "$work/$name/build/deploy" "$work/run/integer.safetensors" | cmp - "$work/$name/by_pkg_config"
}

check_deb() {
  apt-get update -q >/dev/null
  say "faq-tools"
  install "$packages"/faq-tools_*.deb
  main_job ""
  [ -e /usr/share/bash-completion/completions/faq-train ]
  say "libfaq-runtime-dev"
  install g++ cmake make pkg-config "$packages"/libfaq-runtime-dev_*.deb
  if cmake --find-package -DNAME=faq -DCOMPILER_ID=GNU -DLANGUAGE=CXX -DMODE=EXIST >"$work/found" 2>&1; then
    echo "faq::faq is found where it is not installed" >&2
    exit 1
  fi
  build faq-runtime "COMPONENTS runtime" deploy
  say "libfaq-dev"
  install "$packages"/libfaq-dev_*.deb
  build faq "" fine_tune own_unit deploy
  "$work/faq/fine_tune" resnet20 "$weights" "$work/data" "$work/tuned" 1 | tail -n 1
  for package in faq-tools libfaq-runtime-dev libfaq-dev; do
    dpkg-query -W -f '${Package} ${Version}, ${Installed-Size} kB, depends on ${Depends}\n' $package
  done
  say "lintian"
  install lintian
  lintian --allow-root --fail-on error,warning "$packages"/*.deb
}

check_tarball() {
  for place in "$work/first place" "$work/second"; do
    mkdir "$place"
    tar -xzf "$packages"/faq-*.tar.gz -C "$place" --strip-components=1
    say "unpacked in $place"
    main_job "$place/bin/"
    rm -rf "$place"
  done
}

case $kind in
  deb | tarball) check_$kind ;;
  *) echo "usage: check.sh deb|tarball FOLDER_OF_PACKAGES" >&2; exit 64 ;;
esac
say "all of it works"
