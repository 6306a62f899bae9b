#!/usr/bin/env bash
# faq::runtime stands alone: neither the library nor a program that links it has, or asks for, a symbol of the tape, of
# models, of training or of data, and the library asks for nothing of ours that it has not.
#   runtime_test.sh NM RUNTIME PROGRAM FAQ
set -euo pipefail
export LC_ALL=C
nm=$1 runtime=$2 program=$3 faq=$4
# Classes and functions of core/var.h, nn, quant, data and train.
foreign='\bfaq::(backward\(|(Var|OpInfo|RecordingGuard|NoGrad|EnableGrad|topological_order|Model|Module|Unit|Visitor|Adapter|Input|ConvUnit|Linear|RecordedOp|QuantizedUnit|Histogram|quantize|calibrate|compile|Image|Dataset|Loader|TrainOptions|Sgd|train)\b)'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
symbols() { "$nm" -C "$1" >"$work/symbols" 2>"$work/errors" || { cat "$work/errors" >&2; exit 1; }; }

# What is looked for must be found where it is: a pattern that matches nothing would pass everything.
symbols "$faq"
grep -E "$foreign" "$work/symbols" >"$work/found" || true
for name in 'faq::Var::' 'faq::backward(' 'faq::Model' 'faq::Unit::' 'faq::compile(' 'faq::Sgd::'; do
  if ! grep -qF -- "$name" "$work/found"; then
    echo "runtime_test: $name is not found in $faq: it has another name now, mend the pattern" >&2
    exit 1
  fi
done
for file in "$runtime" "$program"; do
  symbols "$file"
  if ! grep -qF 'faq::IntegerNetwork::forward(' "$work/symbols"; then
    echo "runtime_test: $file: no integer network in it, or no symbols" >&2
    exit 1
  fi
  if grep -E "$foreign" "$work/symbols"; then
    echo "runtime_test: $file has the symbols above, which are not the runtime's" >&2
    exit 1
  fi
done

# A shared library has been linked with all that it wants. What it exports is of the namespace faq.
case $runtime in
  *.so*)
    for file in "$runtime" "$faq"; do
      "$nm" -D --defined-only "$file" >"$work/symbols"
      [ -s "$work/symbols" ]
      if grep -vE ' _Z[^ ]*3faq' "$work/symbols"; then
        echo "runtime_test: $file exports the symbols above, which are not of the namespace faq" >&2
        exit 1
      fi
    done
    exit ;;
esac

# "         U faq::name(…)" against "0000000000000000 T faq::name(…)".
symbols "$runtime"
sed -nE 's/^ +U (faq::.*)$/\1/p' "$work/symbols" | sort -u >"$work/wanted"
sed -nE 's/^[0-9a-f]+ [A-TV-Zuvw] (faq::.*)$/\1/p' "$work/symbols" | sort -u >"$work/defined"
[ -s "$work/wanted" ]
comm -23 "$work/wanted" "$work/defined" >"$work/missing"
if [ -s "$work/missing" ]; then
  echo "runtime_test: $runtime wants what is not in it:" >&2
  cat "$work/missing" >&2
  exit 1
fi
