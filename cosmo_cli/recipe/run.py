"""`cosmo run`: the recipe's steps in one process, models and optimizer kept warm, the same folders on disk.

A turn's policy is committed beside the rollout that follows it: that needs the weights, which are warm or staged, and
what they are called, which their files say as soon as they are written. The turn counts as done, and older policies go,
when its receipt stands: a kill before costs that turn, which comes out the same again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cosmo_cli.process import give_back_memory
from cosmo_cli.ranks import entry_of, finish_ranks, forget_signals, start_ranks
from cosmo_cli.recipe.handing import Reading, can_be_sampled, engine_of, goes_on_before_commit
from cosmo_cli.recipe.label_check import warn_of_labels
from cosmo_cli.recipe.planning.machine_check import check_machine
from cosmo_cli.recipe.progress import Turns
from cosmo_cli.recipe.retention import prune
from cosmo_cli.recipe.schema import Recipe, with_shared
from cosmo_cli.recipe.steps import Step, steps_of
from cosmo_cli.recipe.tables import Ref, overridden
from cosmo_cli.terminal.output import Output, stdout_to_stderr
from cosmo_cli.terminal.progress import QuietProgress, progress_for
from stages.core.atomic import read_json, write_json
from stages.core.config import build
from stages.core.executors.base import LOCAL
from stages.core.runner import Options, Result, Started, run_stage, start_stage
from stages.core.runs.behind import Behind
from stages.core.runs.folder import RunFolder
from stages.core.runs.noted import SUFFIX
from stages.core.stage import Resources, Stage
from stages.core.stage_list import STAGES, load_config, load_stage
from stages.models.warm import forget_handed, hand_over_here, policy_was_read


@dataclass(slots=True)
class Run:
    """A recipe on its way through its steps."""

    recipe: Recipe
    runs: Path
    output: Output
    executor: tuple[str, dict[str, Any]] = (LOCAL, {})
    """Who does the shards of the stages that let others do them, and its settings."""
    folders: dict[str, Path] = field(default_factory=dict)
    """Where each finished step's rows are."""
    trained: list[tuple[Step, Path]] = field(default_factory=list)
    """The finished training steps, in order."""
    resources: Resources = field(default_factory=Resources)
    """What is warm."""
    behind: Behind = field(default_factory=Behind)
    """Who commits a turn's policy while the next rollout runs."""


def step_values(recipe: Recipe, step: Step, folders: dict[str, Path]) -> dict[str, Any]:
    """A step's config values: the recipe's table with the step's overrides, references resolved."""
    table = {} if step.alone else with_shared(recipe, step.verb)
    return overridden(table, {key: _resolved(value, folders) for key, value in step.overrides.items()})


def _loaded_in(steps: list[Step]) -> set[str]:
    """Names of what these steps load: a reference of the KL, a value model, a policy to go on from or to export."""
    # Evaluation reads what training logged, and no model.
    loading = [s for s in steps if s.verb != "eval"]
    values = [v for s in loading for v in (*s.inputs, *s.overrides.values())]
    return {v.name for v in values if isinstance(v, Ref)}


def _resolved(value: Any, folders: dict[str, Path]) -> Any:
    if isinstance(value, Ref):
        return str(folders[value.name])
    return [_resolved(v, folders) for v in value] if isinstance(value, list) else value


def run_recipe(
    recipe: Recipe, runs: Path, output: Output, executor: tuple[str, dict[str, Any]] = (LOCAL, {})
) -> dict[str, Any]:
    """Go through all steps; finished ones are found on disk. Returns the summary document."""
    run = Run(recipe, runs, output, executor)
    forget_signals()
    check_machine(recipe, runs, output, executor[0])
    clock = Clock((runs / recipe.summary).with_suffix(".clock.json"))
    steps = steps_of(recipe)
    turns = Turns(output, steps, recipe.name, (runs / recipe.summary).with_suffix(SUFFIX))
    try:
        with turns.noted():
            _do(run, steps, turns, clock)
    finally:
        # After an error, too: what is trained is kept.
        with suppress(Exception, SystemExit):
            policy_was_read(run.resources)
            run.behind.wait()
            finish_ranks(run.resources)
        run.resources.close()
    return _finish(run, clock)


def _do(run: Run, steps: list[Step], turns: Turns, clock: Clock) -> None:
    """One step after the other."""
    # What is to be done about a turn whose policy is being committed.
    finish_previous: Callable[[], None] = _nothing
    for number, step in enumerate(steps, start=1):
        # The first rollout goes on beside the commit; a further one of the turn would look for the policy anew.
        after = steps[number - 2].verb if number > 1 else ""
        if not (step.verb == "score" or (step.verb, after) == ("rollout", "train")):
            finish_previous()
            finish_previous = _nothing
        config = build(load_config(step.verb), step_values(run.recipe, step, run.folders), step.verb)
        following = steps[number:]
        apart = goes_on_before_commit(run.recipe, run.executor[0], step, config, following)
        # An engine of this process takes the policy out of memory, vLLM out of the folder that it is staged in.
        if apart and engine_of(run.recipe, following[0]) == "vllm":
            hand_over_here(run.resources)
        started = _start(run, step, config, turns, apart)
        run.folders[step.name] = started.path
        if step.verb == "train":
            turns.over()
        finish_this = partial(_finish_step, run, step, config, started, following, turns, clock)
        if apart and can_be_sampled(run.resources, started.path):
            finish_previous = finish_this
        else:
            finish_this()
        if step.verb == "train":
            _after_training(run, step, following, finish_previous)


