#!/usr/bin/env bash
# The packages that cpack makes of a build: what is in them, what they depend on, and that what they hold can be used. Installs
# nothing; tools/packages/check.sh does that, on a machine to throw away. Exit code 77: cannot be made here.
#   packages_test.sh BUILD CXX
set -euo pipefail
export LC_ALL=C
build=$1 cxx=$2
project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "packages_test: $*" >&2
  if [ -s "$work/said" ]; then tail -n 20 "$work/said" >&2; fi
  exit 1
}
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }

if [ "$(cached FAQ_BUNDLE)" = ON ]; then
  cpack -G TGZ --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/said" 2>&1 || fail "cpack -G TGZ"
  mkdir "$work/any place"
  tar -xzf "$work"/packages/faq-*.tar.gz -C "$work/any place" --strip-components=1
  cd /
  "$work/any place/bin/faq-eval" --version | grep -q 'without MPI' || fail "the unpacked program does not run"
  # All that is not the C library's lies beside it.
  if ldd "$work/any place/bin/faq-train" | grep '=>' |
      grep -vE "any place/bin/../[^ ]*/faq/|=> [^ ]*/(libc|libm|libdl|librt|libpthread)\.so"; then
    fail "the program uses the libraries above, of this machine"
  fi
  exit
fi

# A build that uses the libraries of the machine makes no archive for others.
if cpack -G TGZ --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/said" 2>&1; then fail "cpack -G TGZ: expected a refusal"; fi
grep -q -e '-DFAQ_BUNDLE=ON' "$work/said" || fail "cpack -G TGZ does not say what it wants"
if [ "$(cached BUILD_SHARED_LIBS)" = ON ]; then
  if cpack -G DEB --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/said" 2>&1; then fail "cpack -G DEB: expected a refusal"; fi
  grep -q 'BUILD_SHARED_LIBS=OFF' "$work/said" || fail "cpack -G DEB does not say why"
  exit
fi
for program in dpkg-deb dpkg-shlibdeps gzip pkg-config file; do
  command -v $program >/dev/null || { echo "packages_test: skipped, there is no $program" >&2; exit 77; }
done

cpack -G DEB --config "$build/CPackConfig.cmake" -B "$work/packages" -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip >"$work/said" 2>&1 ||
  fail "cpack -G DEB"
version=$(sed -n 's/^set(CPACK_PACKAGE_VERSION "\(.*\)")$/\1/p' "$build/CPackConfig.cmake")
# Package, a file that it has, a file that it must not have, what it depends on.
while IFS=';' read -r package has lacks depends; do
  file=$(echo "$work"/packages/"${package}"_*.deb)
  [ -e "$file" ] || fail "$package: no package"
  dpkg-deb --contents "$file" >"$work/said"
  awk '$2 != "root/root" { exit 1 }' "$work/said" || fail "$package: files that are not root's"
  grep -qE "$has" "$work/said" || fail "$package: expected a file $has"
  if grep -E "$lacks" "$work/said"; then fail "$package: a file $lacks"; fi
  grep -q "/usr/share/doc/$package/copyright" "$work/said" || fail "$package: no copyright"
  dpkg-deb --field "$file" Depends >"$work/said"
  grep -qE "$depends" "$work/said" || fail "$package: expected to depend on $depends"
  dpkg-deb --extract "$file" "$work/root"
done <<'END'
faq-tools;/bin/faq-train$;\.(a|h)$;libc6 \(>= .*libdnnl
faq-tools;/man/man1/faq-eval\.1\.gz$;\.1$;libarchive
faq-tools;/bash-completion/completions/faq-bench$;/faq-kernel-bench$;python3
libfaq-runtime-dev;/libfaq_runtime\.a$;/(train|nn|data)/;libdnnl-dev \(>= [0-9]
libfaq-runtime-dev;/core/tensor\.h$;/core/var\.h$;libdnnl-dev \(<< [0-9]
libfaq-runtime-dev;/faq-runtime\.pc$;/faq-targets\.cmake$;nlohmann-json3-dev
libfaq-dev;/libfaq\.a$;/quant/deploy/;libfaq-runtime-dev \(= [0-9]
libfaq-dev;/faq/faq\.h$;/faq-config\.cmake$;libfmt-dev
END
# No two packages have the same file.
for file in "$work"/packages/*.deb; do dpkg-deb --contents "$file" | grep -v '/$' | awk '{print $6}'; done | sort | uniq -d >"$work/said"
[ ! -s "$work/said" ] || fail "files of two packages"

tools=$(dirname "$(find "$work/root" -name faq-train -path '*/bin/*')")
"$tools/faq-eval" --version | grep -q "^faq $version (" || fail "the packaged program does not run"
# An application that links faq::runtime with pkg-config, for which none of the other packages needs to be there.
PKG_CONFIG_PATH=$(dirname "$(find "$work/root" -name faq-runtime.pc)")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion faq)" = "$version" ] || fail "faq.pc has another version"
"$cxx" -std=c++20 -o "$work/deploy" "$project/docs/example/deploy.cpp" $(pkg-config --cflags --libs faq-runtime)
if "$work/deploy" 2>"$work/said"; then fail "deploy: expected a refusal without arguments"; fi
grep -q '^usage: deploy' "$work/said" || fail "deploy does not run"
if command -v lintian >/dev/null; then
  lintian --allow-root --fail-on error "$work"/packages/*.deb >"$work/said" 2>&1 || fail "lintian"
fi
