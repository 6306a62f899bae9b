#!/usr/bin/env bash
# Runs the README's two commands as a new user would: in a fresh Debian root file system with nothing installed and nothing
# beside the project. Needs root and debootstrap. All mounts are in a namespace of their own, which ends with this script.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
Usage: tools/fresh_machine.sh bookworm|trixie [OPTIONS] [-- COMMAND...]
  --root DIR             makes the root file system in DIR and keeps it; one made before is used again
                         (default: a temporary folder, deleted at the end)
  --only quickstart|test runs one of the two commands
  --tree                 copies the files as they stand, not those of the last commit
  --bring DIR            DIR is there, too, as /root/brought
  --help                 prints this
COMMAND runs in the copy of the project in place of the two commands, e.g. -- tools/test.sh -R layers
The packages come from the mirror this machine's apt uses; DEBIAN_MIRROR=URL names another. Proxies of the environment count.
END
}
refuse() {  # MESSAGE [CODE]
  echo "fresh_machine.sh: $1" >&2
  exit "${2:-64}"
}

suite='' root='' tree='' brought='' commands=(tools/quickstart.sh tools/test.sh) given=()
while [ $# -gt 0 ]; do
  case $1 in
    bookworm | trixie) [ -z "$suite" ] || refuse "expected one of bookworm and trixie, found both"; suite=$1 ;;
    --root) root=${2:-}; [ -n "$root" ] || refuse "--root wants a folder"; shift ;;
    --only)
      case ${2:-} in
        quickstart | test) commands=("tools/$2.sh") ;;
        *) refuse "--only '${2:-}': expected quickstart or test" ;;
      esac
      shift ;;
    --tree) tree=yes ;;
    --bring) brought=${2:-}; [ -d "$brought" ] || refuse "--bring '$brought': expected a folder"; shift ;;
    -h | --help) usage; exit ;;
    --) shift; [ $# -gt 0 ] || refuse "-- wants a command"; given=("$@"); break ;;
    *) refuse "unexpected argument '$1'; --help says what there is" ;;
  esac
  shift
done
[ -n "$suite" ] || { usage >&2; exit 64; }
[ "$(id -u)" -eq 0 ] || refuse "run as root: it makes and enters a root file system" 77
for program in debootstrap unshare git; do
  command -v "$program" >/dev/null || refuse "$program is missing: apt-get install debootstrap util-linux git" 69
done
unshare --mount true || refuse "not allowed to have mounts of its own here (a container wants CAP_SYS_ADMIN)" 77

# Seen from where the caller stands. Only what is empty, or was made here, is written to.
root=${root:+$(realpath -m -- "$root")}
brought=${brought:+$(realpath -- "$brought")}
if [ -n "$root" ] && [ -e "$root" ] && [ ! -e "$root/.fresh_machine" ]; then
  [ -d "$root" ] && [ -z "$(ls -A "$root")" ] || refuse "--root $root: neither empty nor made by this script"
fi
if [ -e "$root/.fresh_machine" ] && [ "$(cat "$root/.fresh_machine")" != "$suite" ]; then
  refuse "--root $root: holds $(cat "$root/.fresh_machine"), not $suite"
fi
cd "$(dirname "$0")/.."

# Mounts end before this deletes: they are in namespaces of processes that have ended by then.
work=$(mktemp -d "${TMPDIR:-/tmp}/fresh_machine.XXXXXX")
trap 'rm -rf --one-file-system -- "$work"' EXIT
child=''
# unshare itself heeds no TERM; with it all that runs in its namespace ends.
stop() {
  [ -z "$child" ] || { kill -KILL "$child" && wait "$child"; } 2>/dev/null || true
  exit 130
}
trap stop INT TERM HUP
root=${root:-$work/root}

# --- the project, as somebody who has just fetched it
mkdir "$work/faq"
if [ -n "$tree" ]; then
  git ls-files -z --cached --others --exclude-standard |
    while IFS= read -rd '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
    tar --null -T - -cf - | tar -C "$work/faq" -xf -
else
  git archive HEAD | tar -C "$work/faq" -xf -
fi

# --- the root file system
# The address of this machine's first repository of Debian's, the security updates' with a pattern.
repository() {  # PATTERN
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v pattern="$1" '$2 == "main" && $1 ~ pattern && !seen++ {print $3}'
}
if [ ! -e "$root/.fresh_machine" ]; then
  mirror=${DEBIAN_MIRROR:-$(repository '^[a-z]+$')}
  [ -n "$mirror" ] || refuse "this machine's apt names no repository of Debian's: DEBIAN_MIRROR= does" 69
  echo "== a fresh $suite in $root" >&2
  proxy=''
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy=${http_proxy:-$proxy}
  mkdir -p "$root"
  secure=()  # what apt needs to read from such a mirror at all
  case $mirror in https:*) secure=(--include=ca-certificates) ;; esac
  unshare --mount --propagation private debootstrap --variant=minbase "${secure[@]}" "$suite" "$root" "$mirror" \
    >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; refuse "debootstrap failed" 69; }
  {
    echo "deb $mirror $suite main"
    echo "deb $mirror $suite-updates main"
    security=$(repository '^[a-z]+-security$')
    [ -z "$security" ] || [ -n "${DEBIAN_MIRROR:-}" ] || echo "deb $security $suite-security main"
  } >"$root/etc/apt/sources.list"
  # How this machine's apt reaches them.
  apt-config dump Acquire | grep -E '^Acquire::(https?|Check|Retries|Force)' >"$root/etc/apt/apt.conf.d/99fresh_machine" || true
  echo "$suite" >"$root/.fresh_machine"
fi
for file in /etc/resolv.conf /etc/hosts; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

# --- a command in it
environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}")
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || environment+=("$name=${!name}")
done
enter='set -e
mkdir -p "$1/root/faq"
mount --bind "$2" "$1/root/faq"
if [ -n "$3" ]; then mkdir -p "$1/root/brought"; mount --bind -o ro "$3" "$1/root/brought"; fi
mount -t proc proc "$1/proc"
for folder in dev sys; do mount --rbind "/$folder" "$1/$folder"; done
root=$1; shift 3
exec chroot "$root" env -i "$@"'
run() {  # COMMAND...
  unshare --mount --propagation private --pid --fork --kill-child \
    bash -c "$enter" enter "$root" "$work/faq" "$brought" "${environment[@]}" sh -c 'cd /root/faq && exec "$@"' sh "$@" <&0 &
  child=$!
  local code=0
  wait "$child" || code=$?
  child=''
  return $code
}

if [ ${#given[@]} -gt 0 ]; then
  code=0
  run "${given[@]}" || code=$?
  exit $code
fi
failed=0
for command in "${commands[@]}"; do
  echo "== $suite: $command" >&2
  start=$SECONDS code=0
  run "$command" || code=$?
  if [ $code -eq 0 ]; then how=passed; else how="FAILED (exit code $code)" failed=1; fi
  echo "== $suite: $command $how after $((SECONDS - start)) s"
done
exit $failed
