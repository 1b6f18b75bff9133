"""What is cached_plan between runs only saves time."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import pytest

from stages.core.stage import Plan
from stages.prepare.plan_cache import cached_plan
from stages.reading import files
from tests.prepare.made import prepare, write_lines


def plan(n: int) -> Plan:
    return Plan([{"index": [n]}], {"k": n}, [], {"notes": []})


def test_a_plan_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path))
    assert cached_plan({"a": 1}, lambda: plan(1)) == plan(1)
    assert cached_plan({"a": 1}, lambda: plan(2)) == plan(1)
    assert cached_plan({"a": 2}, lambda: plan(2)) == plan(2)


@pytest.mark.parametrize("was_on", [True, False])
def test_no_cycles_are_looked_for_while_a_plan_is_made(was_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def fails() -> Plan:
        seen.append(gc.isenabled())
        raise ValueError

    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(ValueError):
            cached_plan({"new": was_on}, fails)
        assert (seen, gc.isenabled()) == ([False], was_on)
    finally:
        gc.enable()


@pytest.mark.parametrize("damage", [b"", b"junk", b"\x1f\x8b\x08\x00" * 9])
def test_a_damaged_memory_is_made_again(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path))
    cached_plan({"a": 1}, lambda: plan(1))
    (note,) = (tmp_path / "plans").iterdir()
    note.write_bytes(damage)
    assert cached_plan({"a": 1}, lambda: plan(2)) == plan(2)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "file"))
    source = write_lines(tmp_path / "a.jsonl", {"prompt": "one ?"})
    assert len(prepare(tmp_path / "runs", f"jsonl:{source}").rows) == 1


def test_digests_of_large_files_follow_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_REMEMBER_BYTES", 1)
    monkeypatch.setattr(files, "_known", {})
    path = tmp_path / "large"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        wanted = hashlib.sha256(content).hexdigest()
        assert files.sha256(path) == wanted
        files._known.clear()
        assert files.sha256(path) == wanted
    assert len(list((tmp_path / "cache" / "files").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"\xff", b"0" * 63, b"0" * 65, b"g" * 64, b"0" * 64 + b"\n", None])
def test_a_damaged_note_of_a_digest_decides_nothing(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss leaves an empty note; it gave a file the digest "" and every run of it another name."""
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_REMEMBER_BYTES", 1)
    monkeypatch.setattr(files, "_known", {})
    path = tmp_path / "large"
    path.write_bytes(b"content")
    wanted = hashlib.sha256(b"content").hexdigest()
    assert files.sha256(path) == wanted
    [note] = (tmp_path / "cache" / "files").iterdir()
    if damage is None:
        note.unlink()
        note.mkdir()
    else:
        note.write_bytes(damage)
    files._known.clear()
    assert files.sha256(path) == wanted
    # And it is mended where it can be.
    assert damage is None or note.read_text() == wanted
