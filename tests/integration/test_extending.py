"""docs/extending.md is true: its files and commands, in a folder of their own, in its order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.plugins.kinds import KINDS
from tests.support.cli import ROOT, environment

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_kind_has_its_part_and_its_group() -> None:
    parts = re.findall(r"^## An? (.*)$", PAGE, re.MULTILINE)
    shown = {"export": "export target", "installed": "installed package"}
    assert sorted(parts) == sorted([*(shown.get(kind, kind) for kind in KINDS), "installed package"])
    assert [kind.group for kind in KINDS.values() if f"`{kind.group}`" not in PAGE] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files."""
    made = tmp_path_factory.mktemp("mine")
    for language, text in BLOCKS:
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name is not None, text
            (made / name[1]).write_text(text, encoding="utf-8")
    return made


def test_every_command_works(folder: Path) -> None:
    script = f'set -euo pipefail\ncosmo() {{ {shlex.quote(sys.executable)} -m cosmo_cli "$@"; }}\n'
    script += "".join(text for language, text in BLOCKS if language == "bash")
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named = {text.partition("\n")[0].removeprefix("# ") for language, text in BLOCKS if language == "python"}
    # A backbone is built in a process of its own.
    assert {n for n in named if f"running code of ./{n}" not in done.stderr} <= {"my_families.py", "my_backbones.py"}
    assert "running code of my_families.py" in done.stderr
