"""docs/extending.md is true: its files and commands, in a folder of their own, in its order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from stages.core.plugins.kinds import KINDS
from tests.support import preloaded
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


COMMANDS = [text for language, text in BLOCKS if language == "bash"]


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_every_command_works(number: int, folder: Path) -> None:
    """In the page's order, a block a test: what a block calls its runs is known to the next ones."""
    state = folder / "state.sh"
    script = [
        "set -euo pipefail",
        f"[ ! -e {state} ] || source {state}",
        COMMANDS[number],
        f"for name in PROMPTS GROUPS_ SCORED POLICY; do if [ -v $name ]; then declare -p $name; fi; done > {state}",
    ]
    command = ["bash", "-c", "\n".join(script)]
    done = subprocess.run(command, cwd=folder, env=environment(PATH=preloaded.path()), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # A backbone is built in a process of its own.
    for name in set(re.findall(r"\./(\w+\.py):", COMMANDS[number])) - {"my_backbones.py"}:
        assert re.search(rf"running code of (\./)?{name}", done.stderr), done.stderr
