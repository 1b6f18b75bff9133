"""A stage is declared once: what others know of it fits the stage, and whoever reads the list has all of it."""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cosmo_cli.app import commands, load_command
from cosmo_cli.recipe.schema import RecipeFile
from docs.generate import config_page
from stages.core.stage_list import STAGES, StageInfo, load_config, load_stage, recipe_verbs
from tests.support.cli import ROOT


@pytest.mark.parametrize("verb", STAGES)
def test_an_entry_fits_its_stage(verb: str) -> None:
    info, stage, config = STAGES[verb], load_stage(verb), load_config(verb)
    assert info.verb == stage.name == verb
    assert stage.config is config
    assert bool(info.positional) == (not (stage.reads and stage.needs_input))
    fields = {f.name for f in dataclasses.fields(config)}
    assert not info.positional or info.positional in fields
    assert not info.upstream or (info.upstream in fields and stage.reads and not stage.needs_input)
    assert (ROOT / info.stage.partition(":")[0].replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("verb", sorted(commands()))
def test_every_option_of_a_command_is_its_own(verb: str) -> None:
    """Two options of one flag: Click hands it to one of them, and the other never gets its value."""
    given = Counter(flag for p in load_command(verb).params for flag in [*p.opts, *p.secondary_opts])
    assert {flag for flag, times in given.items() if times > 1} == set()


def test_import_contracts_name_every_stage() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    packages = {info.stage.rpartition(".")[0] for info in STAGES.values()}
    apart = next(c for c in contracts if c["type"] == "independence")
    assert set(apart["modules"]) == packages
    layers = next(c for c in contracts if "stages.core" in " ".join(c.get("layers", [])))["layers"]
    assert set(layers[0].split(" | ")) == packages


def test_the_command_line_recipes_and_docs_have_what_is_listed() -> None:
    assert list(commands())[: len(STAGES)] == list(STAGES)
    assert {f.name for f in dataclasses.fields(RecipeFile)} >= set(recipe_verbs())
    assert [line for line in config_page() if line.startswith("## cosmo ")] == [f"## cosmo {verb}" for verb in STAGES]


def test_a_listed_stage_needs_no_module_of_its_own_in_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from cosmo_cli.app import main

    toy = StageInfo(
        "toy", "Rows from nothing.", "tests.support.toy:ToyConfig", "tests.support.toy:TOY", "Nothing.", positional="x"
    )
    monkeypatch.setitem(STAGES, "toy", toy)
    commands.cache_clear()
    try:
        assert main(["toy", "--runs", str(tmp_path), "--set", "rows=2", "--name", "small"]) == 0
        path = capsys.readouterr().out.strip()
        assert path.startswith(str(tmp_path / "toy-"))
        assert main(["status", "--runs", str(tmp_path)]) == 0
        assert "small" in capsys.readouterr().out
        monkeypatch.setitem(STAGES, "toy", replace(toy, spread=True))
        assert main(["toy", "--runs", str(tmp_path), "--set", "rows=2", "--worker", "0/2"]) == 0
    finally:
        commands.cache_clear()
