#!/usr/bin/env bash
# A private, throw-away Slurm cluster on this machine, for the tests: eight virtual nodes of 4 CPUs and 2 pretended GPUs.
#   cluster.sh up | down | run CMD... | node-down NODE | node-crash NODE | node-up NODE
# $CLUSTER is its folder (a short path: it holds unix sockets). No systemd and no configuration of this machine is touched; all
# traffic stays on the loopback. Each node is a slurmd in its own host name, mount and pid namespace, so that a node can be cut.
# Exit code 77: not possible here, the reason on stderr.
set -u
folder=${CLUSTER:?the folder of the cluster}
nodes=(n1 n2 n3 n4 n5 n6 n7 n8)
cpus=4 gpus=2
self=$(readlink -f "$0")
user=$(id -un) uid=$(id -u) gid=$(id -g)

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*" >&2
    exit 77
}

# in_namespace HOST PID_NAMESPACE CMD...: replaces this process
in_namespace() {
    local host=$1 words=(--uts --mount) drop=()
    [ "$2" = yes ] && words+=(--pid --fork --kill-child --mount-proc)
    shift 2
    if [ "$uid" != 0 ]; then
        words+=(--user --map-root-user)
        drop=(unshare --user "--map-user=$uid" "--map-group=$gid")
    fi
    exec unshare "${words[@]}" sh -c 'hostname "$0" && mount --bind "$1" /etc/hosts &&
        mount -t tmpfs -o mode=1777 tmpfs /dev/shm && shift && exec "$@"' "$host" "$folder/etc/hosts" "${drop[@]}" "$@"
}

# background NAME CMD...: its process id goes to run/NAME.pid
background() {
    local name=$1
    shift
    setsid "$@" >>"$folder/log/$name.out" 2>&1 </dev/null &
    echo $! >"$folder/run/$name.pid"
}

lives() { # a zombie does not
    local state
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)
    [ -n "$state" ] && [ "${state%% *}" != Z ]
}

# whether a process is of this cluster: process ids are used again
ours() {
    { tr '\0' '\n' <"/proc/$1/environ"; } 2>/dev/null | grep -qxF "SLURM_CONF=$folder/etc/slurm.conf"
}

pid_of() {
    cat "$folder/run/$1.pid" 2>/dev/null
}

children_of() {
    cat "/proc/$1/task/$1/children"
}

end() { # end SIGNAL NAME
    local pid tries
    pid=$(pid_of "$2") && ours "$pid" && kill "-$1" "$pid" 2>/dev/null || return 0
    for tries in $(seq 100); do
        lives "$pid" || return 0
        sleep .05
    done
    [ "$1" = KILL ] || end KILL "$2"
}

