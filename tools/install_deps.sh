#!/usr/bin/env bash
# Installs what building, testing and the quick start need, from the distribution's packages (Debian 12 or newer).
# Works as root or with sudo. With --minimal: what building the library and the programs needs, nothing else.
# With --cluster: also a Slurm, for the tests of a cluster within this machine (tests/slurm/up.sh).
# With --targets: also compilers for other machines, and their emulator, for the tests of exported C (tests/c_targets_test.py), and
# a browser, for the test of reports (tests/report_page_test.py).
set -euo pipefail
export LC_ALL=C

build=(g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev libeigen3-dev libcxxopts-dev nlohmann-json3-dev
       libarchive-dev libfmt-dev zlib1g-dev libjpeg-dev libpng-dev libopenmpi-dev openmpi-bin)
extra=(catch2 file libbenchmark-dev libstb-dev jq python3 git ca-certificates dataset-fashion-mnist dpkg-dev pkg-config)
cluster=(slurm-wlm munge libpmix2 iproute2 libmpich-dev mpich)
targets=(clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
         gcc-riscv64-linux-gnu libc6-dev-riscv64-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross gcc-powerpc-linux-gnu
         libc6-dev-powerpc-cross qemu-user chromium)
optional=(clang-format-14  # only for the check of the format; newer distributions have other versions, which format otherwise
          libonnx-dev libprotobuf-dev protobuf-compiler)  # export to ONNX

packages=("${build[@]}")
wishes=()
[ "${1:-}" != --cluster ] || packages+=("${cluster[@]}")
[ "${1:-}" = --minimal ] || { packages+=("${extra[@]}"); wishes=("${optional[@]}"); }
[ "${1:-}" != --targets ] || wishes+=("${targets[@]}")  # a distribution may lack one of them

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
available() { apt-cache show "$1" >/dev/null 2>&1; }

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
wanted=()
for package in "${wishes[@]}"; do
  # Before anything is installed the lists of packages may be empty: asked again below.
  installed "$package" || { [ ${#missing[@]} -eq 0 ] && ! available "$package"; } || wanted+=("$package")
done
if [ ${#missing[@]} -eq 0 ] && [ ${#wanted[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    [ ${#missing[@]} -gt 0 ] || exit 0
    echo "install_deps.sh: run as root, or install sudo; missing: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "installing: ${missing[*]} ${wanted[*]}" >&2
"${as_root[@]}" apt-get update -q >&2
for package in "${wanted[@]}"; do
  if available "$package"; then missing+=("$package"); else echo "not to be had here, and left out: $package" >&2; fi
done
if [ "${1:-}" = --cluster ] && [ ! -e /usr/sbin/policy-rc.d ]; then
  # The tests start daemons of their own; those of the packages stay off.
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
  "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
  trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
fi
[ ${#missing[@]} -eq 0 ] ||
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
