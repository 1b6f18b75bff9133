"""`cosmo import` as it is typed: the page about it runs, and what can't be done says what to type."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.imports.made import flat_rows, write_jsonl
from tests.support import preloaded
from tests.support.cli import PATIENCE, ROOT, complaint, cosmo, environment

PAGE = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_runs_as_it_is_written(tmp_path: Path) -> None:
    """All its blocks in one shell, in order."""
    env = environment(PATH=preloaded.path())
    command = ["bash", "-e", "-o", "pipefail", "-c", "\n".join(BLOCKS)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    # What the page says is printed is.
    (shown,) = re.findall(r"^    (import: .*)$", PAGE, re.MULTILINE)
    assert shown in done.stderr.splitlines()
    assert re.search(r"^metric +first +second", done.stderr, re.MULTILINE)
    assert "grades gpt, people" in done.stderr
    assert len(list((tmp_path / "runs").glob("train-*"))) == 3


@pytest.mark.parametrize(
    "arguments, code, words, hint",
    [
        (["absent.jsonl"], 3, "no such file or folder", "cosmo import FILE"),
        ([], 2, "was given no file", "cosmo import FILE --as rollout"),
        (["rows.jsonl", "--as", "nothing"], 2, "is not a choice", "rollout, scored"),
        (["rows.jsonl", "--map", "completon=x"], 2, "no field 'completon'", "did you mean 'completion'?"),
        (["rows.jsonl", "--prompts", "absent"], 3, "absent", ""),
        (["rows.jsonl", "--prompts", "."], 3, "", ""),
        (["rows.jsonl", "--tokenizer", "tiny:nothing"], 2, "nothing", ""),
        (["rows.jsonl", "--set", "grades.gpt=x"], 2, "rollout groups have no grades", "--as scored"),
    ],
)
def test_what_is_wrong_is_one_line_with_what_to_type(
    tmp_path: Path, arguments: list[str], code: int, words: str, hint: str
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", flat_rows())
    done = cosmo("import", *arguments, cwd=tmp_path)
    message, suggestion = complaint(done)
    assert done.returncode == code
    assert words in message
    assert hint in suggestion


def test_a_run_is_looked_at_like_any_other(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", flat_rows())
    first = cosmo("import", "rows.jsonl", "--name", "theirs", cwd=tmp_path)
    assert cosmo("import", "rows.jsonl", "--quiet", cwd=tmp_path).stdout == first.stdout
    shown = cosmo("status", cwd=tmp_path)
    assert "theirs" in shown.stdout
    assert "complete" in shown.stdout
    write_jsonl(tmp_path / "rows.jsonl", flat_rows()[:3])
    assert "stale" in cosmo("status", cwd=tmp_path).stdout
    dry = cosmo("import", "rows.jsonl", "--dry-run", cwd=tmp_path)
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "would do 1 of 1 shard" in dry.stderr
