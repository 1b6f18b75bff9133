"""What reaches a terminal, and streams that are closed or of another encoding."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmo_cli.terminal.visible import in_json, visible
from tests.support.cli import COSMO, PATIENCE, cosmo, environment, on_terminal

HOSTILE = "a \x1b]52;c;aGk=\x07 b \x9b31m c \u202egnp.exe \u2066 d \x08\x00\x7f \r\x0b ü 漢 e\u200bf"
OBEYED = "\x1b\x07\x9b\u202e\u2066\x08\x00\x7f\x0b\u200b"


@given(st.text() | st.text(st.sampled_from(list(OBEYED + "ab\n\t"))))
def test_a_terminal_is_given_nothing_to_obey(text: str) -> None:
    shown = visible(text)
    assert not set(OBEYED) & {*shown}
    if text.isprintable():
        assert shown == text


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same_and_has_nothing_to_obey(value: Any) -> None:
    document = in_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert not set(OBEYED) & {*document}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": HOSTILE, "answer": "1"}) + "\n", encoding="utf-8")
    return folder


def test_rows_and_errors_reach_a_terminal_in_plain_characters(hostile: Path) -> None:
    run = cosmo("prepare", "rows.jsonl", "--runs", "runs", cwd=hostile).stdout.strip()
    lines = on_terminal("show", run, cwd=hostile, columns=100)
    assert any(r"\x1b]52;c;aGk=\x07 b \x9b31m c \u202egnp.exe" in line for line in lines)
    assert not set(OBEYED) & {*"".join(lines)}
    document = cosmo("show", run, "--json", cwd=hostile).stdout
    assert not set(OBEYED) & {*document}
    assert HOSTILE in _texts(json.loads(document))
    failed = cosmo("prepare", "no\x1b]0;title\x07.jsonl", cwd=hostile)
    assert (failed.returncode, failed.stdout) == (3, "")
    assert r"no\x1b]0;title\x07.jsonl" in failed.stderr
    assert "\x1b" not in failed.stderr


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _texts(item)]


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_closed_stream_costs_nothing_but_what_it_would_have_shown(closed: str, hostile: Path, tmp_path: Path) -> None:
    """Daemons and cron start programs so: the work is done, and no error takes the place of the run's path."""
    shuts = " ".join(f"{number}>&-" if number != "0" else "0<&-" for number in closed.split())
    command = f'"$@" prepare {hostile}/rows.jsonl --runs {tmp_path}/runs {shuts}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *COSMO], capture_output=True, text=True, env=environment(), timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").glob("prepare-*")
    assert (run / "report.json").is_file()
    assert done.stdout.split() == ([] if "1" in closed else [str(run)])
    assert "bug" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_of_another_encoding_ends_nothing(encoding: str, hostile: Path, tmp_path: Path) -> None:
    """A path keeps its bytes, so that the next program finds it; text for people is spelled out."""
    runs = tmp_path / "ümläut 漢"
    env = {**environment(), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [*COSMO, "prepare", str(hostile / "rows.jsonl"), "--runs", str(runs)],
        capture_output=True,
        env=env,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    run = os.fsdecode(done.stdout.rstrip(b"\n"))
    assert Path(run).is_dir()
    shown = subprocess.run([*COSMO, "show", run], capture_output=True, env=env, timeout=PATIENCE)
    assert shown.returncode == 0, shown.stderr
    assert rb"\u6f22" in shown.stdout


@pytest.mark.parametrize("verb", [["run"], ["prepare", "rows.jsonl", "-c"]])
def test_deeply_nested_toml_is_said(verb: list[str], hostile: Path) -> None:
    (hostile / "deep.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    done = cosmo(*verb, "deep.toml", cwd=hostile)
    assert (done.returncode, done.stdout) == (3, "")
    assert "deep.toml is not valid TOML: it is nested too deeply" in done.stderr
