"""Why a run is stale: plan it again with its stored config and compare what would identify it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core.config import build
from stages.core.errors import CosmoError, InputError
from stages.core.runner import identity
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.core.stage_list import load_stage
from stages.core.storage.location import is_url, public


def find_runs(paths: list[Path]) -> list[Path]:
    """Run folders at or below the paths, oldest first; InputError when there is none."""
    found: list[Path] = []
    for path in paths:
        if is_url(path):
            from stages.core.storage.remote_folder import remote_runs

            found += remote_runs(path)
        elif (path / "manifest.json").is_file():
            found.append(path)
        elif path.is_dir():
            found += [m.parent for m in path.rglob("manifest.json")]
    if not found:
        raise InputError(f"no run folder in {', '.join(map(public, paths))}", "run a stage first, or name the folder")
    return sorted(set(found), key=lambda p: ((p / "manifest.json").stat().st_mtime, p))


def inspect_run(path: Path) -> dict[str, Any]:
    """State and reasons of one run folder."""
    try:
        folder = RunFolder.open(path)
        receipts = folder.receipts()
        missing = folder.missing()
    except CosmoError as error:
        return _report(path, "broken", 0, 0, 0, [error.message])
    why = [f"shard {i:05d} is not committed" for i in missing[:5]]
    if len(missing) > 5:
        why.append(f"and {len(missing) - 5} more")
    why += stale_reasons(folder)
    state = "incomplete" if missing else "stale" if why else "complete"
    rows = sum(r["rows"] for r in receipts.values())
    return _report(path, state, folder.total, folder.total - len(missing), rows, why)


def _report(path: Path, state: str, shards: int, done: int, rows: int, why: list[str]) -> dict[str, Any]:
    return {
        "path": public(path),
        "state": state,
        "shards": shards,
        "shards_done": done,
        "rows": rows,
        "why": why,
    }


def stale_reasons(folder: RunFolder) -> list[str]:
    """What is different now from what the run was made of; empty when nothing is."""
    reasons = []
    inputs = []
    for entry in folder.manifest["inputs"]:
        path = folder.input_path(entry)
        try:
            upstream = RunFolder.open(path)
        except CosmoError:
            reasons.append(f"upstream {public(path)} is gone")
            continue
        if upstream.fingerprint != entry["fingerprint"]:
            reasons.append(f"upstream {public(path)} changed: {entry['fingerprint'][:8]} -> {upstream.fingerprint[:8]}")
        inputs.append(upstream)
    if reasons:
        return reasons
    stage = load_stage(folder.stage)
    try:
        config = build(stage.config, folder.config, folder.stage)
        plan = stage.plan(Context(config, inputs, Silent(), Resources()))
    except CosmoError as error:
        return [f"it can't be planned again: {error.message}"]
    now = identity(stage, config, inputs, plan)
    return [*_changes(folder.manifest["key"], now, "")]


def _changes(before: Any, after: Any, where: str) -> list[str]:
    """`plan.digests.data.jsonl: 1f3a -> 77c0`, one line a leaf that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for name in sorted(set(before) | set(after)):
            found += _changes(before.get(name), after.get(name), f"{where}.{name}" if where else name)
        return found
    if before == after:
        return []
    return [f"{where} changed: {_clip(before)} -> {_clip(after)}"]


def _clip(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
