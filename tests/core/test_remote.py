"""Run folders in a bucket: several machines that share nothing else, killed, raced, cut off and lied to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.storage import s3 as store_module
from stages.core.storage.location import BucketFolder, BucketLocation, locate, public
from stages.core.storage.remote_run import RemoteRun
from stages.core.storage.s3 import Store
from tests.core.test_runner import EXPECTED, ids
from tests.support.cli import COSMO, PATIENCE, ROOT, complaint, cosmo, environment
from tests.support.s3 import KEY_ID, SECRET, Server, serving
from tests.support.toy import PromptReader, ToyConfig, ToyStage

RUNS = "s3://bucket/lab/runs"
PREPARE = ["prepare", "jsonl:prompts.jsonl", "--set", "shard_rows=6"]
FAKE = ["--set", "engine=fake", "--samples", "2", "--set", "shard_groups=6"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def write_prompts(folder: Path) -> None:
    lines = [{"prompt": f"what is {n} plus {n} ?", "answer": str(2 * n), "label": "general"} for n in range(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class Machine:
    """A working folder, a cache of its own, and the bucket."""

    def __init__(self, home: Path, server: Server) -> None:
        (home / "work").mkdir(parents=True)
        write_prompts(home / "work")
        self.home, self.server = home, server
        self.env = {**server.env, "COSMO_CACHE": str(home / "cache"), "COSMO_RUNS": RUNS}

    def cosmo(self, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
        return cosmo(*args, cwd=self.home / "work", **{**self.env, **env})

    def ok(self, *args: object) -> str:
        done = self.cosmo(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *args: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COSMO, *map(str, args)],
            cwd=self.home / "work",
            env=environment(**self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def here(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """This process as a machine."""
    for name, value in {**server.env, "COSMO_CACHE": str(tmp_path / "here")}.items():
        monkeypatch.setenv(name, value)
    return server


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "elsewhere") -> None:
    """This process as another machine."""
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / name))


def toy(runs: str = "s3://bucket/toy", config: ToyConfig | None = None, **options: object) -> Result:
    return run_stage(ToyStage(), config or ToyConfig(), [], options=Options(runs=Path(runs), **options))


def test_three_machines_share_nothing_but_the_bucket(server: Server, tmp_path: Path) -> None:
    a, b, c, d = (Machine(tmp_path / name, server) for name in "abcd")
    prompts = a.ok(*PREPARE)
    groups = b.ok("rollout", prompts, *FAKE)
    scored = c.ok("score", groups)
    assert [u.rsplit("-", 1)[0] for u in (prompts, groups, scored)] == [
        f"{RUNS}/{v}" for v in ("prepare", "rollout", "score")
    ]

    write_prompts(tmp_path)
    local = cosmo(*PREPARE, cwd=tmp_path, **{**a.env, "COSMO_RUNS": "runs"}).stdout.strip()
    local = cosmo("rollout", local, *FAKE, cwd=tmp_path, **{**a.env, "COSMO_RUNS": "runs"}).stdout.strip()
    local = cosmo("score", local, cwd=tmp_path, **{**a.env, "COSMO_RUNS": "runs"}).stdout.strip()
    # The same fingerprint, and the same bytes: every row is equal.
    assert Path(local).name == scored.rsplit("/", 1)[-1]
    for shard in sorted((tmp_path / local / "shards").iterdir()):
        assert server.objects[f"lab/{local}/shards/{shard.name}"].data == shard.read_bytes()
    assert not server.names("/staging/")

    # Cached, on the machine that made it and on one that never saw it; then no shard travels.
    server.requests.clear()
    for machine in (b, d):
        again = machine.cosmo("rollout", prompts, *FAKE, "--json")
        assert json.loads(again.stdout)["state"] == "cached"
        assert json.loads(again.stdout)["path"] == groups
    fetched = {key for verb, key in server.requests if verb == "GET" and key.endswith(".parquet")}
    assert all("/prepare-" in key for key in fetched)
    assert not any(verb in ("PUT", "COPY", "POST", "DELETE") for verb, _ in server.requests)

    e = Machine(tmp_path / "e", server)
    server.requests.clear()
    shown = json.loads(e.ok("show", scored, "-n", "2", "--json"))
    assert len(shown) == 2
    assert sum(key.endswith(".parquet") for _, key in server.requests) == 1
    states = json.loads(e.ok("status", RUNS, "--json"))
    assert [(s["path"], s["state"]) for s in states] == [(u, "complete") for u in (prompts, groups, scored)]

    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 30
    for secret in (KEY_ID.encode(), SECRET.encode()):
        assert not any(secret in p.read_bytes() for p in written)
        assert not any(secret in o.data for o in server.objects.values())
    for machine in "abcde":
        told = [o.data for k, o in server.objects.items() if k.endswith(".json")]
        assert not any(str(tmp_path / machine).encode() in data for data in told)


def test_a_pipe_passes_urls_on(server: Server, tmp_path: Path) -> None:
    a = Machine(tmp_path / "a", server)
    shell = f'cosmo() {{ {" ".join(COSMO)} "$@"; }}\ncosmo {" ".join(PREPARE)} | cosmo rollout {" ".join(FAKE)}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        cwd=a.home / "work",
        env=environment(**a.env),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{RUNS}/rollout-")
    assert done.stdout.count("\n") == 1


def test_two_machines_racing_on_one_shard_commit_once(server: Server, tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)

    def hook(verb: str, key: str) -> str | None:
        if verb == "PUT" and key.endswith("receipts/00001.json"):
            both.wait()
        return None

    server.hook = hook
    racers = [Machine(tmp_path / name, server).start(*PREPARE) for name in "ab"]
    said = [racer.communicate(timeout=PATIENCE) for racer in racers]
    assert [r.returncode for r in racers] == [0, 0], said
    assert said[0][0] == said[1][0]
    run = said[0][0].strip().removeprefix("s3://bucket/")
    assert [k.removeprefix(run) for k in server.names("/shards/")] == ["/shards/00000.parquet", "/shards/00001.parquet"]
    assert not server.names("/staging/")
    # What is there is what the receipt that won says.
    receipt = json.loads(server.objects[f"{run}/receipts/00001.json"].data)
    assert receipt["files"][0]["bytes"] == len(server.objects[f"{run}/shards/00001.parquet"].data)


def killed_at(server: Server, machine: Machine, wanted: str, key_end: str, *command: object) -> None:
    """SIGKILL a command when it is about to do this request, which is never done."""
    reached, gone = threading.Event(), threading.Event()

    def hook(verb: str, key: str) -> str | None:
        if verb == wanted and key.endswith(key_end):
            reached.set()
            gone.wait(PATIENCE)
            return "drop"
        return None

    server.hook = hook
    process = machine.start(*command)
    assert reached.wait(PATIENCE)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone.set()
    server.hook = lambda verb, key: None


def test_sigkill_between_upload_and_receipt(server: Server, tmp_path: Path) -> None:
    a, b = Machine(tmp_path / "a", server), Machine(tmp_path / "b", server)
    killed_at(server, a, "PUT", "receipts/00001.json", *PREPARE)
    run = server.names("manifest.json")[0].removesuffix("/manifest.json")
    assert [k.removeprefix(run) for k in server.names("/shards/")] == ["/shards/00000.parquet"] + [
        k.removeprefix(run) for k in server.names("/staging/")
    ]
    refused = b.cosmo("rollout", f"s3://bucket/{run}", *FAKE)
    assert refused.returncode == 3
    assert "incomplete: 1 of 2 shards" in complaint(refused)[0]
    assert b.ok(*PREPARE) == f"s3://bucket/{run}"
    assert len(server.names("/shards/")) == 2
    assert not server.names("/staging/")
    assert len(json.loads(b.ok("show", f"s3://bucket/{run}", "-n", "50", "--json"))) == 12


@pytest.mark.parametrize("looks", ["reader", "same command", "reader who may not write"])
def test_sigkill_between_receipt_and_final_names(looks: str, server: Server, tmp_path: Path) -> None:
    a, b = Machine(tmp_path / "a", server), Machine(tmp_path / "b", server)
    killed_at(server, a, "COPY", "shards/00001.parquet", *PREPARE)
    run = server.names("manifest.json")[0].removesuffix("/manifest.json")
    assert server.names("receipts/00001.json")
    assert len(server.names(f"{run}/shards/")) == 1
    if looks == "same command":
        done = a.cosmo(*PREPARE)
        assert done.stdout.strip() == f"s3://bucket/{run}"
        assert "cached" in done.stderr
    else:
        if looks == "reader who may not write":
            server.hook = lambda verb, key: None if verb in ("GET", "HEAD") else "refuse"
        rows = json.loads(b.ok("show", f"s3://bucket/{run}", "-n", "50", "--json"))
        assert len(rows) == 12
    # Reading changes nothing, wherever a run lies: only who makes it again moves what is staged.
    finished = looks == "same command"
    assert len(server.names(f"{run}/shards/")) == 1 + finished
    assert bool(server.names("/staging/")) is not finished


def test_an_answer_that_is_lost_does_not_lose_the_commit(here: Server) -> None:
    seen: list[str] = []

    def hook(verb: str, key: str) -> str | None:
        if verb == "PUT" and "/receipts/" in key:
            seen.append(key)
            return "lose" if seen.count(key) == 1 else None
        return None

    here.hook = hook
    result = toy()
    assert (result.state, result.rows) == ("done", 20)
    # Asked a second time, each found the receipt there: its own.
    assert len(seen) == 2 * result.shards
    assert ids(result.path) == EXPECTED
    assert here.names("/shards/") == [f"toy/{result.path.name}/shards/0000{i}.parquet" for i in range(4)]


def test_rejected_rows_artifacts_and_listings_of_many_pages(
    here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.page = 3
    first = toy(worker=(1, 2))
    assert (first.state, first.shards_done) == ("waiting", 2)
    elsewhere(tmp_path, monkeypatch)
    assert toy(worker=(0, 2)).state == "done"
    folder = RunFolder.open(Path(first.where))
    assert [r.reason for r in folder.rejected()].count("odd") == 4
    assert sorted(p.name for p in folder.artifact("notes").iterdir()) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert folder.artifact("notes/3.txt").read_text() == "note"
    assert json.loads(here.objects[f"toy/{first.path.name}/report.json"].data)["rows"] == 20


def test_a_corrupt_object_is_named_and_a_lost_one_is_made_again(
    here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = toy()
    url = public(result.path)
    elsewhere(tmp_path, monkeypatch)
    [key] = here.names("shards/00002.parquet")
    whole = here.objects[key].data
    here.objects[key].data = whole[:-50] + bytes(50)
    with pytest.raises(InputError, match=f"{url}/shards/00002.parquet is corrupt"):
        ids(Path(url))
    assert not list(tmp_path.rglob("elsewhere/**/00002.parquet*"))
    del here.objects[key]
    with pytest.raises(InputError, match=f"{url} is incomplete: 1 of 4 shards"):
        run_stage(PromptReader(), ToyConfig(), [Path(url)], options=Options(runs=tmp_path / "runs"))
    assert toy().state == "done"
    assert ids(Path(url)) == EXPECTED


def test_a_download_goes_on_and_what_is_here_stays(
    here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = public(toy().path)
    [key] = here.names("shards/00000.parquet")
    data = here.objects[key].data
    for name, half in (("good", data[:1000]), ("bad", bytes(1000))):
        elsewhere(tmp_path, monkeypatch, name)
        folder = RunFolder.open(Path(url))
        entry = folder.receipt(0).shard
        (folder.path / "shards").mkdir()
        (folder.path / "shards" / f".00000.parquet.{entry.sha256[:12]}.part").write_bytes(half)
        here.ranges.clear()
        assert ids(Path(url)) == EXPECTED
        asked = [wanted for k, wanted in here.ranges if k == key]
        assert asked == (["bytes=1000-"] if name == "good" else ["bytes=1000-", "bytes=0-"])
        assert (folder.path / "shards" / "00000.parquet").read_bytes() == data
        assert not list(folder.path.rglob("*.part"))
    here.ranges.clear()
    assert ids(Path(url)) == EXPECTED
    assert not any(k.endswith(".parquet") for k, _ in here.ranges)


def test_large_files_go_up_in_parts_and_are_copied_whatever_their_size(
    here: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1 << 20) * 20
    (tmp_path / "large").write_bytes(data)
    store = Store(BucketFolder("bucket", "x"))
    store.upload(tmp_path / "large", "a")
    assert here.objects["x/a"].data == data
    assert sum(verb == "POST" for verb, _ in here.requests) == 2
    monkeypatch.setattr(store_module, "COPY_BYTES", 1 << 20)
    assert store.copy("a", "b", len(data))
    assert here.objects["x/b"].data == data
    assert not any(verb == "COPY" for verb, _ in here.requests)
    assert not store.copy("none", "c", len(data))
    assert store.create("d", b"one")
    assert store.create("d", b"one")
    assert not store.create("d", b"two")


def test_inputs_are_named_so_that_other_machines_find_them(here: Server, tmp_path: Path) -> None:
    made = toy().path
    options = Options(runs=Path("s3://bucket/toy"))
    beside = run_stage(PromptReader(), ToyConfig(), [made], options=options).path
    other = run_stage(PromptReader(), ToyConfig(), [made], options=Options(runs=Path("s3://bucket/more"))).path
    local = run_stage(PromptReader(), ToyConfig(), [made], options=Options(runs=tmp_path / "runs")).path
    up = run_stage(PromptReader(), ToyConfig(), [local], options=options).path
    named = [RunFolder.open(p).manifest.inputs[0].path for p in (beside, other, local, up)]
    assert named == [f"../{made.name}", public(made), public(made), f"../{local.name}"]
    assert locate(made).seen_from(locate(beside)) == f"../{made.name}"
    assert [RunFolder.open(p).upstream()[0].where for p in (beside, other, local)] == [public(made)] * 3


def test_urls_and_mirrors_name_each_other(here: Server) -> None:
    made = toy().path
    assert locate(made) == locate(Path(public(made))) == BucketLocation(BucketFolder("bucket", "toy"), made.name)
    assert public(Path("s3://bucket//toy/x/")) == "s3://bucket/toy/x"
    assert RunFolder.find(Path("s3://bucket/toy/none")) is None
    assert RemoteRun(BucketFolder("bucket", ""), "toy").look()


def test_failures_have_one_line_a_hint_and_no_secret(server: Server, tmp_path: Path) -> None:
    a = Machine(tmp_path / "a", server)
    run, whole = f"{RUNS}/rollout-00000000", a.env
    told = {
        ("no such run folder", 3): {},
        ("no such bucket: s3://bucket", 3): {"AWS_ENDPOINT_URL": server.endpoint, "bucket": "other"},
        ("plain http", 4): {"AWS_ALLOW_HTTP": ""},
        ("the store can't be used", 4): {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        ("Missing SecretAccessKey", 4): {"without": "AWS_SECRET_ACCESS_KEY"},
        ("refused these credentials (403 Forbidden, AccessDenied)", 4): {"hook": "refuse"},
    }
    for (words, code), env in told.items():
        server.bucket = env.pop("bucket", "bucket")
        fate = env.pop("hook", None)
        server.hook = lambda verb, key, fate=fate: fate
        without = env.pop("without", None)
        a.env = {k: v for k, v in whole.items() if k != without}
        done = a.cosmo("score", run, **env)
        said = complaint(done)
        assert done.returncode == code, done.stderr
        assert words in said[0]
        assert SECRET not in done.stderr
        assert KEY_ID not in done.stderr
    server.hook = lambda verb, key: None
    assert a.cosmo("prepare", "builtin", "--runs", "s3://").returncode == 2
    recipe = ROOT / "examples" / "mini_cosmo" / "recipe.toml"
    assert "on one machine" in complaint(a.cosmo("run", recipe, "--runs", RUNS))[0]
