#!/usr/bin/env bash
# Machine A, with vLLM: rollout.sh PROMPTS POLICY TURN prints the URL of the groups.
# Under Slurm, `sbatch rollout.sh ...`: each task of the array does its share of the shards.
#SBATCH --job-name=cosmo-rollout
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
set -euo pipefail
: "${COSMO_RUNS:?export COSMO_RUNS=s3://BUCKET/PREFIX}"
share=${SLURM_ARRAY_TASK_ID:+$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT}

exec cosmo rollout "$1" --policy "$2" --engine "${ENGINE:-vllm}" \
  --samples "${SAMPLES:-8}" --max-new-tokens "${TOKENS:-1024}" --seed "$3" \
  --set select.take="${PROMPTS:-512}" --set select.draw="$3" --set shard_groups="${SHARD:-16}" \
  ${share:+--worker "$share"}
