"""Start-up: help is quick and loads nothing heavy; names and texts are in step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cosmo_cli.app import commands
from stages.core.registry import KINDS, load, names, summary
from tests.support.cli import cosmo, environment, on_terminal

HEAVY = ("torch", "transformers", "trl", "pyarrow", "datasets", "PIL", "numpy", "jinja2", "vllm", "ray")
PROBE = """
import sys
from cosmo_cli.app import main
code = main(sys.argv[1:])
print([m for m in {heavy} if m in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("verb", ["", *commands()])
def test_help_loads_nothing_heavy(verb: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE.format(heavy=HEAVY), *([verb] if verb else []), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout
    if verb:
        assert commands()[verb][1].split(".")[0] in " ".join(done.stdout.split())


def test_help_lists_every_command_in_order(tmp_path: Path) -> None:
    text = cosmo("--help", cwd=tmp_path).stdout
    places = [text.index(f" {verb} ") for verb in commands()]
    assert places == sorted(places)


def test_version_and_no_arguments(tmp_path: Path) -> None:
    assert cosmo("--version", cwd=tmp_path).stdout.startswith("cosmo 0.")
    done = cosmo(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == cosmo("--help", cwd=tmp_path).stdout


def test_list_fits_a_terminal_without_breaking_words_and_is_whole_in_a_pipe(tmp_path: Path) -> None:
    lines = on_terminal("list", cwd=tmp_path, columns=80)
    assert max(map(len, lines)) <= 80
    assert lines[0] == "dataset"
    assert set(KINDS) <= set(lines)
    words = {word for kind in KINDS for name in names(kind) for word in summary(kind, name).split()}
    assert words <= set(" ".join(lines).split())
    piped = cosmo("list", "verifier", cwd=tmp_path).stdout.splitlines()
    expected = [["verifier", name, summary("verifier", name)] for name in names("verifier")]
    assert [line.split(maxsplit=2) for line in piped] == expected


def test_list_names_every_plugin_without_loading_it(tmp_path: Path) -> None:
    listed = json.loads(cosmo("list", "--json", cwd=tmp_path).stdout)
    assert listed.keys() == {*KINDS, "benchmark"}
    assert {"builtin", "jsonl", "parquet", "hf", "math_v", "gsm8k", "figstep", "xstest"} <= listed["dataset"].keys()
    assert {
        "format",
        "answer",
        "safety",
        "refusal",
        "helpful",
        "value",
        "knowledge",
        "instruction",
    } <= listed["verifier"].keys()
    assert {"cpgd", "grpo"} <= listed["loss"].keys()
    assert {"transformers", "fake"} <= listed["engine"].keys()
    assert {"qwen2_5_vl", "internvl", "llama"} <= listed["backbone"].keys()


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in names(k)])
def test_every_plugin_loads_and_says_what_it_is(kind: str, name: str) -> None:
    assert load(kind, name) is not None
    text = summary(kind, name)
    assert 10 < len(text) < 140
    assert text.endswith((".", ")"))


def test_another_package_of_the_same_name_is_said(tmp_path: Path) -> None:
    """`stages` and `schemas` are general names: being shadowed is named, not a mystery."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("")
    code = "import sys; sys.path.insert(0, '.'); from cosmo_cli.app import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert "shadows" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="resident sizes are read from /proc")
def test_freed_memory_is_kept_within_a_turn_and_given_back_after_it(tmp_path: Path) -> None:
    """60 MB of small blocks are freed below one that stays: only a trim can give them back."""
    code = """
import json
from cosmo_cli.process import give_back_memory, set_up_process
set_up_process()
pages = lambda: int(open("/proc/self/statm").read().split()[1])
sizes = [pages()]
blocks = [bytearray(100_000) for _ in range(600)]
last = bytearray(b"x" * 100_000)
sizes.append(pages())
del blocks
sizes.append(pages())
give_back_memory()
sizes.append(pages())
assert last == b"x" * 100_000
print(json.dumps(sizes))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    start, full, freed, trimmed = json.loads(done.stdout)
    taken = full - start
    assert freed - start > 0.9 * taken
    assert trimmed - start < 0.2 * taken


def test_what_refers_to_itself_is_freed_after_a_turn_and_old_objects_are_looked_at_once(tmp_path: Path) -> None:
    """By itself Python would collect no such object while many more are old; trainers leave one a turn."""
    code = """
import gc, json, weakref
from cosmo_cli.process import give_back_memory
class Trainer:
    def __init__(self):
        self.itself = self
alive = []
def turn():
    alive.append(weakref.ref(Trainer()))
    give_back_memory()
turn()
frozen = gc.get_freeze_count()
turn()
print(json.dumps([[ref() is None for ref in alive], frozen > 1000, gc.get_freeze_count() <= frozen]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert json.loads(done.stdout) == [[True, True], True, True]