# a port for the controller and one for each node, in a row, that nobody has, below those that the kernel hands out
free_port() {
    local port offset
    while :; do
        port=$((20000 + RANDOM % 10000))
        for offset in $(seq 0 ${#nodes[@]}); do
            grep -qi "$(printf ':%04X ' $((port + offset)))" /proc/net/tcp && continue 2
        done
        echo $port
        return
    done
}

write_configuration() {
    local port number
    port=$(free_port)
    # cred_expire: a requeued job starts after 6 s instead of two minutes
    cat >"$folder/etc/slurm.conf" <<END
ClusterName=test
SlurmctldHost=ctl(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
SlurmctldPidFile=$folder/run/slurmctld.own
SlurmdPidFile=$folder/run/slurmd-%n.own
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=${SLURMD_TIMEOUT:-5}
MessageTimeout=5
TCPTimeout=2
KillWait=5
CompleteWait=0
MinJobAge=3600
PropagateResourceLimits=NONE
END
    mkdir "$folder/dev" # a device is wanted; a link to one is good enough
    for number in $(seq 0 $((gpus - 1))); do ln -s /dev/null "$folder/dev/gpu$number"; done
    printf '%s\n' AutoDetect=off "NodeName=n[1-8] Name=gpu File=$folder/dev/gpu[0-$((gpus - 1))]" >"$folder/etc/gres.conf"
    for number in $(seq ${#nodes[@]}); do
        echo "127.0.0.1 n$number" >>"$folder/etc/hosts"
        echo "NodeName=n$number NodeHostname=n$number NodeAddr=127.0.0.1 Port=$((port + number)) Sockets=1 CoresPerSocket=$cpus" \
            "ThreadsPerCore=1 RealMemory=4096 Gres=gpu:$gpus State=UNKNOWN"
    done >>"$folder/etc/slurm.conf"
    cat >>"$folder/etc/slurm.conf" <<END
PartitionName=normal Nodes=n[1-8] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=INFINITE State=UP
PartitionName=grace Nodes=n[1-8] PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n[1-8] PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
END
}

# the node's first process starts slurmd, and starts it again when it has died while run/NODE.on is there
node_up() {
    touch "$folder/run/$1.on"
    lives "$(pid_of "$1" || echo 0)" && return
    # shellcheck disable=SC2016 # for the inner shell
    background "$1" bash "$self" _namespace "$1" yes \
        sh -c 'while :; do [ -e "$1" ] && slurmd -D -N "$2"; sleep .2; done' init "$folder/run/$1.on" "$1"
}

node_down() { # as when the power is cut: slurmd and every process of a job vanish
    rm -f "$folder/run/$1.on"
    end KILL "$1"
}

node_crash() { # slurmd alone dies; what it has started lives on
    rm -f "$folder/run/$1.on"
    local first pid
    first=$(children_of "$(pid_of "$1")")
    for pid in $(children_of "${first%% *}"); do
        [ "$(cat "/proc/$pid/comm")" = slurmd ] && ours "$pid" && kill -KILL "$pid" && return
    done
    fail "no slurmd on $1"
}

idle_nodes() {
    sinfo -h -N -p normal -t idle -o %N 2>/dev/null | wc -l
}

up() {
    local command node tries
    for command in munged slurmctld slurmd sbatch; do
        command -v $command >/dev/null || skip "no $command on this system"
    done
    [ -e "$folder" ] && fail "$folder is there already"
    mkdir -p "$folder"/{etc,state,spool,run,log,tmp} || exit 1
    chmod 755 "$folder"
    for node in "${nodes[@]}"; do mkdir "$folder/spool/$node" "$folder/tmp/$node"; done
    echo "127.0.0.1 localhost ctl login" >"$folder/etc/hosts"
    if ! bash "$self" _namespace probe yes true 2>"$folder/log/probe"; then
        command=$(head -n 1 "$folder/log/probe")
        rm -rf "$folder"
        skip "namespaces are not allowed here ($command)"
    fi
    write_configuration
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    background munged munged -F --socket="$folder/munge.sock" --key-file="$folder/munge.key" --pid-file="$folder/run/munged.own" \
        --seed-file="$folder/munge.seed" --log-file="$folder/log/munged.log" --num-threads=2
    for tries in $(seq 100); do
        [ -S "$folder/munge.sock" ] && break
        lives "$(pid_of munged)" || break
        sleep .1
    done
    background slurmctld bash "$self" _namespace ctl no slurmctld -D -i
    for node in "${nodes[@]}"; do node_up "$node"; done
    for tries in $(seq 300); do
        [ "$(idle_nodes)" = ${#nodes[@]} ] && return
        lives "$(pid_of slurmctld)" && lives "$(pid_of munged)" || break
        sleep .1
    done
    tail -n 5 "$folder"/log/* >&2
    down
    fail "the cluster does not come up (above)"
}

down() {
    local node
    [ -d "$folder/run" ] || return 0
    rm -f "$folder"/run/*.on
    for node in "${nodes[@]}"; do end KILL "$node"; done
    end TERM slurmctld
    end TERM munged
    rm -rf "$folder" 2>/dev/null || { sleep 1 && rm -rf "$folder"; }
}

export SLURM_CONF=$folder/etc/slurm.conf
command=${1:-}
shift
case $command in
_namespace) in_namespace "$@" ;;
up | down) $command ;;
run) in_namespace login no "$@" ;;
node-up) node_up "$1" ;;
node-down) node_down "$1" ;;
node-crash) node_crash "$1" ;;
*) fail "up | down | run CMD... | node-down NODE | node-crash NODE | node-up NODE" ;;
esac
