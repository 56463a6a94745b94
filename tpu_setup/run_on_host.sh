#!/usr/bin/env bash
# Runs a command of jaxlm on this host of a job, which learns its place from JAXLM_COORDINATOR, JAXLM_HOSTS and
# JAXLM_HOST_INDEX:
#   bash tpu_setup/run_on_host.sh tpu-vm|gke|slurm COMMAND [ARGUMENT ...]
# Where the place is read: on a TPU VM from the instance's metadata, in GKE from the environment that the TPU webhook
# sets, under Slurm from the environment of the task. Hosts count through the slices, those of slice 0 first.
set -euo pipefail

PORT=8482 # the one that jax uses

die() {
  echo "run_on_host: $1" >&2
  exit 1
}

metadata() {
  curl -sf --retry 5 -H 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

# Lines NAME: 'value' of the attribute tpu-env; empty where it has no such line.
tpu_env() {
  sed -n "s/^ *$1: *'\{0,1\}\([^']*\)'\{0,1\} *$/\1/p" <<<"$attributes"
}

place_in_slices() { # workers of this slice, index among them; MEGASCALE_* for several slices
  local -a workers
  IFS=, read -ra workers <<<"$1"
  [ "${#workers[@]}" -gt 0 ] || die "no workers of the slice are named"
  local count=${#workers[@]} slices=${MEGASCALE_NUM_SLICES:-1} slice=${MEGASCALE_SLICE_ID:-0}
  # An entry is a host, or NAME:ID:ADDRESS.
  local first=${MEGASCALE_COORDINATOR_ADDRESS:-${workers[0]##*:}}
  JAXLM_COORDINATOR=${first%%:*}:$PORT
  JAXLM_HOSTS=$((count * slices))
  JAXLM_HOST_INDEX=$((slice * count + $2))
}

where=${1:-}
[ $# -ge 2 ] || die "needs tpu-vm, gke or slurm, and a command"
shift
case $where in
tpu-vm)
  attributes=$(metadata tpu-env) || die "the metadata server does not answer: is this a TPU VM?"
  for name in MEGASCALE_NUM_SLICES MEGASCALE_SLICE_ID MEGASCALE_COORDINATOR_ADDRESS; do
    [ -n "${!name:-}" ] || printf -v "$name" '%s' "$(tpu_env "$name")"
  done
  place_in_slices "$(metadata worker-network-endpoints)" "$(metadata agent-worker-number)"
  ;;
gke)
  [ -n "${TPU_WORKER_HOSTNAMES:-}" ] || die "TPU_WORKER_HOSTNAMES is not set: is this a pod on a TPU node?"
  place_in_slices "$TPU_WORKER_HOSTNAMES" "${TPU_WORKER_ID:-0}"
  ;;
slurm)
  [ -n "${SLURM_JOB_NODELIST:-}" ] || die "SLURM_JOB_NODELIST is not set: is this a Slurm job?"
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  JAXLM_COORDINATOR=$first:$((20000 + SLURM_JOB_ID % 20000))
  JAXLM_HOSTS=$SLURM_NTASKS
  JAXLM_HOST_INDEX=$SLURM_PROCID
  ;;
*) die "$where: must be tpu-vm, gke or slurm" ;;
esac

if [ "$JAXLM_HOSTS" -gt 1 ]; then
  export JAXLM_COORDINATOR JAXLM_HOSTS JAXLM_HOST_INDEX
fi
echo "run_on_host: host $JAXLM_HOST_INDEX of $JAXLM_HOSTS, coordinator $JAXLM_COORDINATOR"
PATH=$PWD/.venv/bin:$PATH exec "$@"
