#!/usr/bin/env bash
# Ends what up.sh started, jobs included, and removes its folder. With --keep-logs: all of it but log/.
set -u
export LC_ALL=C
dir=${FAQ_SLURM_DIR:-${TMPDIR:-/tmp}/faq-slurm}
PATH=$PATH:/usr/sbin:/sbin
[ -e "$dir/shape" ] || exit 0  # nothing of up.sh
export SLURM_CONF=$dir/etc/slurm.conf

# The daemons of this cluster, whatever became of their pid files: they have its configuration in their environment.
daemons() {
  local folder name
  for folder in /proc/[0-9]*; do
    { read -r name <"$folder/comm"; } 2>/dev/null || continue
    case $name in munged | slurmctld | slurmd | slurmstepd | *slurmscriptd) ;; *) continue ;; esac
    grep -qxz "SLURM_CONF=$SLURM_CONF" "$folder/environ" 2>/dev/null && echo "${folder#/proc/}"
  done
  return 0
}
# Their children, and those of these.
tasks_of() {
  local pid child
  for pid; do
    for child in $(cat /proc/"$pid"/task/*/children 2>/dev/null); do
      echo "$child"
      tasks_of "$child"
    done
  done
}
# Waits for up to $1 tenths of a second until the command after it prints nothing.
until_empty() {
  local tenths=$1 _
  shift
  for _ in $(seq "$tenths"); do [ -z "$("$@")" ] && return; sleep 0.1; done
}
jobs_of() { timeout 5 squeue -h -o %A 2>/dev/null | sort -u; }

if [ -S "$dir/run/munge.socket" ] && [ -s "$dir/run/slurmctld.pid" ] &&
   daemons | grep -qx "$(cat "$dir/run/slurmctld.pid")"; then
  jobs=$(jobs_of)
  if [ -n "$jobs" ]; then
    timeout 5 scancel --full --signal=KILL $jobs 2>/dev/null
    timeout 5 scancel $jobs 2>/dev/null
    until_empty 70 jobs_of
  fi
fi
tasks=$(tasks_of $(daemons))
kill $(daemons) 2>/dev/null
until_empty 20 daemons
kill -9 $(daemons) $tasks 2>/dev/null
until_empty 20 daemons
if [ "$(cut -d' ' -f3 "$dir/shape" 2>/dev/null)" = 1 ]; then
  for name in $(ip netns list 2>/dev/null | grep -o '^faq[0-9]*'); do ip netns delete "$name"; done
  ip link delete faqbr 2>/dev/null
fi
if [ "${1:-}" = --keep-logs ]; then rm -rf "$dir"/{etc,run,state,spool,tmp,env,shape}; else rm -rf "$dir"; fi
exit 0
