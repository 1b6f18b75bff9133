"""`cosmo show`: a group as one screen, every field where asked, and SQL over a run's rows and nothing else."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from cosmo_cli.inspection.sql import run_query
from cosmo_cli.terminal.card import card
from schemas.arrow import to_record
from schemas.tables import SCORED, STEPS
from stages.core.errors import InputError, UnavailableError, UsageError
from stages.core.runs.folder import RunFolder
from tests.support import bombs
from tests.support.cli import complaint, cosmo, on_terminal
from tests.train.made import scored_group, write_shard


@pytest.fixture(scope="module")
def group():
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    policy = load_policy(resolve_policy("tiny:llama"))
    return scored_group(policy, 1, images=False, g=8, rewards=[0.1, None, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.fixture(scope="module")
def shard(group, tmp_path_factory):
    return write_shard(tmp_path_factory.mktemp("shown") / "rows.parquet", SCORED, [group] * 3)


def test_a_group_of_eight_long_completions_is_one_screen_best_first(group):
    record = to_record(group)
    for completion in record["completions"]:
        completion["text"] = "word " * 400 + f"<answer>{completion['index']}</answer>"
    lines = card(record, width=80, height=24)
    shown = sum(-(-len(text) // 80) for text, _, _ in lines)
    assert shown <= 24
    order = [text.rpartition("<answer>")[2][0] for text, _, _ in lines if "</answer>" in text]
    assert order == ["2", "7", "6", "5", "4", "3", "0", "1"]
    # A pipe gets it whole.
    assert any(len(text) > 2000 for text, _, _ in card(record, width=None))


def test_people_see_no_token_ids_and_every_field_where_asked(shard, tmp_path):
    plain = cosmo("show", shard, "-n", "1", cwd=tmp_path).stdout
    assert "token_ids" not in plain
    assert "logprobs" not in plain
    assert "+0.900" in plain
    assert "none" in plain
    assert "made 0.9" in plain
    full = cosmo("show", shard, "-n", "1", "--all", cwd=tmp_path).stdout
    assert "token_ids:" in full
    (row,) = json.loads(cosmo("show", shard, "-n", "1", "--json", cwd=tmp_path).stdout)
    assert row["completions"][0]["token_ids"]


def test_a_card_fits_eighty_columns(shard, tmp_path):
    lines = on_terminal("show", shard, "-n", "1", cwd=tmp_path, columns=80)
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(RunFolder.open(shard).columns(["id"])["id"][0].as_py())


def test_a_query_sees_the_rows(shard, tmp_path):
    best = "max(list_max(list_transform(completions, lambda c: c.reward)))"
    query = f"select label, count(*) as n, {best} as best from rows group by 1"
    done = cosmo("show", shard, "--query", query, cwd=tmp_path)
    assert done.stdout.splitlines() == ["label    n  best", "general  3  0.9"]
    (row,) = json.loads(cosmo("show", shard, "--query", query, "--json", cwd=tmp_path).stdout)
    assert row == {"label": "general", "n": 3, "best": 0.9}


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{secret}', header = false)",
        "copy rows to '{folder}/out.csv'",
        "attach '{folder}/new.db'",
        "install httpfs",
        "set enable_external_access = true",
        "selec",
    ],
)
def test_a_query_reaches_nothing_else(shard, tmp_path, query):
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n")
    with pytest.raises(UsageError, match="--query"):
        run_query(RunFolder.open(shard), query.format(secret=secret, folder=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_a_query_of_a_shard_that_stands_for_gigabytes_is_refused(tmp_path):
    """DuckDB would decode it; receipts that a stranger wrote may go with it."""
    bombs.dictionary(tmp_path / "00000.parquet")
    theirs = SimpleNamespace(shard_paths=lambda: [tmp_path / "00000.parquet"], where="theirs", stage="rollout")
    with pytest.raises(InputError, match=r"00000\.parquet has .* and stands for"):
        run_query(theirs, "select sum(length(prompt)) from rows")


def test_without_duckdb_it_is_said(shard, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UnavailableError, match="not installed") as raised:
        run_query(RunFolder.open(shard), "select 1")
    assert raised.value.hint == "pip install duckdb"


def test_a_bad_query_is_one_line_and_a_hint(shard, tmp_path):
    done = cosmo("show", shard, "--query", "select nothing from rows", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    message, hint = complaint(done)
    assert "nothing" in message
    assert "select * from rows" in hint


def test_other_tables_are_shown_field_by_field(tmp_path):
    from schemas.steps import StepRow

    row = StepRow(
        objective="sft", step=1, rollout=0, update=0, loss=0.5, learning_rate=1e-3, tokens=3, groups=1, seconds=1
    )
    shard = write_shard(tmp_path / "steps.parquet", STEPS, [row])
    assert "loss: 0.5" in cosmo("show", shard, cwd=tmp_path).stdout.splitlines()


def test_figures_of_an_evaluation_are_shown(shard, tmp_path):
    """They count completions, where a group has them."""
    run = cosmo("eval", shard, "--runs", "runs", cwd=tmp_path).stdout.strip()
    assert run
    assert "metric: " in cosmo("show", run, cwd=tmp_path).stdout
    (row, *_) = json.loads(cosmo("show", run, "--json", cwd=tmp_path).stdout)
    assert isinstance(row["completions"], int)
