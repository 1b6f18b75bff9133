"""What the README shows works as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cosmo_cli.recipe.schema import parse
from schemas.scored import grade_of
from schemas.tables import SCORED
from stages.core.config import build
from stages.core.runs.folder import RunFolder
from stages.judging.parsed import parse_completion
from stages.judging.prompt import load_prompt
from stages.score.config import JudgeTable
from tests.support import preloaded
from tests.support.cli import PATIENCE, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def block(language: str, holding: str) -> str:
    return next(text for lang, text in BLOCKS if lang == language and holding in text)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, as a user's checkout."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("cosmo_cli", "stages", "schemas", "examples"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def bash(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": preloaded.path(), "PYTHONPATH": str(place)}
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=PATIENCE)


def test_the_pipe_and_a_reward_of_ones_own(clone: Path) -> None:
    done = bash(block("bash", "| cosmo rollout"), clone)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"runs/train-[0-9a-f]{8}\n", done.stdout)

    (clone / "my_rewards.py").write_text(block("python", "def brief"))
    groups = next((clone / "runs").glob("rollout-*"))
    command = block("bash", "my_rewards.py:brief").replace("runs/rollout-1a2b3c4d", str(groups))
    done = bash(command, clone)
    assert done.returncode == 0, done.stderr
    general = [g for g in RunFolder.open(clone / done.stdout.strip()).rows(SCORED) if g.label == "general"]
    assert general
    for group in general:
        assert [t.name for t in group.completions[0].terms] == ["format", "answer", "brief"]
        for completion in group.completions:
            grade = grade_of(completion, "brief")
            assert grade is not None
            assert grade.value == (1.0 if len(parse_completion(completion.text).answer.split()) <= 12 else 0.0)


def test_make_targets_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", README)) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link


def test_every_command_named_is_a_command() -> None:
    from cosmo_cli.app import commands

    assert set(re.findall(r"`cosmo ([a-z]+)", README)) <= set(commands())


def test_file_sizes_stay_readable() -> None:
    """No file over 500 lines; the house aims at 100-300."""
    sizes = {
        p.relative_to(ROOT): len(p.read_text(encoding="utf-8").splitlines())
        for folder in ("cosmo_cli", "stages", "schemas", "tests", "docs")
        for p in (ROOT / folder).rglob("*.py")
    }
    assert {p: n for p, n in sizes.items() if n > 500} == {}


def test_the_judge_is_a_table_that_a_recipe_takes() -> None:
    recipe = parse(tomllib.loads(block("toml", "[score.judges.helpful]")))
    judge = build(JudgeTable, recipe.score["judges"]["helpful"], "judge")
    assert (judge.engine, load_prompt(judge.prompt).verdicts) == ("openai", {"helpful": 1.0, "unhelpful": 0.0})
