#!/bin/bash
# Builds one fuzz target for each parser, as OSS-Fuzz wants it: with $CC, $CXX, $CFLAGS, $CXXFLAGS and $LIB_FUZZING_ENGINE, from
# $SRC/faq, in $WORK, into $OUT. tools/campaigns/fuzz.py runs it, too.
set -euo pipefail

# The libraries we use are the distribution's, which are made for its own C++ library.
export CXXFLAGS="${CXXFLAGS//-stdlib=libc++/}"
cmake -S "$SRC/faq" --preset fuzz -B "$WORK/build" -DFAQ_SANITIZE= -DFAQ_FUZZING_ENGINE="$LIB_FUZZING_ENGINE" \
  -DFAQ_MPI=OFF -DFAQ_BENCH=OFF ${FAQ_CMAKE_OPTIONS:-}
cmake --build "$WORK/build" --target faq_fuzz

program=$WORK/build/tests/faq_fuzz
# The libraries come along: where the targets run there may be none of them.
mkdir -p "$OUT/lib"
ldd "$program" | awk '$3 ~ /^\// {print $3}' | grep -Ev '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*)\.so' |
  xargs -I{} cp {} "$OUT/lib/"
parsers=$({ "$program" 2>&1 >/dev/null || true; } | sed -n 's/^FAQ_PARSER is to be one of: //p')
[ -n "$parsers" ]
for parser in $parsers; do
  target=$OUT/faq_fuzz_$parser
  cp "$program" "$target"
  ! command -v patchelf >/dev/null || patchelf --set-rpath '$ORIGIN/lib' "$target"
  corpus=$SRC/faq/tests/corpus/$parser.zip
  [ ! -e "$corpus" ] || cp "$corpus" "${target}_seed_corpus.zip"
  # Nobody writes longer ones by hand, and short ones run faster.
  case $parser in
    jpeg | png | tar) length=8192 ;;
    integer_network) length=4096 ;;
    cifar) length=6400 ;;
    *) length=1024 ;;
  esac
  printf '[libfuzzer]\nmax_len = %d\n' "$length" >"$target.options"
done
