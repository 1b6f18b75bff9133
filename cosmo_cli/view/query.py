"""Which groups a page shows, and in which order: what stands in its address."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np

from cosmo_cli.view.index import RunIndex
from schemas.values import finite_number
from stages.eval.report.sample import TOLD_APART

if TYPE_CHECKING:
    import pyarrow as pa

PAGE_GROUPS = 20
FLAT, LEARNABLE, FAILED, DIFFER = "flat", "learnable", "failed", "differ"
ONLY = {
    LEARNABLE: "rewards differ within the group",
    FLAT: "rewards all alike",
    FAILED: "a completion is an error",
    DIFFER: "the two runs earn differently",
}
"""What a page may be limited to."""
ORDERS = {
    "": "as stored",
    "low": "lowest reward first",
    "high": "highest reward first",
    "spread": "widest rewards first",
}


@dataclass(frozen=True, slots=True)
class Query:
    """Filters and order of a page; an empty text is no filter."""

    q: str = ""
    """Words that prompt or completions hold, each somewhere, whatever their case."""
    label: str = ""
    family: str = ""
    kind: str = ""
    """harmful or benign."""
    verdict: str = ""
    """`VERIFIER: VERDICT` that a completion was given."""
    least: float | None = None
    """Of the mean reward."""
    most: float | None = None
    only: str = ""
    """One of ONLY."""
    order: str = ""
    beside: str = ""
    """The key of another run whose completions stand beside."""
    page: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """From an address. What makes no sense in it is left out: a page is no place for errors of typing."""
        found: dict[str, Any] = {f.name: given.get(f.name, "").strip() for f in fields(cls)}
        found |= {name: finite_number(found[name]) for name in ("least", "most")}
        found["only"] = found["only"] if found["only"] in ONLY else ""
        found["order"] = found["order"] if found["order"] in ORDERS else ""
        page = found["page"]
        found["page"] = max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1
        return cls(**found)

    def address(self, **changed: object) -> str:
        """`?...` of this query with these fields changed; empty where nothing is asked."""
        query = replace(self, **changed)  # type: ignore[arg-type]
        values = {f.name: getattr(query, f.name) for f in fields(query)}
        asked = {k: v for k, v in values.items() if v not in ("", None) and not (k == "page" and v == 1)}
        return f"?{urlencode(asked)}" if asked else ""

    @property
    def filtered(self) -> bool:
        """Whether it leaves anything out."""
        return replace(self, order="", beside="", page=1) != Query()


def positions(index: RunIndex, query: Query, beside: RunIndex | None = None) -> np.ndarray[Any, Any]:
    """Positions of the groups that a query asks for, in its order, of all pages."""
    columns = index.columns
    if not columns:
        return np.zeros(0, np.int64)
    fits = np.ones(len(index), bool)
    for name, wanted in (("label", query.label), ("family", query.family), ("harmful", query.kind)):
        if wanted:
            fits &= columns[name] == wanted
    if query.least is not None:
        fits &= columns["mean"] >= query.least
    if query.most is not None:
        fits &= columns["mean"] <= query.most
    if query.only:
        fits &= _only(index, query.only, beside)
    if query.verdict:
        fits &= index.answer("verdict", query.verdict, verdict_given)
    for word in query.q.casefold().split():
        fits &= index.answer("word", word, word_said)
    return _ordered(index, np.flatnonzero(fits), query.order)


def _only(index: RunIndex, only: str, beside: RunIndex | None) -> np.ndarray[Any, Any]:
    columns = index.columns
    if only == FAILED:
        return columns["errors"] > 0
    if only == DIFFER:
        if beside is None:
            return np.ones(len(index), bool)
        there = [beside.position(ident) for ident in columns["id"]]
        other = np.array([math.nan if p is None else beside.columns["mean"][p] for p in there])
        return np.abs(columns["mean"] - other) > TOLD_APART
    flat = columns["low"] == columns["high"]
    return flat if only == FLAT else columns["low"] < columns["high"]


def _ordered(index: RunIndex, found: np.ndarray[Any, Any], order: str) -> np.ndarray[Any, Any]:
    if not order:
        return found
    columns = index.columns
    values = (columns["high"] - columns["low"] if order == "spread" else columns["mean"])[found]
    # NaN, a group without a reward, sorts last either way.
    return found[np.argsort(values if order == "low" else -values, kind="stable")]


def word_said(shard: Path, word: str) -> np.ndarray[Any, Any]:
    """Which groups of a shard hold the word in a turn of the prompt or in a completion, shape (N,) of bool."""
    from stages.core.runs.shards import leaves, open_shard

    wanted = (["messages", "content", "text"], ["completions", "text"], ["id"])
    with open_shard(shard, None) as file:
        table = file.read(columns=leaves(file, lambda f: f in wanted))
    found = np.zeros(table.num_rows, bool)
    for name in ("id", "messages", "completions"):
        if name in table.column_names:
            found |= _holds(table.column(name).combine_chunks(), word)
    return found


def _holds(array: pa.Array, word: str) -> np.ndarray[Any, Any]:
    """Which rows hold the word anywhere, of lists and structs down to their one text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type):
        found = np.zeros(len(array), bool)
        found[pc.list_parent_indices(array).to_numpy()[_holds(array.flatten(), word)]] = True
        return found
    if pa.types.is_struct(array.type):
        return _holds(array.field(0), word)
    said = pc.match_substring(array, word, ignore_case=True).fill_null(False)
    return np.array(said.to_numpy(zero_copy_only=False), bool)


def verdicts(shard: Path, most: int) -> list[str]:
    """`VERIFIER: VERDICT` as a shard's first groups have them, sorted."""
    names = _verdicts(shard, most)
    return sorted(set(names[0].drop_null().unique().to_pylist())) if names else []


def verdict_given(shard: Path, verdict: str) -> np.ndarray[Any, Any]:
    """Which groups of a shard have a completion with that verdict, shape (N,) of bool."""
    import pyarrow.compute as pc

    found = _verdicts(shard, None)
    if found is None:
        return np.zeros(_count(shard), bool)
    names, owners, n = found
    given = np.zeros(n, bool)
    given[owners[np.array(pc.equal(names, verdict).fill_null(False).to_numpy(zero_copy_only=False), bool)]] = True
    return given


def _count(shard: Path) -> int:
    from stages.core.runs.shards import open_shard

    with open_shard(shard, None) as file:
        return int(file.metadata.num_rows)


def _verdicts(shard: Path, most: int | None) -> tuple[pa.Array, np.ndarray[Any, Any], int] | None:
    """(what each grade says, the group it belongs to, how many groups), of all groups or of the first row groups."""
    import pyarrow.compute as pc

    from stages.core.runs.shards import leaves, open_shard

    with open_shard(shard, None) as file:
        wanted = leaves(file, lambda f: f[:2] == ["completions", "grades"] and f[2:] in (["name"], ["verdict"]))
        if len(wanted) < 2 or not file.num_row_groups:
            return None
        number, rows = 0, 0
        while number < file.num_row_groups and (most is None or rows < most):
            rows += file.metadata.row_group(number).num_rows
            number += 1
        groups = file.read_row_groups(list(range(number)), columns=wanted).column("completions").combine_chunks()
    grades = groups.flatten().field("grades")
    owners = pc.list_parent_indices(groups).to_numpy()[pc.list_parent_indices(grades).to_numpy()]
    flat = grades.flatten()
    # Null where there is no verdict: a number alone is no class.
    return pc.binary_join_element_wise(flat.field("name"), flat.field("verdict"), ": "), owners, len(groups)
