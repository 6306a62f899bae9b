#!/usr/bin/env bash
# Brings up a real Slurm cluster within one machine: a controller, NODES node daemons and a munged of its own. Nothing
# is written outside of its folder, and down.sh removes it again. Does nothing if the cluster is up.
#   up.sh [NODES=2] [CPUS_PER_NODE=2]      then:  . "$FAQ_SLURM_DIR/env"
# Exit code 77: not possible here, with the reason. The packages are those of tools/install_deps.sh --cluster.
#
# Each node has its own host name and its own /dev/shm (UTS, IPC and mount namespaces). Without them MPI takes the
# nodes for one host, and Open MPI crashes on shared memory that the nodes overwrite for each other.
# All talk over 127.0.0.1. With FAQ_SLURM_NET=1 each node has a network namespace as well, on a bridge (10.77.0.0/24).
# Then its link, faq1, faq2 … on this side, can be cut (ip link set faq2 down) and slowed down (tc).
#   FAQ_SLURM_DIR    its folder (default: faq-slurm in the folder for temporary files)
#   FAQ_SLURM_PORT   the first of 300 ports (default: 17000)
set -euo pipefail
export LC_ALL=C
dir=${FAQ_SLURM_DIR:-${TMPDIR:-/tmp}/faq-slurm}
port=${FAQ_SLURM_PORT:-17000}  # the controller's; node i has port + i, srun has port + 100 to port + 299
net=${FAQ_SLURM_NET:-0}
nodes=${1:-2}
cpus=${2:-2}
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

skip() { echo "slurm/up.sh: skipped: $*" >&2; exit 77; }
. /etc/os-release 2>/dev/null || true
[ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] || [ "${FAQ_SLURM_ANYWHERE:-0}" = 1 ] ||
  skip "this is ${PRETTY_NAME:-no Debian}, not Debian 12 (FAQ_SLURM_ANYWHERE=1 tries it all the same)"
[ "$(id -u)" -eq 0 ] || skip "run as root: node daemons need it"
for program in slurmctld slurmd srun munged unshare nsenter ss ip; do
  command -v "$program" >/dev/null || skip "there is no $program (tools/install_deps.sh --cluster)"
done
[ -n "$(find /usr/lib -name libpmix.so.2 -print -quit)" ] ||
  skip "there is no libpmix.so.2, which srun --mpi=pmix loads (tools/install_deps.sh --cluster)"
unshare --uts --ipc --mount --propagation private mount -t tmpfs tmpfs /dev/shm 2>/dev/null ||
  skip "unshare and mount are not permitted (a container without CAP_SYS_ADMIN)"
[ "$net" != 1 ] || unshare --net true 2>/dev/null || skip "unshare --net is not permitted"

export SLURM_CONF=$dir/etc/slurm.conf
shape="$nodes $cpus $net $port"
# A process of that name: after a crash of the machine the number may belong to another one.
alive() { [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]; }
ready() { [ "$(sinfo -h -N -t idle,mixed,allocated -o %N 2>/dev/null | sort -u | wc -l)" = "$nodes" ]; }
if alive "$dir/run/munged.pid" munged && alive "$dir/run/slurmctld.pid" slurmctld &&
   [ "$(cat "$dir/shape" 2>/dev/null)" = "$shape" ] && ready; then
  echo "slurm is up: $nodes nodes, SLURM_CONF=$SLURM_CONF"
  exit 0
fi
# Half up, of another shape, or left by a machine that was switched off: from nothing.
FAQ_SLURM_DIR=$dir "$here/down.sh"
[ "$net" != 1 ] || ! ip link show faqbr >/dev/null 2>&1 ||
  skip "there is a bridge faqbr already: another cluster with FAQ_SLURM_NET=1, which its down.sh ends"
