from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import InputError, UnavailableError, UsageError
from stages.core.file_digest import file_sha256
from stages.models.load import load_policy
from stages.models.policy_ref import folder_id, resolve_policy
from stages.models.tiny.build import tiny_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a tiny model's folder."""
    return Path(shutil.copytree(resolve_policy("tiny:llama").path, tmp_path / "copy"))


def test_identity_is_content(folder: Path, tmp_path: Path) -> None:
    ref = resolve_policy("tiny:llama")
    assert resolve_policy(str(folder)).id == ref.id
    assert resolve_policy("tiny:llama@1").id != ref.id
    (folder / "README.md").write_text("a card")
    assert folder_id(folder) == ref.id
    config = folder / "generation_config.json"
    config.write_text(config.read_text().replace("eos_token_id", "eos_token_ids"))
    assert folder_id(folder) != ref.id


def test_who_has_the_digests_leaves_nothing_in_the_cache(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """A training run names its policy while it is still being staged; a cache entry a turn would never be read."""
    wanted, asked = folder_id(folder), []
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "cache"))

    def sha256(path: Path) -> str:
        asked.append(path.name)
        return file_sha256(path)

    assert folder_id(folder, sha256) == wanted
    assert "model.safetensors" in asked
    assert not (tmp_path / "cache").exists()


def test_a_changed_file_of_the_same_size_is_seen(folder: Path) -> None:
    before = folder_id(folder)
    assert folder_id(folder) == before
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert folder_id(folder) != before


def _train_run(path: Path, model: Path, stage: str = "train", names: tuple[str, ...] = ()) -> Path:
    shutil.copytree(model, path / "policy")
    (path / "trainer").mkdir()
    (path / "trainer" / "state.json").write_text("{}")
    (path / "receipts").mkdir()
    (path / "shards").mkdir()
    (path / "shards" / "00000.parquet").write_bytes(b"rows")
    files = [*(path / "policy").iterdir(), path / "trainer" / "state.json", path / "shards" / "00000.parquet"]
    entries = [
        {"path": p.relative_to(path).as_posix(), "bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files
    ]
    receipt = {"index": 0, "staging": "staging/0", "files": entries, "rows": 1, "rejected": {}, "seconds": 1.0}
    (path / "receipts" / "00000.json").write_text(json.dumps(receipt))
    manifest = {"stage": stage, "fingerprint": "f" * 64, "table": "steps", "shards": [{}], "inputs": []}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_a_train_run_is_the_policy_that_its_receipts_name(folder: Path, tmp_path: Path) -> None:
    run = _train_run(tmp_path / "train-1", folder)
    ref = resolve_policy(str(run))
    assert ref.id == folder_id(folder)
    assert (ref.path, ref.run, ref.name) == (run / "policy", run, "train-1")
    inside = resolve_policy(str(run / "policy"))
    assert (inside.id, inside.run) == (ref.id, run)


def test_runs_that_hold_no_policy(folder: Path, tmp_path: Path) -> None:
    run = _train_run(tmp_path / "train-1", folder)
    before = resolve_policy(str(run))
    shutil.rmtree(run / "policy")
    # Retention removes weights; what was made with them must still be found by the policy's name.
    assert resolve_policy(str(run)) == before
    with pytest.raises(UnavailableError, match="is not there any more"):
        load_policy(before)
    (run / "receipts" / "00000.json").unlink()
    with pytest.raises(InputError, match="no finished policy"):
        resolve_policy(str(run))
    other = _train_run(tmp_path / "score-1", folder, stage="score")
    with pytest.raises(InputError, match="is a score run"):
        resolve_policy(str(other))


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("", UsageError, "no policy"),
        ("tiny:quen2_5_vl", UsageError, "unknown backbone 'quen2_5_vl'"),
        ("tiny:llama@x", UsageError, "'x' is not a number"),
        ("./nowhere/at/all", UnavailableError, "no such model"),
        ("nobody/nothing-7b", UnavailableError, "no such model: nobody/nothing-7b"),
    ],
)
def test_what_is_not_there_is_said_without_asking_around(
    spec: str, error: type[Exception], words: str, connections: list[object]
) -> None:
    with pytest.raises(error, match=words) as caught:
        resolve_policy(spec)
    assert caught.value.hint  # type: ignore[attr-defined]
    assert connections == []


def test_folders_that_are_no_models(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no config\.json"):
        resolve_policy(str(tmp_path))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnavailableError, match="no safetensors"):
        resolve_policy(str(folder))
    with pytest.raises(UnavailableError, match="is a file"):
        resolve_policy(str(folder / "config.json"))


def test_resolving_loads_no_torch_even_when_it_builds(tmp_path: Path, root: Path) -> None:
    code = (
        "import sys; from stages.models.policy_ref import resolve_policy; r = resolve_policy('tiny:llama@9');"
        "print(r.id, sorted(m for m in ('torch', 'transformers', 'pyarrow') if m in sys.modules))"
    )
    # Two at once, into an empty cache: both must come back with the same whole folder.
    env = {**os.environ, "COSMO_CACHE": str(tmp_path / "cache")}
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0].strip() for process in both]
    assert said[0] == said[1]
    assert said[0].endswith("[]")
    assert len(list((tmp_path / "cache" / "tiny").iterdir())) == 1


def test_a_cache_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UnavailableError, match="can't write to the cache") as caught:
        tiny_folder("llama", 0)
    assert "COSMO_CACHE" in caught.value.hint

    usual = Path.is_dir

    def refused(path: Path) -> bool:
        if path.name.startswith("llama-"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path)

    # As of another user's cache.
    with monkeypatch.context() as theirs:
        theirs.setattr(Path, "is_dir", refused)
        with pytest.raises(UnavailableError, match="can't write to the cache"):
            tiny_folder("llama", 0)
    # A model that needs no building is found all the same, only without remembered digests.
    monkeypatch.delenv("COSMO_CACHE")
    path = resolve_policy("tiny:llama").path
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "file" / "cache"))
    assert len(folder_id(path)) == 16


_REVISION = "1234567890abcdef" * 2 + "12345678"


def _hub_cache(root: Path, folder: Path, weights_blob: str | None = None) -> Path:
    """A hub cache that holds the folder as `org/tiny`, laid out as huggingface_hub does."""
    repo = root / "models--org--tiny"
    snapshot = repo / "snapshots" / _REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(_REVISION)
    for number, path in enumerate(sorted(folder.iterdir())):
        large = path.suffix == ".safetensors"
        blob = repo / "blobs" / (weights_blob or file_sha256(path) if large else f"{number:040x}")
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_a_downloaded_hub_model_is_found_without_a_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = _hub_cache(tmp_path / "hub", folder)
    ref = resolve_policy("org/tiny")
    assert (ref.id, ref.path.resolve(), ref.name) == (folder_id(folder), snapshot.resolve(), "tiny")
    assert resolve_policy(f"org/tiny@{_REVISION}").id == ref.id
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(UnavailableError, match="no such model: org/tiny"):
        resolve_policy("org/tiny")


def test_the_hub_names_large_files_by_their_sha256(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    # The name is believed, so gigabytes are not hashed again: another name is another policy.
    _hub_cache(tmp_path / "hub", folder, weights_blob="0" * 64)
    assert resolve_policy("org/tiny").id != folder_id(folder)
