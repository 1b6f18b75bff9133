"""An edited plugin is another plugin, and a built-in one's version stands for the source that is recorded for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.plugins import golden
from stages.core.plugins.trees import tree_of
from stages.core.registry import load
from tests.golden import make
from tests.golden.defaults import changed_defaults, present_defaults
from tests.support.cli import ROOT, environment
from tests.support.preloaded import cosmo, ok

KEY = """
import json, sys
from stages.core.registry import plugin_key
print(json.dumps(plugin_key(sys.argv[1], sys.argv[2])))
"""


def key(kind: str, name: str, cwd: Path, path: Path = ROOT) -> list[object]:
    """`plugin_key` in a process of its own, which has seen no earlier source."""
    env = {**environment(), "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", KEY, kind, name]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def digest_of(text: str, folder: Path) -> str:
    """The tree digest of a source text."""
    file = folder / f"m{len(list(folder.iterdir()))}.py"
    file.write_text(text)
    return tree_of(file).digest


SOURCE = 'def f(x: int = 1) -> bool:\n    return x <= 12 and "a" in f"{x!r:>3}"\n'


@pytest.mark.parametrize(
    ("same", "text"),
    [
        (True, "# Why.\n\ndef f(x: int=1)->bool:\n  return (x<=12 and 'a' in f'{x!r:>3}')  # so\n"),
        (True, '"""Module."""\ndef f(x: int = 1) -> bool:\n    """Function."""\n' + SOURCE.split("\n", 1)[1]),
        (False, SOURCE.replace("12", "3")),
        (False, SOURCE.replace("12", "12.0")),
        (False, SOURCE.replace("12", "True")),
        (False, SOURCE.replace('"a"', 'b"a"')),
        (False, SOURCE.replace("<=", "<")),
        (False, SOURCE.replace("!r", "!s")),
        (False, SOURCE.replace("and", "or")),
        (False, SOURCE.replace("x: int = 1", "x: int, /")),
        (False, SOURCE + "import os\n"),
    ],
)
def test_a_digest_is_of_what_code_does(same: bool, text: str, tmp_path: Path) -> None:
    assert (digest_of(SOURCE, tmp_path) == digest_of(text, tmp_path)) is same


def test_a_digest_is_the_same_in_every_python() -> None:
    """The recorded ones were made by some version: another must find the same."""
    file = ROOT / "stages" / "core" / "plugins" / "kinds.py"
    code = (
        "import sys; from pathlib import Path; from stages.core.plugins.trees import tree_of\n"
        "print(tree_of(Path(sys.argv[1])).digest)"
    )
    found = {tree_of(file).digest}
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        if (other := shutil.which(name)) is not None:
            command = [other, "-c", code, str(file)]
            done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True)
            # A launcher of a version that is not installed, or one that lacks what schemas needs.
            if done.returncode == 0:
                found.add(done.stdout.strip())
    assert len(found) == 1


def test_a_file_s_identity_is_what_it_imports_beside_it_and_not_where_it_lies(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text("def f(completion):\n    from words import few\n    return few\n")
        (tmp_path / folder / "words.py").write_text("from deep.er import few\n")
        (tmp_path / folder / "deep").mkdir()
        (tmp_path / folder / "deep" / "__init__.py").write_text("")
        (tmp_path / folder / "deep" / "er.py").write_text("few = 12\n")
        (tmp_path / folder / "unrelated.py").write_text("x = 1\n")
    first = key("verifier", "./a/mine.py:f", tmp_path)
    assert first[0] == "f"
    assert str(first[1]).startswith("sha256:")
    assert key("verifier", "b/mine.py:f", tmp_path) == first
    (tmp_path / "b" / "unrelated.py").write_text("x = 2\n")
    assert key("verifier", "b/mine.py:f", tmp_path) == first
    (tmp_path / "b" / "deep" / "er.py").write_text("few = 3 \n")
    changed = key("verifier", "b/mine.py:f", tmp_path)
    assert changed != first
    (tmp_path / "b" / "deep" / "er.py").write_text("few = 12  # as before\n")
    assert key("verifier", "b/mine.py:f", tmp_path) == first
    # Another object of the same file is another plugin.
    (tmp_path / "a" / "mine.py").write_text((tmp_path / "a" / "mine.py").read_text() + "g = f\n")
    assert key("verifier", "./a/mine.py:f", tmp_path)[1] != key("verifier", "./a/mine.py:g", tmp_path)[1]


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(tmp_path: Path) -> None:
    import os

    file = tmp_path / "mine.py"
    file.write_text("def f(completion): return 1\n")
    stamp = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    first = key("verifier", "./mine.py:f", tmp_path)
    assert key("verifier", "./mine.py:f", tmp_path) == first
    file.write_text("def f(completion): return 2\n")
    os.utime(file, ns=stamp)
    assert key("verifier", "./mine.py:f", tmp_path) != first


def test_an_installed_package_s_identity_is_all_that_it_imports_of_itself(tmp_path: Path) -> None:
    from tests.core.test_plugins import installed

    code = {
        "toys/__init__.py": "",
        "toys/rewards.py": "from .words import few\ndef quiet(completion): return few\n",
        "toys/words.py": "from toys import deep\nfew = deep.FEW\n",
        "toys/deep.py": "FEW = 1\n",
        "toys/unrelated.py": "",
    }
    site = installed(tmp_path / "site", "toys", "[cosmo.verifiers]\nquiet = toys.rewards:quiet\n", code)

    def now() -> list[object]:
        env = {**environment(), "PYTHONPATH": f"{ROOT}:{site}"}
        command = [sys.executable, "-c", KEY, "verifier", "quiet"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    first = now()
    (site / "toys" / "unrelated.py").write_text("x = 1\n")
    assert now() == first
    (site / "toys" / "deep.py").write_text("FEW = 2\n")
    assert now() != first


def test_the_recorded_versions_stand_for_the_present_sources() -> None:
    """Fails where a built-in plugin, or what it imports of its stage, changed and neither version nor record did."""
    now, recorded = golden.present(), json.loads(golden.FILE.read_text())
    assert golden.differences(now, recorded) == [], (
        "raise the version; or make golden SAME=1: all rows come out as before"
    )
    assert now == recorded, "make golden"


def test_the_recorded_defaults_are_the_present_ones() -> None:
    """A key leaves defaults out: a changed one would pass old runs for new."""
    assert changed_defaults(present_defaults(), make.read(make.DEFAULTS)) == []
    assert present_defaults() == make.read(make.DEFAULTS), "make golden"


def test_a_changed_default_needs_a_version_of_its_stage() -> None:
    now, recorded = present_defaults(), make.read(make.DEFAULTS)
    recorded["rollout"]["defaults"]["temperature"] = 0.7
    (line,) = changed_defaults(now, recorded)
    assert line.startswith("rollout.temperature: the default was 0.7 and is 1.0")
    assert "stages/rollout/stage.py" in line
    recorded["rollout"]["version"] -= 1
    assert changed_defaults(now, recorded) == []


def test_make_golden_refuses_another_source_under_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads(golden.FILE.read_text())
    recorded["verifier"]["refusal"]["source"] = "sha256:of another text"
    file = tmp_path / "plugin_digests.json"
    file.write_text(json.dumps(recorded))
    monkeypatch.setattr(golden, "FILE", file)
    assert make.plugins(same_behaviour=False)[0].startswith("verifier refusal: its code, or code that it imports")
    assert json.loads(file.read_text()) == recorded
    assert make.plugins(same_behaviour=True) == []
    assert json.loads(file.read_text())["verifier"]["refusal"]["source"] != "sha256:of another text"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's packages in a folder where they can be edited."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("cosmo_cli", "stages", "schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_an_edited_built_in_plugin_goes_by_its_digest(copy: Path, tmp_path: Path) -> None:
    own = ["refusal", load("verifier", "refusal").version]
    assert key("verifier", "refusal", tmp_path, copy) == own
    file = copy / "stages" / "score" / "verifiers" / "refusal.py"
    text = file.read_text()
    file.write_text(f"# A remark.\n{text}\n\n")
    assert key("verifier", "refusal", tmp_path, copy) == own
    file.write_text(f"{text}\nMORE = 1\n")
    assert str(key("verifier", "refusal", tmp_path, copy)[1]).startswith("sha256:")
    file.write_text(text)
    assert key("verifier", "refusal", tmp_path, copy) == own
    # So does one whose helper was edited.
    near = copy / "stages" / "score" / "answers" / "match.py"
    near.write_text(near.read_text() + "\nMORE = 1\n")
    assert str(key("verifier", "answer", tmp_path, copy)[1]).startswith("sha256:")
    assert key("verifier", "refusal", tmp_path, copy) == own


def test_a_verifier_in_the_repository_edited_grades_anew(copy: Path, tmp_path: Path) -> None:
    """`words <= 12` to `words <= 3`: another grade, so another run; and the old grades are not kept."""
    page = (ROOT / "docs" / "extending.md").read_text()
    text = next(t for t in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if t.startswith("# brief.py"))

    def run(*args: object) -> tuple[Path, str]:
        done = cosmo(*args, cwd=tmp_path, PYTHONPATH=str(copy))
        assert done.returncode == 0, done.stderr
        return tmp_path / done.stdout.strip(), done.stderr

    prompts, _ = run("prepare", "builtin", "--limit", 8)
    groups, _ = run("rollout", prompts, "--engine", "fake", "--samples", 4)
    file = copy / "stages" / "score" / "verifiers" / "brief.py"
    asked = ("score", groups, "--set", 'also=["brief"]')

    file.write_text(text)
    first, _ = run(*asked)
    assert "(cached)" in run(*asked)[1]
    file.write_text("# Only a remark.\n" + text)
    assert "(cached)" in run(*asked)[1]
    file.write_text(text.replace("words <= 12", "words <= 3"))
    second, said = run(*asked)
    assert "(cached)" not in said
    assert second != first
    assert grades(first, "brief") != grades(second, "brief")
    # Reweighing the first run's rows asks the edited verifier again, too.
    third, _ = run("score", first, "--set", 'also=["brief"]')
    assert grades(third, "brief") == grades(second, "brief")


def grades(folder: Path, name: str) -> list[float | None]:
    """The values of one verifier in a scored run."""
    from schemas.scored import grade_of
    from schemas.tables import SCORED
    from stages.core.runs.folder import RunFolder

    run = RunFolder.open(folder)
    rows = [row for shard in range(run.total) for row in run.shard_rows(SCORED, shard)]
    found = [grade_of(c, name) for row in rows for c in row.completions]
    return [None if g is None else g.value for g in found]


def test_a_function_in_a_file_edited_grades_anew_through_the_command(tmp_path: Path) -> None:
    file = tmp_path / "my_rewards.py"
    code = "def brief(completion):\n    return len(completion.split()) <= {limit}\n"
    groups = ok("rollout", ok("prepare", "builtin", "--limit", 6, cwd=tmp_path), "--engine", "fake", cwd=tmp_path)
    asked = ("score", groups, "--set", 'also=["./my_rewards.py:brief"]')
    file.write_text(code.format(limit=12))
    first = ok(*asked, cwd=tmp_path)
    done = cosmo(*asked, cwd=tmp_path)
    assert "(cached)" in done.stderr
    assert "running code of ./my_rewards.py" in done.stderr
    file.write_text(code.format(limit=1))
    second = ok(*asked, cwd=tmp_path)
    assert second != first
    assert set(grades(second, "brief")) == {0.0, 1.0}
    assert grades(ok("score", first, "--set", 'also=["./my_rewards.py:brief"]', cwd=tmp_path), "brief") == grades(
        second, "brief"
    )
    # The same code elsewhere, named otherwise, is the same run.
    (tmp_path / "deep").mkdir()
    file.rename(tmp_path / "deep" / "other.py")
    assert ok("score", groups, "--set", 'also=["deep/other.py:brief"]', cwd=tmp_path) == second


def test_imports_are_found_wherever_a_statement_may_stand(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "import a\nfrom .b import c\ndef f():\n async def g():\n  import d\nclass K:\n  import e\n"
        "try:\n import f1\nexcept E:\n import f2\nelse:\n import f3\nfinally:\n import f4\n"
        "with x:\n import h\nwhile y:\n import i\nelse:\n import j\nmatch z:\n case 1:\n  import k\n"
        "v = (lambda: 1) if w else 2\n"
    )
    assert set(tree_of(file).imports) == {"a", ".b", ".b.c", *"dehijk", "f1", "f2", "f3", "f4"}
