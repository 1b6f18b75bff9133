"""Filters, orders and pages give what a plain loop over all rows gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_cli.view.index import RunIndex
from cosmo_cli.view.query import DIFFER, FAILED, FLAT, LEARNABLE, Query, positions
from schemas.scored import ScoredGroup
from stages.core.runs.folder import RunFolder
from tests.eval.made import scored_run
from tests.view.made import varied

GROUPS = varied(90)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> RunIndex:
    found = RunIndex()
    found.add_landed(scored_run(tmp_path_factory.mktemp("runs"), GROUPS, per_shard=40))
    return found


def mean(group: ScoredGroup) -> float | None:
    rewards = [c.reward for c in group.completions if c.reward is not None]
    return sum(rewards) / len(rewards) if rewards else None


def fits(group: ScoredGroup, query: Query) -> bool:
    """What a reader would say, row by row."""
    rewards = {c.reward for c in group.completions if c.reward is not None}
    texts = [m.content[-1].text or "" for m in group.messages] + [c.text for c in group.completions] + [group.id]
    said = {f"{g.name}: {g.verdict}" for c in group.completions for g in c.grades if g.verdict}
    kind = {True: "harmful", False: "benign", None: ""}[group.harmful]
    value = mean(group)
    return (
        query.label in ("", group.label)
        and query.family in ("", group.family)
        and query.kind in ("", kind)
        and query.verdict in ("", *said)
        and (query.least is None or (value is not None and value >= query.least))
        and (query.most is None or (value is not None and value <= query.most))
        and {FLAT: len(rewards) == 1, LEARNABLE: len(rewards) > 1}.get(query.only, True)
        and (query.only != FAILED or any(c.finish_reason == "error" for c in group.completions))
        and all(any(word in t.casefold() for t in texts) for word in query.q.casefold().split())
    )


queries = st.builds(
    Query,
    q=st.sampled_from(["", "red", "RED door", "bell", "äpfel", "(7)", "answer 4", "none of them", ".*"]),
    label=st.sampled_from(["", "general", "safety", "other"]),
    family=st.sampled_from(["", "fiction"]),
    kind=st.sampled_from(["", "harmful", "benign"]),
    verdict=st.sampled_from(["", "safety: safe", "safety: unsafe", "safety: odd"]),
    least=st.sampled_from([None, 0.0, 0.4, 0.5]),
    most=st.sampled_from([None, 0.5, 1.0]),
    only=st.sampled_from(["", FLAT, LEARNABLE, FAILED]),
    order=st.sampled_from(["", "low", "high", "spread"]),
)


@settings(max_examples=150, deadline=None)
@given(queries)
def test_what_is_found_is_what_a_loop_finds(index: RunIndex, query: Query) -> None:
    found = [GROUPS[p] for p in positions(index, query)]
    assert {g.id for g in found} == {g.id for g in GROUPS if fits(g, query)}
    if not query.order:
        assert [GROUPS.index(g) for g in found] == sorted(GROUPS.index(g) for g in found)
    elif query.order != "spread":
        values = [v for g in found if (v := mean(g)) is not None]
        # Those without a reward come last.
        assert [mean(g) for g in found][: len(values)] == sorted(values, reverse=query.order == "high")


@settings(max_examples=50, deadline=None)
@given(queries)
def test_an_address_says_all_of_a_query(query: Query) -> None:
    from urllib.parse import parse_qsl

    assert Query.parse(dict(parse_qsl(query.address().removeprefix("?")))) == query


@pytest.mark.parametrize("given", [{"page": "-3"}, {"page": "9" * 40}, {"least": "nan"}, {"only": "x"}, {"q": "  "}])
def test_what_makes_no_sense_in_an_address_is_left_out(given: dict[str, str]) -> None:
    assert Query.parse(given) == Query()


def test_two_runs_differ_where_their_mean_rewards_do(index: RunIndex, tmp_path: Path) -> None:
    others = [replace(g, completions=[replace(c, reward=0.0) for c in g.completions]) for g in GROUPS[:30]]
    beside = RunIndex()
    beside.add_landed(scored_run(tmp_path, others))
    found = {GROUPS[p].id for p in positions(index, Query(only=DIFFER), beside)}
    assert found == {g.id for g in GROUPS[:30] if (mean(g) or 0.0) > 0.1}


def test_shards_that_land_are_read_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of a run that goes on: what was read is not read again."""
    from cosmo_cli.view import index as module

    run = scored_run(tmp_path, GROUPS, per_shard=30)
    whole = run.shard_paths()
    read: list[str] = []
    plain = module._read
    monkeypatch.setattr(module, "_read", lambda path: read.append(path.name) or plain(path))
    found = RunIndex()
    for landed in (1, 2, 2, 3):
        monkeypatch.setattr(RunFolder, "shard_paths", lambda self, n=landed: whole[:n])
        found.add_landed(run)
        assert len(found) == 30 * landed
        assert len(positions(found, Query(label="general"))) == 15 * landed
    assert read == [p.name for p in whole]
    assert found.position(GROUPS[75].id) == 75
