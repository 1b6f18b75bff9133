"""Why a run is stale: plan it again with its stored config and compare what would identify it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stages.core.config import build
from stages.core.errors import CosmoError
from stages.core.plugins.outside import ForeignCodeError, no_named_code
from stages.core.runner import identity
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, Resources, Silent
from stages.core.stage_list import STAGES, load_stage
from stages.core.storage.location import is_url, public

ABSENT = "not set"
"""In place of a value that one side does not have: of a setting, that it is at its default."""


class Survey:
    """Many runs looked at together: what one look needs and another has read already is read once."""

    def __init__(self, run_code: bool = False) -> None:
        self._run_code = run_code
        self._opened: dict[str, RunFolder | CosmoError] = {}
        # Planning keeps the index of an input's prompts and the records of a source in here, so a hundred rollouts of
        # one prompt set read it once. It is the planner's own cache: nothing that identifies a run can come from it.
        self._resources = Resources()
        self._configs: dict[str, dict[str, Any]] = {}

    def config(self, folder: RunFolder) -> dict[str, Any]:
        """The config that a run was made with, read once."""
        if folder.fingerprint not in self._configs:
            self._configs[folder.fingerprint] = folder.config
        return self._configs[folder.fingerprint]

    def open(self, path: Path) -> RunFolder:
        """The run at a path, as it was when this survey first looked; InputError when there is none."""
        key = str(path) if is_url(path) else os.path.abspath(path)
        if key not in self._opened:
            try:
                self._opened[key] = folder = RunFolder.open(path)
                folder.files.one_look = True
            except CosmoError as error:
                self._opened[key] = error
        found = self._opened[key]
        if isinstance(found, CosmoError):
            raise found
        return found

    def stale_reasons(self, folder: RunFolder) -> list[str]:
        """What is different now from what the run was made of; empty when nothing is.

        ForeignCodeError where only running code that its config names could tell.
        """
        reasons = []
        inputs = []
        for entry in folder.manifest.inputs:
            path = folder.input_path(entry)
            try:
                upstream = self.open(path)
            except CosmoError:
                reasons.append(f"upstream {public(path)} is gone")
                continue
            if upstream.fingerprint != entry.fingerprint:
                change = f"{entry.fingerprint[:8]} -> {upstream.fingerprint[:8]}"
                reasons.append(f"upstream {public(path)} changed: {change}")
            inputs.append(upstream)
        # Planning again needs its inputs as they were, so one reason is enough.
        if reasons or folder.stage == "files":
            return reasons
        if folder.stage not in STAGES:
            return [f"this version of cosmo has no stage {folder.stage!r}"]
        stage = load_stage(folder.stage)
        try:
            config = build(stage.config, self.config(folder), folder.stage)
            # A config in a run folder is whoever's made it, and to plan is to load its plugins.
            with nullcontext() if self._run_code else no_named_code(public(folder.path)):
                plan = stage.plan(Context(config, inputs, Silent(), self._resources, before=_planned(folder)))
        # A CosmoError as well, and the only one that is no reason: whoever asks has to decide on it.
        except ForeignCodeError:
            raise
        except CosmoError as error:
            return [f"it can't be planned again: {error.message}"]
        before, now = folder.manifest.key, identity(stage, config, inputs, plan)
        if before.get("version") != now["version"]:
            # What else differs is what the other version makes of the same settings, and would only hide this.
            return [f"made by version {before.get('version')} of cosmo {folder.stage}; this is {now['version']}"]
        return list(changes(before, now))


def _planned(folder: RunFolder) -> Plan:
    """Its plan, as far as its manifest has it; whoever made it may have put anything there."""
    key = folder.manifest.key.get("plan")
    return Plan(folder.manifest.shards, key if isinstance(key, dict) else {})


def changes(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """`plan.digests.data.jsonl changed: 1f3a -> 77c0`, one line a leaf of two nested dicts that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(set(before) | set(after)):
            yield from changes(before.get(name, ABSENT), after.get(name, ABSENT), f"{where}.{name}" if where else name)
    elif before != after:
        yield f"{where} changed: {_clip(before)} -> {_clip(after)}"


def _clip(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
