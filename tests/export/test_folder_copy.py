"""Copying a model folder out: whole or not at all, never over somebody's files."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import CosmoError, UsageError
from stages.export.folder_copy import copy_folder
from stages.export.verify import RECORD


def model(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(content)
    (folder / "model.safetensors").write_text(content * 3)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return model(tmp_path / "source", "new")


def test_new_empty_and_earlier_targets(tmp_path: Path, source: Path) -> None:
    (tmp_path / "empty").mkdir()
    model(tmp_path / "earlier", "old")
    for name in ("deep/er/new", "empty", "earlier"):
        copy_folder(source, tmp_path / name, overwrite=False)
        assert contents(tmp_path / name) == contents(source)
    assert not list(tmp_path.rglob(".*"))


def test_somebodys_folder_is_refused(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1.txt").write_text("mine")
    with pytest.raises(UsageError, match="no earlier export"):
        copy_folder(source, target, overwrite=False)
    assert contents(target) == {"chapter1.txt": "mine"}
    copy_folder(source, target, overwrite=True)
    assert contents(target) == contents(source)


def test_a_file_or_link_is_refused_even_with_overwrite(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(model(tmp_path / "elsewhere", "old"))
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="is not a folder"):
            copy_folder(source, tmp_path / name, overwrite=True)


def test_the_same_export_is_left_alone(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "target"
    copy_folder(source, target, overwrite=False)
    before = target.stat().st_ino
    copy_folder(source, target, overwrite=False)
    assert target.stat().st_ino == before
    (target / "model.safetensors").unlink()
    copy_folder(source, target, overwrite=False)
    assert contents(target) == contents(source)


def test_a_failing_copy_leaves_what_was_there(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = model(tmp_path / "target", "old")
    real = shutil.copytree

    def full(source: Any, beside: Any, **kw: Any) -> Any:
        real(source, beside, **kw)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(CosmoError, match="No space left"):
        copy_folder(source, target, overwrite=False)
    assert contents(target)[RECORD] == "old"
    assert not list(tmp_path.glob(".*"))


def test_a_failing_rename_puts_the_old_one_back(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = model(tmp_path / "target", "old")
    real, calls = os.rename, []

    def second_fails(a: Any, b: Any) -> None:
        calls.append(a)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(a, b)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(CosmoError, match="can't copy"):
        copy_folder(source, target, overwrite=False)
    assert contents(target)[RECORD] == "old"
