"""A stage on several processes (ranks): starting them, and being one of them.

What a stage needs for it is in the module that its entry in the list of stages names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cosmo_cli.process import give_back_memory
from cosmo_cli.rank_output import mute_stdout, silence_output
from cosmo_cli.stage_run import options_of, run_command
from stages.core.resources import Resources
from stages.core.stage_list import STAGES, load_config, load_stage


def runs_on_ranks(verb: str, config: Any, inputs: list[Path], given: dict[str, Any]) -> bool:
    """In place of a run in this process: True where several are asked for, or this is one of several."""
    entry = entry_of(verb)
    if entry is None or given["dry_run"]:
        return False
    if entry.is_one():
        run_as_rank(verb, config, inputs, given)
        return True
    if not entry.wants_processes(config):
        return False
    with closing(Resources()) as resources:
        return start_ranks(verb, config, inputs, given, resources) is not None


def entry_of(verb: str) -> Any | None:
    """The module by which a stage works in several processes, None where it never does."""
    path = STAGES[verb].processes
    return importlib.import_module(path) if path else None


def _entries() -> Iterator[Any]:
    """Those of all stages that work in several processes."""
    return filter(None, map(entry_of, STAGES))


def finish_ranks(resources: Resources) -> None:
    """Return when the ranks that stay in these resources have nothing in hand; SystemExit where one has failed."""
    for entry in _entries():
        entry.finish(resources)


def forget_signals() -> None:
    """Whatever this process was asked before, as a part of other work, it has not been asked to stop."""
    for entry in _entries():
        entry.forget_signals()


def start_ranks(
    verb: str,
    config: Any,
    inputs: list[Path],
    given: dict[str, Any],
    resources: Resources,
    mute: bool = False,
    hand_over: bool = False,
) -> Path | None:
    """Have ranks do a run, to its end; its folder, or None, and nothing done, where it is complete already.

    They are launched where `resources` has none of this kind, and stay there for the next run. With `mute` only
    failures are told: another command runs the stage as a part of its own work. With `hand_over` it may return when
    its policy can be sampled from, and `finish` of the entry is to be called later.
    """
    from stages.core.config import as_dict
    from stages.core.runner import run_stage
    from stages.core.runs.folder import RunFolder

    # Planned before any process starts: a mistake in the settings is told once, and a complete run costs no launch.
    options = options_of({**given, "dry_run": True}, None)
    planned = run_stage(load_stage(verb), config, inputs, options=options)
    if (found := RunFolder.find(planned.path)) is not None and found.complete:
        return None
    kept = ("runs", "worker", "partial", "dry_run", "json", "quiet", "name", "accept_failure")
    job = {
        "config": as_dict(config),
        "inputs": [str(path) for path in inputs],
        "given": {name: str(given[name]) if name == "runs" else given.get(name) for name in kept},
        "mute": mute,
        "hand_over": hand_over,
    }
    entry = entry_of(verb)
    assert entry is not None
    entry.do(config, ["-m", "cosmo_cli.ranks", verb], planned.fingerprint, job, resources)
    return planned.path


def run_as_rank(
    verb: str, config: Any, inputs: list[Path], given: dict[str, Any], resources: Resources | None = None
) -> None:
    """Rank 0 runs the command; the others work with it, silently. What each keeps warm is in `resources`."""
    from cosmo_cli.errors import explain
    from cosmo_cli.terminal.output import stdout_to_stderr

    entry = entry_of(verb)
    assert entry is not None
    if not entry.is_first():
        silence_output()
    # Joining a process group is where libraries greet on stdout.
    with stdout_to_stderr():
        entry.join(config)

    def run() -> None:
        run_command(verb, config, inputs, given, None, resources)

    entry.work(config, run, lambda error: explain(error)[2], resources)


def main() -> int:
    """A rank that `start_ranks` launched; its exit code."""
    from cosmo_cli.errors import guarded
    from cosmo_cli.process import set_up_process

    set_up_process()
    verb, folder, launcher = sys.argv[1:]
    entry = entry_of(verb)
    assert entry is not None
    return guarded(verb, lambda: _work(verb, entry, Path(folder), int(launcher)))


def _work(verb: str, entry: Any, folder: Path, launcher: int) -> None:
    """Be a rank, and do one job after the other; what was loaded for one is there for the next."""
    from stages.core.config import build

    with closing(Resources()) as resources:
        for job in entry.jobs(folder, launcher, resources):
            given = {**job["given"], "runs": Path(job["given"]["runs"])}
            config = build(load_config(verb), job["config"], verb)
            if job["mute"]:
                given["quiet"] = True
                # The path of the run is the outer command's to print.
                mute_stdout()
            run_as_rank(verb, config, [Path(p) for p in job["inputs"]], given, resources)
            entry.rest(resources)
            give_back_memory()


if __name__ == "__main__":
    from cosmo_cli.rank_output import end_process

    end_process(main())
