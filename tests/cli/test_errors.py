"""What goes wrong around a command: the exit code and the line that a person reads."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from cosmo_cli.errors import CLOSED_PIPE, explain
from stages.core.cache import cache_root
from stages.core.errors import UNAVAILABLE
from stages.core.plugins.outside import failures
from tests.support.cli import COSMO, PATIENCE, environment


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_what_a_disk_lacks_is_no_fault_of_a_plugin(number: int) -> None:
    """Exit 4 and the place, though the error came through an objective's own file."""

    def write() -> None:
        raise OSError(number, os.strerror(number), "runs/train-1/staging/policy")

    try:
        # As if this file were a plugin's: its frames are then a plugin's own code.
        with failures("none", "none", Path(__file__)):
            pass
        write()
    except OSError as error:
        message, hint, code = explain(error, "train")
    assert code == UNAVAILABLE
    assert message.endswith("(runs/train-1/staging/policy)")
    assert "plugin" not in hint


def test_help_whose_reader_is_gone_is_no_failure(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COSMO, "train", "--help"], stdout=theirs, stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, b"")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COSMO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "cosmo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "cosmo"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_root() == tmp_path / "x" / "cosmo"
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
