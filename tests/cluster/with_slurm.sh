#!/bin/bash
# with_slurm.sh [PROGRAM]: a sweep of six tiny runs as array jobs of a real Slurm on this machine alone (loopback), with one
# task's program killed and one task requeued; then the same sweep by `sweep run`, compared to the bit.
#
# Needs root, and Slurm and Munge (Debian: slurm-wlm, munge); says so and ends with 0 where they are missing. Slurm
# holds a requeued job back for some two minutes, which this does not wait for.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:-$here/../../target/debug/cil-runner}")
for command in slurmctld slurmd sbatch munged; do
  command -v "$command" >/dev/null || { echo "SKIPPED: there is no $command here"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "SKIPPED: starting Slurm's daemons needs root"; exit 0; }
[ -x "$program" ] || { echo "there is no program $program; build it, or name another"; exit 1; }

place=$(mktemp -d)
export SLURM_CONF=$place/slurm.conf
stop() {
  scancel --user=root 2>/dev/null || true
  for pid in "$place"/slurmd.pid "$place"/slurmctld.pid "$place"/munged.pid; do
    [ -s "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
  while pgrep -f "$place|slurmctld|slurmd" >/dev/null && [ $((waited += 1)) -lt 50 ]; do sleep 0.2; done
  rm -rf "$place"
}
waited=0
trap stop EXIT

mkdir -p "$place"/{state,spool,munge}
dd if=/dev/urandom of="$place/munge/key" bs=1 count=1024 status=none
chmod 600 "$place/munge/key"
chmod 711 "$place"
chown -R munge: "$place/munge"
touch "$place/munged.pid"; chown munge: "$place/munged.pid"
runuser -u munge -- munged --force --key-file="$place/munge/key" --socket="$place/munge/socket" \
  --log-file="$place/munge/log" --pid-file="$place/munge/pid" --seed-file="$place/munge/seed"
cp "$place/munge/pid" "$place/munged.pid"
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=cil
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$place/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
ReturnToService=2
MpiDefault=none
RebootProgram=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
for _ in $(seq 60); do
  [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
  sleep 0.5
done
[ "$(sinfo --noheader --format=%T)" = idle ] || { echo "Slurm did not start"; cat "$place"/*.log; exit 1; }

cp "$here/sweep.toml" "$place/s.toml"
cd "$place"
"$program" sweep script s.toml --for slurm --cpus 1 --at-a-time 2 --out runs >queue.sh
bash queue.sh
# The long run is the last job; its base is job 0, so it is job 6.
log() { ls runs/s/lwf-long-*.partial/events.jsonl 2>/dev/null || true; }
wait_for_epochs() {
  for _ in $(seq 1200); do
    file=$(log)
    [ -n "$file" ] && [ "$(wc -l <"$file")" -gt "$1" ] && return
    sleep 0.1
  done
  echo "the long run did not begin"; squeue; exit 1
}
# Lets a requeued task begin at once.
begin_now() {
  for _ in $(seq 100); do
    scontrol update JobId="$1" StartTime=now 2>/dev/null && return
    sleep 0.2
  done
}
wait_for_epochs 20
array=$(squeue --noheader --array --format='%F_%K' --states=RUNNING | grep '_6$')
# Lost without a chance to save: a program that is killed, and its task queued again by hand.
pkill -KILL -f "$place/.*(--index 6|lwf-long)" || true
sleep 1
scontrol requeue "$array" 2>/dev/null || sbatch --array=6 queue.sh
begin_now "$array"
wait_for_epochs $(($(wc -l <"$(log)") + 20))
# A preemption: the batch shell gets SIGTERM, the run is saved, the script requeues it.
array=$(squeue --noheader --array --format='%F_%K' --states=RUNNING | grep '_6$')
scancel --signal=TERM --batch "$array"
for _ in $(seq 100); do
  [ "$(squeue --noheader --array --jobs="$array" --format=%T)" = PENDING ] && break
  sleep 0.2
done
begin_now "$array"
for _ in $(seq 600); do
  [ -z "$(squeue --noheader)" ] && break
  sleep 1
done
[ -z "$(squeue --noheader)" ] || { echo "jobs are left"; squeue; exit 1; }
"$program" sweep status s.toml
"$program" sweep run s.toml --out straight --threads 1 >/dev/null 2>&1
bash "$here/compare.sh" runs/s straight/s
