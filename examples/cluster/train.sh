#!/usr/bin/env bash
# Machine C, with the GPUs that train: train.sh SCORED prints the URL of the new policy.
# It starts from the policy that sampled the groups, and goes on with that one's optimizer. GPUS=8 trains on eight.
#SBATCH --job-name=cosmo-train
#SBATCH --gpus-per-node=8
set -euo pipefail
: "${COSMO_RUNS:?export COSMO_RUNS=s3://BUCKET/PREFIX}"

exec cosmo train "$1" --objective rl --updates "${UPDATES:-8}" --learning-rate "${RATE:-1e-6}" \
  ${GPUS:+--nproc "$GPUS" --parallel zero3}
