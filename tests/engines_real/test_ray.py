"""--executor ray on a real local cluster: the command as it is typed, and workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import PROMPTS
from stages.core.errors import CosmoError
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from tests.core.test_runner import EXPECTED, ids
from tests.engines_real.ray_toys import MortalConfig, MortalToy
from tests.support.cli import COSMO, PATIENCE, ROOT, complaint, cosmo, environment, ok
from tests.support.forked import cosmo_forked
from tests.support.varied import NAME

PREPARE = ["prepare", "builtin", "--limit", "12", "--set", "shard_rows=3"]
SAMPLED = ["--policy", "tiny:qwen2_5_vl", "--samples", "2", "--max-new-tokens", "24", "--set", "shard_groups=3"]
RAY = ["--executor", "ray", "--set", "executor.workers=2"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ok(*PREPARE, cwd=tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster in this process for the toys; the commands below start their own."""
    import ray

    place = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
    del os.environ["PYTHONPATH"]
    if place is not None:
        os.environ["PYTHONPATH"] = place


class Told:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.count, self.units, self.messages = 0, list[str](), list[str]()
        self.numbers: dict[str, Any] = {}

    def start(self, what: str, total: int | None, unit: str) -> None:
        self.units.append(unit)

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.count += n
        self.numbers.update(numbers)

    def log(self, message: str) -> None:
        self.messages.append(message)


def toys(tmp_path: Path, told: Told | None = None, **values: Any) -> Result:
    (tmp_path / "diary").mkdir(exist_ok=True)
    config = MortalConfig(diary=str(tmp_path / "diary"), **values)
    options = Options(runs=tmp_path / "runs", executor="ray", executor_settings={"workers": 2})
    return run_stage(MortalToy(), config, [], options=options, progress=told or Told())


def workers_in(place: Path, doing: str = "ray::Worker") -> list[int]:
    """Our workers whose folder that is: they go where the command was typed. (Ray's own agents end when they like.)"""
    found = []
    for process in Path("/proc").iterdir():
        try:
            title = (process / "cmdline").read_bytes().decode(errors="replace")
            if title.startswith(doing) and (process / "cwd").resolve() == place.resolve():
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return found


def at_work(command: list[str], place: Path) -> tuple[subprocess.Popen[str], int]:
    """The command, and one of its workers that has just begun with a shard."""
    process = subprocess.Popen(
        [*COSMO, *command],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None:
        if busy := workers_in(place, "ray::Worker.do"):
            return process, busy[0]
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def shards_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((path / "shards").iterdir())}


