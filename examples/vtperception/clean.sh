#!/usr/bin/env bash
# A teacher's descriptions, cleaned and learned. Run from the repository's root, with questions.jsonl there, a teacher
# and a judge listening: examples/vtperception/clean.sh [STUDENT] [RUNS]
set -euo pipefail
recipe=examples/vtperception/clean.toml
student=${1:-tiny:qwen2_5_vl_described}
runs=${2:-runs/vtperception_clean}

prompts=$(cosmo prepare --config "$recipe" --runs "$runs")
groups=$(cosmo rollout "$prompts" --config "$recipe" --runs "$runs")
scored=$(cosmo score "$groups" --config "$recipe" --runs "$runs")
cosmo train "$scored" --config "$recipe" --runs "$runs" --policy "$student"
