#!/usr/bin/env bash
# Installs what building, testing and the quick start need, from the distribution's packages (Debian 12 or newer).
# Works as root or with sudo. With --minimal: what building the library and the programs needs, nothing else.
set -euo pipefail

build=(g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev libeigen3-dev libcxxopts-dev libstb-dev nlohmann-json3-dev
       libarchive-dev libfmt-dev zlib1g-dev libturbojpeg0-dev)
extra=(catch2 jq python3 clang-format-14 git ca-certificates dataset-fashion-mnist)

packages=("${build[@]}")
[ "${1:-}" = --minimal ] || packages+=("${extra[@]}")

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps.sh: run as root, or install sudo; missing: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
