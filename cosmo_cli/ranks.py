"""A stage on several processes (ranks): starting them, and being one of them.

What a stage needs for it is in the module that its entry in the list of stages names.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from cosmo_cli.rank_output import silence_output
from cosmo_cli.stage_run import options_of, run_command
from stages.core.stage_list import STAGES, load_config, load_stage


def runs_on_ranks(verb: str, config: Any, inputs: list[Path], given: dict[str, Any]) -> bool:
    """In place of a run in this process: True where several are asked for, or this is one of several."""
    entry = entry_of(verb)
    if entry is None or given["dry_run"]:
        return False
    if entry.is_one():
        run_as_rank(verb, config, inputs, given)
        return True
    return bool(entry.wants_processes(config)) and start_ranks(verb, config, inputs, given)


def entry_of(verb: str) -> Any | None:
    """The module by which a stage works in several processes, None where it never does."""
    path = STAGES[verb].processes
    return importlib.import_module(path) if path else None


def start_ranks(verb: str, config: Any, inputs: list[Path], given: dict[str, Any], mute: bool = False) -> bool:
    """Launch the ranks and wait for their end; False, and nothing done, where the run is complete already.

    With `mute` only failures are told: another command runs the stage as a part of its own work.
    """
    from stages.core.config import as_dict
    from stages.core.runner import run_stage
    from stages.core.runs.folder import RunFolder

    # Planned before any process starts: a mistake in the settings is told once, and a complete run costs no launch.
    options = options_of({**given, "dry_run": True}, None)
    planned = run_stage(load_stage(verb), config, inputs, options=options)
    if (found := RunFolder.find(planned.path)) is not None and found.complete:
        return False
    kept = ("runs", "worker", "partial", "dry_run", "json", "quiet", "name", "accept_failure")
    # In a file rather than in arguments: a config is nested, and every process of every rank reads the same one.
    job = {
        "config": as_dict(config),
        "inputs": [str(path) for path in inputs],
        "given": {name: str(given[name]) if name == "runs" else given.get(name) for name in kept},
        "mute": mute,
    }
    with tempfile.TemporaryDirectory(prefix="cosmo-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        entry = entry_of(verb)
        assert entry is not None
        entry.start(config, ["-m", "cosmo_cli.ranks", verb, str(path)], planned.fingerprint)
    return True


def run_as_rank(verb: str, config: Any, inputs: list[Path], given: dict[str, Any]) -> None:
    """Rank 0 runs the command; the others work with it, silently."""
    from cosmo_cli.errors import explain
    from cosmo_cli.terminal.output import stdout_to_stderr

    entry = entry_of(verb)
    assert entry is not None
    if not entry.is_first():
        silence_output()
    # Joining a process group is where libraries greet on stdout.
    with stdout_to_stderr():
        entry.join(config)
    entry.work(config, lambda: run_command(verb, config, inputs, given, None), lambda error: explain(error)[2])


def main() -> int:
    """A rank that `start_ranks` launched; its exit code."""
    from cosmo_cli.errors import guarded
    from cosmo_cli.process import set_up_process

    set_up_process()
    verb = sys.argv[1]
    entry = entry_of(verb)
    assert entry is not None
    return guarded(verb, lambda: _work(verb, entry, Path(sys.argv[2])))


def _work(verb: str, entry: Any, path: Path) -> None:
    """Begin as a rank, and do the job that the launcher wrote to this file."""
    from stages.core.config import build

    # Before all else, however long that takes: the launcher may be gone by now.
    entry.begin()
    job = json.loads(path.read_text(encoding="utf-8"))
    given = {**job["given"], "runs": Path(job["given"]["runs"])}
    config = build(load_config(verb), job["config"], verb)
    if job["mute"]:
        given["quiet"] = True
        # The path of the run is the outer command's to print.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run_as_rank(verb, config, [Path(p) for p in job["inputs"]], given)


if __name__ == "__main__":
    from cosmo_cli.rank_output import end_process

    end_process(main())
