"""Plugins from outside: files, modules and installed packages; what is wrong with one is said with file and line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.plugins import builtin, references
from stages.core.plugins.kinds import KINDS
from stages.core.registry import is_known, names, short_name
from tests.support.cli import COSMO, environment

CALL = """
import sys
from stages.core.errors import CosmoError
from stages.core.registry import load, plugin_key
try:
    print(load(sys.argv[1], sys.argv[2]))
except CosmoError as error:
    print(f"{type(error).__name__}: {error.message} | {error.hint}")
"""


def loaded(kind: str, name: str, cwd: Path, *path: Path) -> str:
    """What came of loading a plugin in a process of its own: its repr, or the error."""
    env = environment()
    env["PYTHONPATH"] = ":".join([env["PYTHONPATH"], *map(str, path)])
    command = [sys.executable, "-c", CALL, kind, name]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def installed(folder: Path, name: str, entry_points: str, code: dict[str, str]) -> Path:
    """A folder with a package and its metadata, as pip leaves them."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for file, text in code.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "where", "name"),
    [
        ("./mine.py:accuracy", "mine.py", "accuracy"),
        ("a/b/mine.py:PLUGIN", "a/b/mine.py", "mine"),
        ("package.module:reward", "package.module", "reward"),
        ("package.brief:PLUGIN", "package.brief", "brief"),
    ],
)
def test_a_reference_says_where_the_code_is_and_what_it_is_called(text: str, where: str, name: str) -> None:
    found = references.parse(text)
    assert found is not None
    assert found.where == (str(Path(where).absolute()) if found.is_file else where)
    assert (found.name, short_name(text)) == (name, name)


@pytest.mark.parametrize("text", ["brief", "jsonl:a/b.jsonl", "./mine.py", "mine.py:", "tiny:llama@3", "a b:c", ":x"])
def test_other_texts_are_no_references(text: str) -> None:
    assert references.parse(text) is None


def test_a_recipe_s_files_lie_beside_the_recipe() -> None:
    values = {
        "terms": {"./mine.py:accuracy": 1.0, "answer": 1.0},
        "sources": ["mine.py:rows:data/", "jsonl:mine.jsonl", {"name": "/abs/mine.py:rows"}],
        "title": "see mine.py: it is short",
    }
    assert references.relative_to(values, Path("recipes")) == {
        "terms": {"recipes/mine.py:accuracy": 1.0, "answer": 1.0},
        "sources": ["recipes/mine.py:rows:data/", "jsonl:mine.jsonl", {"name": "/abs/mine.py:rows"}],
        "title": "see mine.py: it is short",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_plugin_is_found_without_looking_at_the_others(kind: str) -> None:
    assert {name: builtin.find(kind, name) for name in builtin.files(kind)} == builtin.files(kind)
    assert names(kind) == list(builtin.files(kind))
    assert not is_known(kind, "base")
    assert not is_known(kind, "no_such")


@pytest.mark.parametrize(
    ("code", "name", "parts"),
    [
        ("import nowhere_at_all\n", "f", ["ModuleNotFoundError", "nowhere_at_all", "mine.py line 1"]),
        ("def f(:\n", "f", ["SyntaxError", "mine.py line 1"]),
        ("\n\n1 / 0\n", "f", ["ZeroDivisionError", "mine.py line 3"]),
        ("def g():\n    raise KeyError\n\ng()\n", "f", ["KeyError", "mine.py line 2"]),
        ("raise SystemExit(3)\n", "f", ["SystemExit", "mine.py line 1"]),
        ("def other(completion): return 1\n", "f", ["has no f", "other"]),
        ("f = 3\n", "f", ["mine.py:f is none", "3 is no function"]),
        ("async def f(completion): return 1\n", "f", ["async"]),
        ("def f(completion, colour): return 1\n", "f", ["'colour', which no row has"]),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(
    code: str, name: str, parts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(code)
    said = loaded("verifier", f"./mine.py:{name}", tmp_path)
    assert said.startswith("UsageError: verifier ./mine.py:f")
    assert [part for part in parts if part not in said] == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no such file: ./mine.py" in loaded("verifier", "./mine.py:f", tmp_path)


@pytest.mark.parametrize("kind", ["dataset", "augmentation", "engine", "loss", "advantage", "metric", "export"])
def test_an_object_that_is_no_plugin_of_the_kind_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("thing = object()\n")
    said = loaded(kind, "./mine.py:thing", tmp_path)
    assert said.startswith(f"UsageError: {kind} ./mine.py:thing is none: a object without ")
    assert said.endswith("| docs/extending.md says what a plugin of each kind must have")


def test_a_file_s_neighbours_can_be_imported_and_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "mine.py").write_text(
        "import json\nfrom helper import VALUE\ndef f(completion): return VALUE\nassert json.dumps\n"
    )
    (tmp_path / "near" / "helper.py").write_text("VALUE = 1\n")
    (tmp_path / "near" / "json.py").write_text("raise RuntimeError('this is not the json that was meant')\n")
    assert "Verifier" in loaded("verifier", "near/mine.py:f", tmp_path)


def test_a_module_and_an_installed_plugin(tmp_path: Path) -> None:
    site = installed(
        tmp_path / "site",
        "toys",
        "[cosmo.verifiers]\nquiet = toys.rewards:quiet\nanswer = toys.rewards:quiet\nbroken = toys.broken:x\n"
        "gone = toys.rewards:gone\nodd = toys.rewards\n",
        {
            "toys/__init__.py": "",
            "toys/rewards.py": 'def quiet(completion):\n    """No capitals."""\n    return completion.islower()\n',
            "toys/broken.py": "\nraise ValueError('not today')\n",
        },
    )
    (tmp_path / "cwd").mkdir()
    cwd = tmp_path / "cwd"
    assert "name='quiet'" in loaded("verifier", "quiet", cwd, site)
    assert "name='quiet'" in loaded("verifier", "toys.rewards:quiet", cwd, site)
    assert "ValueError: not today" in (said := loaded("verifier", "broken", cwd, site))
    assert "broken.py line 2" in said
    assert "did you mean 'quiet'?" in loaded("verifier", "quite", cwd, site)
    env = environment() | {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{site}"}
    done = subprocess.run([*COSMO, "list", "verifier", "--json"], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["verifier"]
    assert "toys 1.0" in listed["quiet"]
    assert "ValueError: not today" in listed["broken"]
    assert "has no gone" in listed["gone"]
    assert "names no object" in listed["odd"]
    assert listed["format"].startswith("Form: 1 when")
    assert len(listed) == len(builtin.files("verifier")) + 4


def test_two_packages_with_one_name_are_both_named(tmp_path: Path) -> None:
    for package in ("one", "two"):
        installed(tmp_path / "site", package, f"[cosmo.metrics]\nshort = {package}:f\n", {f"{package}.py": ""})
    assert "metric 'short' is offered by one 1.0 and two 1.0" in loaded("metric", "short", tmp_path, tmp_path / "site")


def test_listing_the_built_in_ones_imports_no_plugin(tmp_path: Path) -> None:
    code = (
        "import sys; from stages.core.registry import KINDS, listed\n"
        "[listed(k) for k in KINDS]\n"
        "print([m for m in sys.modules if m.startswith('stages.') and not m.startswith('stages.core')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
