"""From a wheel, with no source tree: a verifier in a file beside the work, a dataset and a metric by entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import COSMO, ROOT

TOY = {
    "pyproject.toml": (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "riddle-pack"\nversion = "0.3"\n'
        '[project.entry-points."cosmo.datasets"]\nriddles = "riddle_pack.data:riddles"\n'
        '[project.entry-points."cosmo.metrics"]\nloud = "riddle_pack.metrics:loud"\n'
        'broken = "riddle_pack.broken:metric"\n'
    ),
    "riddle_pack/__init__.py": "",
    "riddle_pack/data.py": (
        'def riddles():\n    """Riddles with numbers."""\n    for n in range(6):\n'
        '        yield {"prompt": f"what comes after {n} ?", "answer": n + 1, "split": "train"}\n'
    ),
    "riddle_pack/metrics.py": (
        'def loud(completion) -> bool:\n    """Loud completions."""\n    return completion.text.isupper()\n'
    ),
    "riddle_pack/broken.py": "import no_such_package_of_anybody\n",
}
REWARDS = (
    "def accuracy(prompt, completion, answer, **row):\n    return len(completion) <= {limit} and answer is not None\n"
)


def pip(*args: object) -> None:
    """Quiet pip without an index: nothing is fetched, and the backend is the setuptools that is installed."""
    command = [sys.executable, "-m", "pip", *map(str, args), "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cosmo and the toy package installed from their wheels."""
    work = tmp_path_factory.mktemp("wheel")
    source, toy = work / "source", work / "toy"
    source.mkdir()
    # From a copy: building leaves files beside the sources, and must take none that git does not have.
    for name in ("cosmo_cli", "stages", "schemas"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name, text in TOY.items():
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text(text, encoding="utf-8")
    pip("wheel", "--no-build-isolation", "--wheel-dir", work / "wheels", source, toy)
    wheels = sorted((work / "wheels").glob("*.whl"))
    assert [w.name.partition("-")[0] for w in wheels] == ["cosmo_rl", "riddle_pack"]
    pip("install", "--no-compile", "--target", work / "site", *wheels)
    shutil.rmtree(source)
    shutil.rmtree(toy)
    return work / "site"


class Cosmo:
    """The installed command in an empty working folder."""

    def __init__(self, site: Path, cwd: Path) -> None:
        self.cwd = cwd
        self.env = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"}

    def __call__(self, *args: object) -> subprocess.CompletedProcess[str]:
        """`cosmo ARGS`, which must succeed."""
        done = subprocess.run(
            [*COSMO, *map(str, args)],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def cosmo(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Cosmo:
    return Cosmo(site, tmp_path_factory.mktemp("cwd"))


def test_the_wheel_has_all_that_it_needs(site: Path, cosmo: Cosmo) -> None:
    code = "import cosmo_cli, stages; print(cosmo_cli.__path__[0], stages.__path__[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=cosmo.cwd, env=cosmo.env, capture_output=True, text=True)
    assert done.stdout.split() == [str(site / "cosmo_cli"), str(site / "stages")]
    # What is not Python, too: every data file that the sources have.
    data = {".toml", ".html", ".css", ".js", ".jinja", ".json", ".md", ".txt"}
    for package in ("cosmo_cli", "stages", "schemas"):
        needed = {p.relative_to(ROOT) for p in (ROOT / package).rglob("*") if p.suffix in data}
        assert {p for p in needed if not (site / p).is_file()} == set()


def test_the_list_names_the_package_and_lives_with_its_broken_plugin(cosmo: Cosmo) -> None:
    listed = json.loads(cosmo("list", "--json").stdout)
    assert listed["dataset"]["riddles"] == "Riddles with numbers. [riddle-pack 0.3]"
    assert "no_such_package_of_anybody" in listed["metric"]["broken"]
    assert "broken.py line 1" in listed["metric"]["broken"]
    assert "capability" in listed["metric"]


def test_outside_plugins_through_the_chain_edited_and_regraded(cosmo: Cosmo) -> None:
    rewards = cosmo.cwd / "my_rewards.py"
    rewards.write_text(REWARDS.format(limit=3))
    prompts = cosmo("prepare", "riddles").stdout.strip()
    groups = cosmo("rollout", prompts, "--engine", "fake", "--samples", 4).stdout.strip()
    asked = ("score", groups, "--set", 'rewards.general.terms={"./my_rewards.py:accuracy" = 1.0}')
    first = cosmo(*asked)
    assert "running code of ./my_rewards.py" in first.stderr
    assert "(cached)" in cosmo(*asked).stderr
    scored = first.stdout.strip()
    metrics = 'metrics=["reward", "loud"]'
    measured = cosmo("eval", scored, "--set", metrics).stdout.strip()
    found = json.loads((cosmo.cwd / measured / "summary.json").read_text())
    assert "loud" in json.dumps(found)
    assert (cosmo.cwd / measured / "report.html").read_text().count("Loud completions") > 0

    rewards.write_text(REWARDS.format(limit=300))
    second = cosmo(*asked)
    assert "(cached)" not in second.stderr
    again = second.stdout.strip()
    assert again != scored
    assert {value for value in values(cosmo, again) if value is not None} == {1.0}
    assert {value for value in values(cosmo, scored) if value is not None} == {0.0, 1.0}


def values(cosmo: Cosmo, folder: str) -> list[float | None]:
    """The grades of `accuracy` in a scored run."""
    rows = json.loads(cosmo("show", folder, "--json").stdout)
    return [g["value"] for row in rows for c in row["completions"] for g in c["grades"] if g["name"] == "accuracy"]


def test_what_they_scored_trains(cosmo: Cosmo) -> None:
    (cosmo.cwd / "my_rewards.py").write_text(
        "def spread(completions, **columns):\n    return [float(len(text) % 5) for text in completions]\n"
    )
    groups = cosmo(
        "rollout", cosmo("prepare", "riddles").stdout.strip(), "--policy", "tiny:llama",
        "--samples", 4, "--max-new-tokens", 6,
    ).stdout.strip()  # fmt: skip
    scored = cosmo("score", groups, "--set", 'rewards.general.terms={"./my_rewards.py:spread" = 1.0}').stdout.strip()
    trained = cosmo("train", scored, "--policy", "tiny:llama", "--updates", 1).stdout.strip()
    assert (cosmo.cwd / trained / "policy" / "config.json").is_file()
