"""A label that a recipe forgets is said before anything is sampled."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cli import cosmo

SAID = "no reward formula for the label 'other': cosmo score will refuse its rows"


def test_an_unpaid_label_is_said_where_a_recipe_is_known(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1", "label": label} for label in ("other", "math")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text('name = "r"\n', encoding="utf-8")
    prepare = ["prepare", "jsonl:rows.jsonl"]
    alone = cosmo(*prepare, cwd=tmp_path)
    assert alone.returncode == 0
    assert "formula" not in alone.stderr
    told = cosmo(*prepare, "-c", "recipe.toml", cwd=tmp_path)
    assert told.returncode == 0
    assert SAID in told.stderr
    assert "math" not in told.stderr.partition(SAID)[2]
    sampling = ["rollout", told.stdout.strip(), "--engine", "fake", "--set", "samples=1", "-c", "recipe.toml"]
    sampled = cosmo(*sampling, cwd=tmp_path)
    assert SAID in sampled.stderr
    with (tmp_path / "recipe.toml").open("a") as recipe:
        recipe.write("[score.rewards.other]\nterms = { answer = 1.0 }\n")
    for command in ([*prepare, "-c", "recipe.toml"], sampling):
        assert "formula" not in cosmo(*command, cwd=tmp_path).stderr