[ -z "$(ss -ltnH "sport >= :$port and sport <= :$((port + nodes))")" ] || {
  echo "slurm/up.sh: port $port, or one of the $nodes after it, is in use (FAQ_SLURM_PORT=$port)" >&2
  exit 1
}
trap '[ $? -eq 0 ] || { tail -n 5 "$dir"/log/*.log >&2 || true; FAQ_SLURM_DIR=$dir "$here/down.sh" --keep-logs; }' EXIT

mkdir -p "$dir"/{etc,run,log,state,spool,tmp}
chmod 755 "$dir" "$dir"/{etc,run,log,state,spool}  # munged refuses keys and sockets where others may write
echo "$shape" >"$dir/shape"
(umask 077; head -c 1024 /dev/urandom >"$dir/etc/munge.key")
host=$(hostname -s)
if [ "$net" = 1 ]; then address=10.77.0.254 interface=eth0; else address=127.0.0.1 interface=lo; fi
address_of() { if [ "$net" = 1 ]; then echo "10.77.0.$1"; else echo 127.0.0.1; fi; }

{
  echo "127.0.0.1 localhost"
  echo "$address $host"
  for i in $(seq "$nodes"); do echo "$(address_of "$i") n$i"; done
} >"$dir/etc/hosts"
{
  cat <<CONF
ClusterName=faq
SlurmctldHost=$host($address)
SlurmctldPort=$port
SrunPortRange=$((port + 100))-$((port + 299))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that was requeued starts only after the credentials of its last run have expired: by default two minutes.
AuthInfo=socket=$dir/run/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
TmpFS=$dir/tmp/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.txt
# Nodes are as large as this file says, not as the node daemon finds the machine.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdTimeout=30
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  for i in $(seq "$nodes"); do
    echo "NodeName=n$i NodeHostname=n$i NodeAddr=$(address_of "$i") Port=$((port + i)) CPUs=$cpus RealMemory=1000 State=UNKNOWN"
  done
} >"$dir/etc/slurm.conf"
cat >"$dir/env" <<ENV
export SLURM_CONF=$SLURM_CONF
# mpirun of Open MPI refuses root, and every MPI avoids the loopback interface, unless they are told.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_tcp_if_include=$interface OMPI_MCA_oob_tcp_if_include=$interface
export UCX_NET_DEVICES=$interface FI_TCP_IFACE=$interface
ENV

munged --force --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.socket" --pid-file="$dir/run/munged.pid" \
  --log-file="$dir/log/munged.log" --seed-file="$dir/run/munged.seed" --num-threads=2
if [ "$net" = 1 ]; then
  ip link add faqbr type bridge
  ip address add "$address/24" dev faqbr
  ip link set faqbr up
fi
slurmctld -c
for i in $(seq "$nodes"); do
  mkdir -p "$dir"/{tmp,spool}/n"$i"
  enter=()
  if [ "$net" = 1 ]; then
    ip netns add "faq$i"
    ip link add "faq$i" type veth peer name eth0 netns "faq$i"
    ip link set "faq$i" master faqbr up
    ip -n "faq$i" address add "$(address_of "$i")/24" dev eth0
    ip -n "faq$i" link set lo up
    ip -n "faq$i" link set eth0 up
    enter=(nsenter --net="/run/netns/faq$i")  # ip netns exec would hide /sys/fs/cgroup from slurmd
  fi
  ${enter[@]+"${enter[@]}"} unshare --uts --ipc --mount --propagation private bash -euc "
    hostname n$i
    mount -t tmpfs tmpfs /dev/shm
    mountpoint -q /sys/fs/cgroup || mount -t tmpfs tmpfs /sys/fs/cgroup
    mount --bind '$dir/etc/hosts' /etc/hosts
    exec slurmd -N n$i"
done
for _ in $(seq 200); do ready && break; sleep 0.1; done
ready || { sinfo -N -l >&2; exit 1; }
echo "slurm is up: $nodes nodes, SLURM_CONF=$SLURM_CONF"
