"""The verifier `instruction` with checks of one's own, and what its version and its key count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from stages.core.errors import UsageError
from stages.core.registry import members
from stages.judging.parsed import parse_completion
from stages.score.config import ScoreConfig
from stages.score.verifiers.base import Verifier
from stages.score.verifiers.load import load_verifier
from tests.score.made import grade, group

LOUD = "def loud(completion: str, least: int = 1) -> bool:\n    return completion.count('!') >= least\n"


def bound(*checks: str) -> Verifier:
    found = load_verifier("instruction", ScoreConfig(checks=list(checks)))
    assert isinstance(found, Verifier)
    return found


def test_checks_that_the_config_names_grade_and_count_in_version_and_key(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOUD)
    plain, own = bound(), bound(f"{tmp_path}/mine.py:loud")
    row = group("go !!", instructions=[json.dumps({"kind": "loud", "least": 2})])
    sample = row.completions[0]
    parsed = parse_completion(sample.text)
    assert plain.grade(row, sample, parsed).status == "not_applicable"
    found = own.grade(row, sample, parsed)
    assert (found.verdict, found.version) == ("followed", own.version)
    assert own.version != plain.version
    assert [name for name, _ in (own.identity or {})["checks"]][-1] == "loud"
    (tmp_path / "yours.py").write_text(LOUD)
    with pytest.raises(UsageError, match="has a check 'loud'"):
        bound(f"{tmp_path}/mine.py:loud", f"{tmp_path}/yours.py:loud")


def test_a_kind_that_lacks_its_package_is_an_error_that_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syllapy", None)
    found = grade("instruction", "go banana", instructions=[json.dumps({"kind": "words:odd_even_syllables"})])
    assert (found.status, found.value) == ("error", None)
    assert found.reason == "syllapy is not installed; pip install 'cosmo-rl[ifbench]'"


def test_an_empty_reply_obeys_none() -> None:
    two = [json.dumps({"kind": kind}) for kind in ("punctuation:no_comma", "format:no_whitespace")]
    assert grade("instruction", "", instructions=two).seen == "0/2 strictly, 0/2 loosely"


def test_what_rows_name_is_listed() -> None:
    found = {one.name: one.text for one in members("instruction")}
    assert len(found) == 86
    assert found["count:numbers"].endswith("(N)")
    assert [one.name for one in members("loss")]
