"""Running one stage for a command: the runner's options as they were typed, progress, and one closing line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmo_cli import options as shared
from stages.core.executors.base import LOCAL
from stages.core.stage_list import load_stage


def options_of(given: dict[str, Any], output: Any) -> Any:
    """The runner's options as they were given; `output` says what was found beside them."""
    from stages.core.runner import Options

    return Options(
        runs=given["runs"],
        worker=_worker(output, given),
        partial=given["partial"],
        dry_run=given["dry_run"],
        executor=given.get("executor", LOCAL),
        executor_settings=given.get("executor_settings", {}),
        name=shared.run_name(given.get("name") or ""),
        accept_failure=bool(given.get("accept_failure")),
    )


def run_command(
    verb: str,
    config: Any,
    inputs: list[Path],
    given: dict[str, Any],
    after: Callable[[Any, Any, dict[str, Any]], None] | None,
    resources: Any = None,
) -> None:
    """Run a stage as a command: progress to stderr, the folder or the document to stdout.

    What is warm is in `resources`, which outlive the command; None: nothing is, and nothing outlives it.
    """
    from cosmo_cli.terminal.output import Output, stdout_to_stderr
    from cosmo_cli.terminal.progress import progress_for
    from stages.core.runner import result_json, run_stage

    output = Output(verb, given["json"], given["quiet"])
    options = options_of(given, output)
    progress = progress_for(output)
    try:
        with stdout_to_stderr():
            result = run_stage(
                load_stage(verb), config, inputs, options=options, progress=progress, resources=resources
            )
    finally:
        progress.close()
    output.say(describe(result))
    if result.quality.warning is not None:
        output.warn(result.quality.warning, result.quality.hint)
    if after is not None and result.state in ("done", "cached"):
        after(output, result, given)
    # No path for what is not complete: the next command in a pipe must not go on with half a run.
    output.result(result.where if result.state in ("done", "cached") else "", result_json(result))


def _worker(output: Any, given: dict[str, Any]) -> tuple[int, int]:
    """The part that was typed; else, where the shards may be spread, this task's part of a Slurm array."""
    if given["worker"] is None and "executor" in given:
        from cosmo_cli.slurm import array_worker

        if (part := array_worker(os.environ)) is not None:
            output.say(f"a task of a Slurm array: --worker {part[0]}/{part[1]} (--worker 0/1 does every shard)")
            return part
    return shared.worker(given["worker"])


def describe(result: Any) -> str:
    """One line of what came of a run."""
    if result.state == "planned":
        todo = result.shards - result.shards_done
        return f"would do {todo} of {_shards(result.shards)} in {result.where}"
    rejected = ", ".join(f"{n} {reason}" for reason, n in sorted(result.rejected.items()))
    left_out = f", rejected {rejected}" if rejected else ""
    if result.state == "waiting":
        missing = result.shards - result.shards_done
        return f"{result.where}: {missing} of {result.shards} shards are left to other workers"
    quality = f", {result.quality.line}" if result.quality.line else ""
    took = "cached" if result.state == "cached" else f"{result.seconds:.1f} s"
    return f"{result.rows} rows in {_shards(result.shards)}{quality}{left_out} ({took})"


def _shards(count: int) -> str:
    return f"{count} shard" if count == 1 else f"{count} shards"