def _after_training(run: Run, step: Step, following: list[Step], finish: Callable[[], None]) -> None:
    """Let go of what the next step does without; StoppedError where SIGTERM came too late for the last checkpoint."""
    give_back_memory()
    entry = entry_of(step.verb)
    assert entry is not None
    if not any(later.verb == step.verb for later in following):
        entry.let_go(run.resources)
    if entry.asked_to_stop():
        finish()
        raise entry.stopped(step.name)


def _nothing() -> None:
    """What is to be done where nothing is under way."""


def _finish_step(
    run: Run, step: Step, config: Any, started: Started, following: list[Step], turns: Turns, clock: Clock
) -> None:
    """Wait until a step's run is complete, say what came of it, and let go of older policies."""
    policy_was_read(run.resources)
    with stdout_to_stderr():
        result = started.finish()
    if step.verb == "train":
        forget_handed(run.resources)
    if result.state == "done":
        clock.add()
    turns.judge(step, result)
    if step.verb == "prepare":
        warn_of_labels(run.recipe, result.where, run.output)
    if step.verb == "train":
        run.trained.append((step, result.path))
        turns.trained(step, result)
        # A step on its own has a progress display, where training says it itself.
        if step.iterations > 1:
            # A cached turn's alarms were told when it was trained.
            made = result.state != "cached"
            turns.alarms(load_stage(step.verb).alarms(config, result.path) if made else {})
        loaded = _loaded_in(following) & set(run.folders)
        prune(run.recipe.retention, run.trained, [run.folders[name] for name in loaded])


def _start(run: Run, step: Step, config: Any, turns: Turns, apart: bool) -> Started:
    """Do a step's work; `apart`: its policy may be sampled from before its run has a receipt."""
    stage, resources = load_stage(step.verb), run.resources
    inputs = [run.folders[r.name] for r in step.inputs]
    turns.begin(step)
    who, settings = run.executor if STAGES[step.verb].spread else (LOCAL, {})
    options = Options(
        runs=run.runs, executor=who, executor_settings=settings, name=step.name, accept_failure=is_turn(step)
    )
    # A turn is told in one line of its own; only the long single steps show a bar.
    progress = QuietProgress(run.output) if step.iterations > 1 else progress_for(run.output)
    try:
        with stdout_to_stderr():
            if (path := _on_ranks(step, config, inputs, run.runs, resources, apart)) is not None:
                # After the ranks are done this process finds a complete run: cached for it, and new for the person.
                return Started(path, partial(_found, stage, config, inputs, options, resources))
            return start_stage(
                stage, config, inputs, options=options, progress=Reading(progress, resources), resources=resources,
                behind=run.behind if apart else None,
            )  # fmt: skip
    finally:
        progress.close()


def _found(stage: Stage, config: Any, inputs: list[Path], options: Options, resources: Resources) -> Result:
    finish_ranks(resources)
    return replace(run_stage(stage, config, inputs, options=options, resources=resources), state="done")


def is_turn(step: Step) -> bool:
    """True for a training step that is one of several turns: one without anything to learn from ends no recipe."""
    return step.verb == "train" and step.iterations > 1


def _on_ranks(
    step: Step, config: Any, inputs: list[Path], runs: Path, resources: Resources, apart: bool
) -> Path | None:
    """The run of a stage whose settings ask for several processes; None where it is to run in this one, or is done."""
    entry = entry_of(step.verb)
    if entry is None or not entry.wants_processes(config):
        return None
    # What this process holds in an accelerator's memory is in the way of the others.
    resources.lend_devices()
    given: dict[str, Any] = {"runs": runs, "worker": None, "partial": False, "dry_run": False, "json": False}
    given |= {"quiet": True, "name": step.name, "accept_failure": is_turn(step)}
    return start_ranks(step.verb, config, inputs, given, resources, mute=True, hand_over=apart)


class Clock:
    """Seconds of work over all starts of the same run, kept on disk so that an interruption costs none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(read_json(path)["seconds"]) if path.is_file() else 0.0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, over all starts."""
        return round(self._before + time.monotonic() - self._begun, 1)

    def add(self) -> None:
        """Note the time reached."""
        write_json(self._path, {"seconds": self.seconds})


def _finish(run: Run, clock: Clock) -> dict[str, Any]:
    summary: dict[str, Any] = {"recipe": run.recipe.name, "policies": {}}
    metrics = run.folders.get("metrics")
    if metrics is not None:
        from schemas.tables import EVALS

        rows = [r for r in RunFolder.open(metrics).rows(EVALS) if r.slice == "all"]
        for row in rows:
            summary.setdefault(row.policy, {})[row.metric] = row.value
            spread = {"value": row.value, "low": row.low, "high": row.high, "n": row.n}
            summary["policies"].setdefault(row.policy, {})[row.metric] = spread
        summary["metrics"] = str(metrics)
    if "model" in run.folders:
        summary["model"] = str(run.folders["model"] / "model")
    path = run.runs / run.recipe.summary
    # A run that found everything done did not take the seconds it spent looking.
    saved = read_json(path) if path.is_file() else None
    clock_seconds = clock.seconds
    if saved is not None and {**saved, "seconds": 0} == {**summary, "seconds": 0}:
        clock_seconds = saved["seconds"]
    summary["seconds"] = clock_seconds
    write_json(path, summary)
    return summary
