#!/usr/bin/env bash
# The transport with MPICH, where it is installed beside another MPI: compiled, and run on two and three ranks.
# Usage: mpich_test.sh PROJECT. Exit code 77: not installed.
set -euo pipefail
compiler=$(command -v mpicxx.mpich || true) run=$(command -v mpirun.mpich || true)
if [ -z "$compiler" ] || [ -z "$run" ]; then
  echo "skipped: no mpicxx.mpich and mpirun.mpich (Debian: libmpich-dev mpich)"
  exit 77
fi
program=$(mktemp)
trap 'rm -f "$program"' EXIT
"$compiler" -std=c++20 -O1 -pthread -I"$1" "$1"/tests/mpi_smoke.cpp "$1"/train/ranks/{launcher,mpi_transport}.cpp -o "$program"
for ranks in 2 3; do
  said=$(timeout 120 "$run" -n "$ranks" "$program")
  echo "$said"
  grep -q "^MPICH .*: $ranks ranks" <<<"$said"
done
