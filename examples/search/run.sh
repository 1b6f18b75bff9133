#!/usr/bin/env bash
# The almanac as a corpus, then the recipe with it: RUNS=runs/search examples/search/run.sh
set -euo pipefail
RUNS=${RUNS:-runs/search}
HERE=$(dirname "$0")
mkdir -p "$RUNS"
CORPUS=$(cosmo prepare corpus:almanac --runs "$RUNS")
sed "s|\"CORPUS\".*|\"$CORPUS\"|" "$HERE/recipe.toml" > "$RUNS/recipe.toml"
cosmo run "$RUNS/recipe.toml" --runs "$RUNS"