def test_a_killed_workers_shard_is_done_once_by_another(prompts: Path, tmp_path: Path) -> None:
    """Bit for bit the files of a local run, and one line on stdout."""
    process, worker = at_work(["rollout", str(prompts), *SAMPLED, *RAY], tmp_path)
    os.kill(worker, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    path = tmp_path / stdout.removesuffix("\n")
    assert stdout == f"runs/{path.name}\n"
    lines = stderr.splitlines()
    assert [line for line in lines if "a worker was lost with shard 0000" in line], stderr
    assert all(line.startswith("rollout: ") for line in lines), stderr
    folder = RunFolder.open(path)
    assert sorted(folder.receipts()) == [0, 1, 2, 3]
    assert sum(r.rows for r in folder.receipts().values()) == 12
    assert not list((path / "staging").iterdir())
    local = cosmo_forked("rollout", prompts, *SAMPLED, "--runs", tmp_path / "local", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    assert Path(local.stdout.strip()).name == path.name
    assert shards_of(tmp_path / local.stdout.strip()) == shards_of(path)
    assert workers_in(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=lambda v: str(v)
)
def test_no_worker_outlives_the_command(number: int, code: int, prompts: Path, tmp_path: Path) -> None:
    process, _ = at_work(["rollout", str(prompts), *SAMPLED, *RAY], tmp_path)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (code, "")
    assert "Traceback" not in stderr
    end = time.monotonic() + PATIENCE
    while workers_in(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers_in(tmp_path) == []


def test_an_error_of_the_stage_is_the_same_line_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "1", "label": "astrology", "prompt": "say hi", "answer": "hi"}\n')
    rows = ok("prepare", "jsonl:d.jsonl", cwd=tmp_path)
    strange = ok("rollout", rows, "--engine", "fake", cwd=tmp_path)
    here = cosmo("score", strange, "--runs", tmp_path / "here", cwd=tmp_path)
    there = cosmo("score", strange, *RAY, cwd=tmp_path)
    assert (here.returncode, there.returncode) == (3, 3)
    assert complaint(there) == complaint(here)
    assert "astrology" in complaint(there)[0]


RECIPE = f"""
score = {{ rewards = {{ general = {{ terms = {{ "{NAME}" = 1.0 }} }} }} }}
name = "small"
policy = "tiny:qwen2_5_vl"
[[prepare.sources]]
name = "builtin"
train = 24
[rollout]
samples = 2
max_new_tokens = 8
shard_groups = 2
[[phases]]
name = "turn"
iterations = 2
prompts = 4
"""


def test_a_recipe_hands_its_shards_out_and_trains_here(tmp_path: Path) -> None:
    """Both turns' rollouts are the workers'; all folders are those of a run on one machine."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    there = cosmo("run", "recipe.toml", "--runs", "there", *RAY, cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    assert there.stdout == "there\n"
    here = cosmo_forked("run", "recipe.toml", "--runs", "here", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    made = {p.name: RunFolder.open(p) for p in (tmp_path / "there").iterdir() if (p / "manifest.json").is_file()}
    assert Counter(f.stage for f in made.values()) == {"prepare": 1, "rollout": 2, "score": 2, "train": 2, "export": 1}
    for name, folder in made.items():
        if folder.stage in ("rollout", "score"):
            assert shards_of(folder.path) == shards_of(tmp_path / "here" / name)


def test_no_cluster_at_an_address_is_unavailable(tmp_path: Path) -> None:
    done = cosmo(*PREPARE, "--executor", "ray", "--set", "executor.address=auto", cwd=tmp_path)
    assert done.returncode == 4
    assert "can't reach the Ray cluster at 'auto'" in complaint(done)[0]
    done = cosmo(*PREPARE, *RAY[:2], "--set", "executor.gpus=1000", cwd=tmp_path)
    assert done.returncode == 4
    assert "no machine of the Ray cluster has room for a worker of 1 CPUs and 1000 GPUs" in complaint(done)[0]


@pytest.mark.usefixtures("cluster")
def test_a_stage_is_opened_once_a_worker_and_all_is_told(tmp_path: Path) -> None:
    told = Told()
    result = toys(tmp_path, told, shards=12, kill_at=3)
    assert result.state == "done"
    assert ids(result.path)[:20] == EXPECTED
    assert len(list(RunFolder.open(result.path).rows(PROMPTS))) == 60
    # Shard 0 carries what the plan had left out; the lost worker's rows are counted once.
    assert result.rejected == {"odd": 12, "duplicate": 1}
    assert told.count == 60
    assert told.units == ["rows"]
    assert told.numbers["shards"].endswith("/12")
    # Two workers and one in place of the dead, for twelve shards; the first may be done before the second is up.
    opened = len(list((tmp_path / "diary").glob("open-*")))
    assert opened in (2, 3)
    assert len([m for m in told.messages if m.startswith("opened with")]) == opened
    assert "a worker was lost with shard 00003 (its process ended): another does it" in told.messages
    assert toys(tmp_path, shards=12).state == "cached"


@pytest.mark.usefixtures("cluster")
def test_a_shard_that_kills_each_worker_ends_the_run_and_keeps_the_rest(tmp_path: Path) -> None:
    with pytest.raises(CosmoError, match=r"shard 00001 of .* ended 3 workers: its process ended"):
        toys(tmp_path, kill_at=1, lives=9)
    assert len(list((tmp_path / "diary").glob("death-*"))) == 3
    [path] = (tmp_path / "runs").iterdir()
    assert 1 in RunFolder.open(path).missing()
    assert ids(toys(tmp_path).path) == EXPECTED


@pytest.mark.usefixtures("cluster")
def test_a_bug_comes_back_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="asked to fail") as caught:
        toys(tmp_path, fail_at=2)
    assert any("tests/support/toy.py" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_runs_already_is_used_and_left_running(tmp_path: Path) -> None:
    """Its workers were started elsewhere; relative paths are those of the command."""
    import ray

    address = ray.get_runtime_context().gcs_address
    (tmp_path / "d.jsonl").write_text('{"id": "1", "label": "general", "prompt": "say hi", "answer": "hi"}\n')
    done = cosmo("prepare", "jsonl:d.jsonl", "--executor", "ray", cwd=tmp_path, RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    assert [r.label for r in RunFolder.open(tmp_path / done.stdout.strip()).rows(PROMPTS)] == ["general"]
    assert ray.cluster_resources()["CPU"] == 2


@pytest.mark.usefixtures("cluster")
def test_a_worker_part_and_a_process_beside_it(tmp_path: Path) -> None:
    """--worker narrows what the cluster does; two commands on one plan share it."""
    diary = str(tmp_path)
    options = Options(runs=tmp_path / "runs", worker=(1, 2), executor="ray", executor_settings={"workers": 1})
    part = run_stage(MortalToy(), MortalConfig(diary=diary), [], options=options)
    assert (part.state, sorted(RunFolder.open(part.path).receipts())) == ("waiting", [1, 3])
    whole = run_stage(MortalToy(), MortalConfig(diary=diary), [], options=Options(runs=tmp_path / "runs"))
    assert ids(whole.path) == EXPECTED
