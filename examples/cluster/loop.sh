#!/usr/bin/env bash
# TURNS turns of rollout, score and train on three machines; prints the URL of the last policy. Safe to stop and start
# again: whatever is done is found in the bucket. POLICY=s3://.../train-1a2b3c4d FIRST=10 TURNS=20 goes on after ten.
#   LAUNCH=ssh A=gpu1 B=cpu1 C=gpu2   over ssh; this folder at the same path, cosmo and the AWS variables on each
#   LAUNCH=slurm                      one job (or array) a step
#   LAUNCH=here                       all on this machine
set -euo pipefail
: "${COSMO_RUNS:?export COSMO_RUNS=s3://BUCKET/PREFIX}"
scripts=$(cd "$(dirname "$0")" && pwd)

step() { # step HOST SCRIPT ARGUMENTS...: runs it there, prints what it prints
  local host=$1 script=$scripts/$2
  shift 2
  case ${LAUNCH:-ssh} in
    ssh) ssh "$host" "COSMO_RUNS='$COSMO_RUNS' '$script' $(printf '%q ' "$@")" </dev/null ;;
    # Once more without Slurm: all is done, so this loads no model and says where it is.
    slurm) sbatch --wait "$script" "$@" >&2 && "$script" "$@" ;;
    here) "$script" "$@" ;;
    *) echo "LAUNCH=$LAUNCH: ssh, slurm or here" >&2 && return 2 ;;
  esac
}

policy=${POLICY:-Qwen/Qwen2.5-VL-7B-Instruct}
prompts=$(cosmo prepare "${SOURCE:-builtin}" --limit "${LIMIT:-20000}")
for ((turn = ${FIRST:-0}; turn < ${TURNS:-10}; turn++)); do
  groups=$(step "${A:-}" rollout.sh "$prompts" "$policy" "$turn")
  scored=$(step "${B:-}" score.sh "$groups")
  policy=$(step "${C:-}" train.sh "$scored")
  echo "turn $turn: $policy" >&2
done
echo "$policy"
