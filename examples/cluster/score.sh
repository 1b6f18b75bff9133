#!/usr/bin/env bash
# Machine B, no GPU needed: score.sh GROUPS prints the URL of the scored groups.
#SBATCH --job-name=cosmo-score
#SBATCH --cpus-per-task=8
set -euo pipefail
: "${COSMO_RUNS:?export COSMO_RUNS=s3://BUCKET/PREFIX}"

exec cosmo score "$1" ${RECIPE:+--config "$RECIPE"}
