"""What `cosmo status` says of each run: its state and why, what it is made of, and where it comes from."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cosmo_cli.staleness import Survey
from stages.core.errors import CosmoError, InputError, first_line
from stages.core.plugins.outside import ForeignCodeError
from stages.core.runner import saved_quality
from stages.core.runs.folder import RunFolder
from stages.core.runs.lineage import earliest_first, policy_places
from stages.core.storage.location import is_url, public

SHARDS_NAMED = 5
"""Missing shards that are named one by one; of more only the number is said."""


@dataclass(slots=True)
class RunReport:
    """One run, for a person or as JSON."""

    path: str
    state: str
    """complete, incomplete, stale or broken."""
    why: list[str] = field(default_factory=list)
    """What is missing, has changed or can't be read; empty for a complete run."""
    name: str = ""
    """What its maker called it (`--name`)."""
    stage: str = ""
    model: str = ""
    """The model that sampled or was trained, traced back to the one that no run here trained."""
    data: list[str] = field(default_factory=list)
    """The sources of the prompts it goes back to."""
    parents: list[str] = field(default_factory=list)
    """Paths of the runs it was made from: inputs, then the policy."""
    date: str = ""
    """When its plan was written, in local time; empty for a run in a bucket."""
    rows: int = 0
    size: int = 0
    """Bytes of what it committed, rows, weights and pages."""
    figures: str = ""
    """What it came to, as its closing line says; empty for one without a report."""
    shards: int = 0
    shards_done: int = 0
    fingerprint: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


def reports(paths: list[Path], run_code: bool = False) -> list[RunReport]:
    """A report for each run at or below the paths, parents before what was made from them, else the oldest first.

    InputError when there is no run. One that can't be read is a report like the others, with its reason. `run_code`:
    plan those again, too, whose config names code by its place.
    """
    survey = Survey(run_code)
    origins = Origins(survey)
    found = [_report(path, survey, origins) for path in find_runs(paths)]
    return list(_by_lineage(found))


def find_runs(paths: list[Path]) -> list[Path]:
    """Run folders at or below the paths; InputError when there is none."""
    found: set[Path] = set()
    for path in paths:
        if is_url(path):
            from stages.core.storage.remote_files import remote_runs

            found.update(Path(str(location)) for location in remote_runs(path))
        else:
            found.update(_below(path))
    if not found:
        where = ", ".join(map(public, paths))
        raise InputError(f"no run folder in {where}", "run a stage first, or name the folder: --runs DIR")
    return sorted(found)


def _below(path: Path) -> Iterator[Path]:
    # Not rglob: a run holds no run, and looking into its shards and models would be most of the work.
    for folder, folders, files in os.walk(path):
        if "manifest.json" in files:
            yield Path(folder)
            # `os.walk` goes into whatever is left in this very list.
            folders.clear()


def _report(path: Path, survey: Survey, origins: Origins) -> RunReport:
    report = RunReport(public(path), "broken", date=_date(path))
    try:
        folder = survey.open(path)
        receipts = folder.receipts()
        missing = folder.missing()
        report.name = str(folder.manifest.provenance.get("name") or "")
        report.stage, report.fingerprint = folder.stage, folder.fingerprint
        report.rows = sum(r.rows for r in receipts.values())
        report.size = sum(f.size for r in receipts.values() for f in r.kept)
        report.figures = quality.line if (quality := saved_quality(folder)) is not None else ""
        report.shards, report.shards_done = folder.total, folder.total - len(missing)
        report.parents = [public(parent) for parent in origins.parents(folder)]
        report.model, report.data = ", ".join(origins.models(folder)), origins.sources(folder)
        report.why = [f"shard {i:05d} is not committed" for i in missing[:SHARDS_NAMED]]
        if len(missing) > SHARDS_NAMED:
            report.why.append(f"and {len(missing) - SHARDS_NAMED} more")
        report.why += survey.stale_reasons(folder)
        report.state = "incomplete" if missing else "stale" if report.why else "complete"
    except ForeignCodeError as error:
        report.state = "incomplete" if report.shards_done < report.shards else "unchecked"
        report.why.append(f"{error.message}: {error.hint}")
    except CosmoError as error:
        report.why = [error.message]
    except Exception as error:
        # A folder from elsewhere, or cut short by a full disk, may lack anything; it must not hide the other runs.
        report.why = [f"it can't be read: {type(error).__name__}: {first_line(error)}"]
    return report


def _date(path: Path) -> str:
    if is_url(path):
        return ""
    try:
        stamp = (path / "manifest.json").stat().st_mtime
    except OSError:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))


