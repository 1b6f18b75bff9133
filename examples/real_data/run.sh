#!/usr/bin/env bash
# The chain on public benchmark files, a command a stage. Run from the repository's root.
set -euo pipefail
recipe=examples/real_data/recipe.toml
runs=${1:-runs/real_data}

prompts=$(cosmo prepare --config "$recipe" --runs "$runs")
groups=$(cosmo rollout "$prompts" --config "$recipe" --runs "$runs")
scored=$(cosmo score "$groups" --config "$recipe" --runs "$runs")
policy=$(cosmo train "$scored" --config "$recipe" --runs "$runs")

after=$(cosmo rollout "$prompts" --policy "$policy" --config "$recipe" --runs "$runs" \
  | cosmo score --config "$recipe" --runs "$runs")
metrics=$(cosmo eval "$scored" "$after" --config "$recipe" --runs "$runs" --policy-name before --policy-name after)
model=$(cosmo export "$policy" --config "$recipe" --runs "$runs" --set "evals='$metrics'")

echo "$metrics/report.html"
echo "$model/model"
