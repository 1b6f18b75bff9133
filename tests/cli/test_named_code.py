"""Code that a recipe, an option or a run folder names: where it is looked for, when it runs, and who is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages.core.config import parse_assignment
from tests.support.cli import complaint, cosmo, ok

RAN = "from pathlib import Path\nPath(__file__).with_name('ran').write_text('')\n"
CODE = RAN + "def short(completion):\n    return len(completion.split()) < 5\n"
RECIPE = (
    '[score]\nalso = ["./code.py:short"]\n[score.rewards.general]\nterms = { answer = 1.0, "code.py:short" = 0.5 }\n'
)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rollout."""
    cwd = tmp_path_factory.mktemp("groups")
    return ok("rollout", ok("prepare", "builtin", "--limit", 6, cwd=cwd), "--engine", "fake", cwd=cwd)


def test_a_recipe_s_files_lie_beside_it_and_are_announced(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "code.py").write_text(CODE)
    (tmp_path / "recipes" / "recipe.toml").write_text(RECIPE)
    done = cosmo("score", groups, "--config", "recipes/recipe.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("running code of recipes/code.py") == 1
    assert (tmp_path / "recipes" / "ran").exists()
    key = json.loads((tmp_path / done.stdout.strip() / "manifest.json").read_text())["key"]
    # By its name and its code, and not by where it lies.
    assert "recipes" not in json.dumps(key)
    assert key["plan"]["rewards"]["general"] == "sum: format*1 + answer*1 + short*0.5"


def test_a_recipe_in_a_run_folder_runs_no_code_unasked(groups: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(groups, theirs)
    (theirs / "code.py").write_text(CODE)
    (theirs / "recipe.toml").write_text(RECIPE)
    done = cosmo("score", groups, "--config", theirs / "recipe.toml", cwd=tmp_path)
    assert done.returncode == 2
    message, hint = complaint(done)
    assert "lies in the run folder" in message
    assert "names code: ./code.py:short" in message
    assert hint == "add --run-code if you trust it"
    assert cosmo("run", theirs / "recipe.toml", "--dry-run", cwd=tmp_path).returncode == 2
    assert not (theirs / "ran").exists()
    ok("score", groups, "--config", theirs / "recipe.toml", "--run-code", cwd=tmp_path)
    assert (theirs / "ran").exists()


def test_a_module_is_code_as_well(groups: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(groups, theirs)
    (theirs / "recipe.toml").write_text('[score]\nalso = ["subprocess:getoutput"]\n')
    assert (
        "names code: subprocess:getoutput"
        in complaint(cosmo("score", groups, "--config", theirs / "recipe.toml", cwd=tmp_path))[0]
    )


def test_status_runs_no_code_of_a_run_folder_unasked(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    folder = ok("score", groups, "--set", 'also=["./code.py:short"]', cwd=tmp_path)
    (tmp_path / "ran").unlink()
    (report,) = json.loads(cosmo("status", folder, "--json", cwd=tmp_path).stdout)
    assert report["state"] == "unchecked"
    assert "names code: ./code.py:short" in report["why"][0]
    assert "--run-code" in report["why"][0]
    assert not (tmp_path / "ran").exists()
    (report,) = json.loads(cosmo("status", folder, "--json", "--run-code", cwd=tmp_path).stdout)
    assert (report["state"], report["why"]) == ("complete", [])
    (tmp_path / "code.py").write_text(CODE.replace("< 5", "< 4"))
    (report,) = json.loads(cosmo("status", folder, "--json", "--run-code", cwd=tmp_path).stdout)
    assert report["state"] == "stale"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('terms."./my.py:f"=1', ["terms", "./my.py:f"]),
        ('a."b.c".d=1', ["a", "b.c", "d"]),
        ("a.b=1", ["a", "b"]),
    ],
)
def test_a_key_with_dots_is_written_in_quotes(text: str, path: list[str]) -> None:
    assert parse_assignment(text) == (path, 1)


def test_one_term_in_a_file_can_be_set_by_itself(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    folder = ok("score", groups, "--set", 'rewards.general.terms."./code.py:short"=0.5', cwd=tmp_path)
    key = json.loads((folder / "manifest.json").read_text())["key"]
    assert key["plan"]["rewards"]["general"] == "sum: format*1 + short*0.5"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def rows():\n    yield {'prompt': 'a'}\n    raise ValueError('no more')\n", "ValueError: no more"),
        ("def rows():\n    yield {'prompt': 'a'}\n    open('nowhere/at/all')\n", "FileNotFoundError"),
    ],
)
def test_an_error_in_a_plugin_s_own_code_names_its_line(code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    done = cosmo("prepare", "./code.py:rows", cwd=tmp_path)
    message, hint = complaint(done)
    assert said in message
    assert hint == "in a plugin's own code: code.py line 3"