class Origins:
    """Where runs come from, one look for all of them: what is known of a run's parents is not traced again for it."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._models: dict[str, list[str]] = {}
        self._sources: dict[str, list[str]] = {}
        self._policies: dict[str, RunFolder | None] = {}

    def parents(self, folder: RunFolder) -> list[Path]:
        """Where its inputs lie and, where a run of ours made it, its policy."""
        found = [folder.input_path(entry) for entry in folder.manifest.inputs]
        if (policy := self._policy(folder)) is not None:
            found.append(Path(policy.where))
        return found

    def models(self, folder: RunFolder) -> list[str]:
        """The models at the beginning: of its policy, or of the runs that it was made from."""

        def untrained(run: RunFolder) -> list[str]:
            spec = _policy_spec(run)
            # What has no policy at all says `none`.
            return [spec] if spec not in ("", "none") and self._policy(run) is None else []

        return _gathered(folder, self._model_parents, untrained, self._models)

    def sources(self, folder: RunFolder) -> list[str]:
        """The sources named by the prepare runs that it goes back to."""

        def named(run: RunFolder) -> list[str]:
            loose = [run.where] if run.stage == "files" else []
            return loose + [_source(s) for s in self._survey.config(run).get("sources", [])]

        return _gathered(folder, self._inputs, named, self._sources)

    def _policy(self, folder: RunFolder) -> RunFolder | None:
        """The training run that its policy is, where it is one and still there."""
        if folder.where not in self._policies:
            self._policies[folder.where] = None
            for path in policy_places(folder):
                if is_url(path) or (path / "manifest.json").is_file():
                    with suppress(CosmoError):
                        self._policies[folder.where] = self._survey.open(path)
                        break
        return self._policies[folder.where]

    def _model_parents(self, folder: RunFolder) -> list[RunFolder]:
        """The runs that its model comes from: what trained its policy, or its inputs where it names no policy."""
        if not _policy_spec(folder):
            return self._inputs(folder)
        trained = self._policy(folder)
        return [trained] if trained is not None else []

    def _inputs(self, folder: RunFolder) -> list[RunFolder]:
        """Those of its inputs that can be opened."""
        found = []
        for entry in folder.manifest.inputs:
            with suppress(CosmoError):
                found.append(self._survey.open(folder.input_path(entry)))
        return found


def _gathered(
    folder: RunFolder,
    parents: Callable[[RunFolder], list[RunFolder]],
    own: Callable[[RunFolder], list[str]],
    known: dict[str, list[str]],
) -> list[str]:
    """What a run and all that it goes back to have, each once; `known` keeps it by the run's place."""
    new = earliest_first([folder], lambda run: [p for p in parents(run) if p.where not in known])
    for run in new:
        # Manifests from elsewhere may name each other in a ring: a parent may not be known yet.
        inherited = [name for parent in parents(run) for name in known.get(parent.where, [])]
        known[run.where] = list(dict.fromkeys([*own(run), *inherited]))
    return known[folder.where]


def _policy_spec(folder: RunFolder) -> str:
    return str(folder.manifest.provenance.get("policy") or "")


def _source(value: Any) -> str:
    """`jsonl:my.jsonl` of a source as it stands in a config: a string, or a table with a name and perhaps a path."""
    if not isinstance(value, dict):
        return str(value)
    return f"{value.get('name', '?')}:{value['path']}" if value.get("path") else str(value.get("name", "?"))


def _by_lineage(found: Iterable[RunReport]) -> Iterator[RunReport]:
    """Each after its parents; among those that may come next, the oldest."""
    by_path = {os.path.abspath(r.path): r for r in found}
    # A run that lies elsewhere, or that is its own parent in a damaged manifest, holds nothing up.
    waiting = {
        path: {p for p in map(os.path.abspath, report.parents) if p in by_path and p != path}
        for path, report in by_path.items()
    }
    children: dict[str, list[str]] = {}
    for path, parents in waiting.items():
        for parent in parents:
            children.setdefault(parent, []).append(path)
    ready = [(by_path[path].date, path) for path, parents in waiting.items() if not parents]
    heapq.heapify(ready)
    while ready:
        _, path = heapq.heappop(ready)
        yield by_path.pop(path)
        for child in children.get(path, []):
            waiting[child].discard(path)
            if not waiting[child]:
                heapq.heappush(ready, (by_path[child].date, child))
    # Manifests from elsewhere may name each other in a ring.
    yield from by_path.values()
