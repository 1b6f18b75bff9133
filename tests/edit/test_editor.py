"""`cosmo edit --id`: an editor that does as a person would, one that fails, and none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cosmo_cli.app import main
from cosmo_cli.commands.edit import ask
from schemas.tables import PROMPTS
from stages.core.errors import InputError, UnavailableError, UsageError
from stages.core.runs.folder import RunFolder
from stages.judging.steps import split_steps
from tests.edit.made import groups, prompts, rollout


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("old")
    return rollout(prompts(folder / "in", 1), folder, samples=2)


def editor(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """A person: Python that is given the file's lines, numbered ones and all, and leaves `lines`."""
    script = folder / "person.py"
    script.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\nlines = path.read_text().splitlines(keepends=True)\n"
        f"{code}\npath.write_text(''.join(lines))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_a_person_changes_the_last_step_and_the_command_writes_the_row(
    old: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((ident, group),) = groups(old).items()
    editor(monkeypatch, tmp_path, "lines[-1] = 'three stars\\n'")
    last = len(split_steps(group.completions[1].text))
    words = ["edit", str(old.path), "--id", ident[:6], "--index", "1", "--by", "ann", "--why", "it shows"]
    assert main([*words, "--runs", str(tmp_path)]) == 0
    path = capsys.readouterr().out.strip()
    (row,) = RunFolder.open(path).rows(PROMPTS)
    steps = split_steps(group.completions[1].text)
    assert row.edit.text == "".join(steps[:-1]) + steps[-1].replace(steps[-1].strip(), "three stars")
    assert (row.edit.by, row.edit.why, row.parent_id, row.edit.index) == ("ann", "it shows", ident, 1)
    # The same with the step named: there is nothing else in the file.
    editor(monkeypatch, tmp_path, "assert sum(l.startswith('---') for l in lines) == 1; lines[-1] = 'three stars\\n'")
    change = ask([old.path], ident, 1, last, "")
    assert (change.step, change.after.strip()) == (last, "three stars")


def test_saved_as_it_is_is_no_edit_but_of_a_step(
    old: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((ident, group),) = groups(old).items()
    editor(monkeypatch, tmp_path, "")
    with pytest.raises(InputError, match="saved as it was"):
        ask([old.path], ident, 0, 0, "")
    assert ask([old.path], ident, 0, 1, "").after == split_steps(group.completions[0].text)[0]


def test_no_editor_one_that_is_not_there_and_one_that_fails(
    old: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ident = next(iter(groups(old)))
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="EDITOR is not set"):
        ask([old.path], ident, 0, 0, "")
    monkeypatch.setenv("EDITOR", "no-such-editor -w")
    with pytest.raises(UnavailableError, match="'no-such-editor' can't be started: No such file"):
        ask([old.path], ident, 0, 0, "")
    editor(monkeypatch, tmp_path, "lines.append('kept'); path.write_text(''.join(lines)); sys.exit(3)")
    assert main(["edit", str(old.path), "--id", ident, "--runs", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert "exit code 3" in said
    assert Path(said.split("your words are in ")[1].strip()).read_text().endswith("kept")
    assert not list(tmp_path.glob("edit-*"))


@pytest.mark.parametrize(("ident", "index", "said"), [("zz", 0, "no row 'zz'"), (None, 9, "no completion 9")])
def test_what_is_not_there_to_be_edited(
    old: RunFolder, monkeypatch: pytest.MonkeyPatch, ident: str | None, index: int, said: str
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    with pytest.raises(InputError, match=said):
        ask([old.path], ident or next(iter(groups(old))), index, 0, "")
