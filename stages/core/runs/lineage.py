"""Walking back from runs to everything they were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder


def earliest_first(folders: Iterable[RunFolder], parents: Callable[[RunFolder], list[RunFolder]]) -> list[RunFolder]:
    """The folders and all their ancestors, each once, a parent before its children."""
    found: list[RunFolder] = []
    seen: set[str] = set()
    # A stack of our own: a loop of hundreds of iterations is deeper than Python's.
    stack = [(folder, False) for folder in reversed(list(folders))]
    while stack:
        folder, ready = stack.pop()
        if ready:
            found.append(folder)
        elif folder.fingerprint not in seen:
            seen.add(folder.fingerprint)
            stack.append((folder, True))
            stack += [(parent, False) for parent in reversed(parents(folder))]
    return found


def policy_places(folder: RunFolder) -> list[Path]:
    """Where the run may lie that trained the policy `folder` sampled with or began with; none where no run did.

    A policy's place is kept as it was typed, perhaps from another folder: then it is found beside the run that used it.
    """
    spec = str(folder.manifest.provenance.get("policy") or "")
    if not spec and folder.stage in ("train", "rollout"):
        # Their plan says it; without one, what was asked for.
        spec = str(folder.config.get("policy") or "")
    if spec in ("", "none") or spec.startswith("tiny:"):
        return []
    typed = Path(spec.rstrip("/").removesuffix("/policy")).expanduser()
    return [typed, folder.path.parent / typed.name]


def policy_run(folder: RunFolder) -> RunFolder | None:
    """The training run that made its policy; None where no run did, or it is not there any more."""
    from stages.core.runs.folder import RunFolder

    return next((run for path in policy_places(folder) if (run := RunFolder.find(path)) is not None), None)
