"""From a recipe to its steps. A step is what `cosmo run` executes and what `--dry-run` prints: one thing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import START, STORED, Phase, Recipe, with_shared
from cosmo_cli.recipe.tables import Ref, flatten, named
from stages.core.errors import UsageError
from stages.core.executors.base import LOCAL
from stages.core.stage_list import STAGES
from stages.core.storage.location import public

FOLLOWED_TURNS = 4
"""Turns of a phase whose rewards its label weights follow: enough that one turn's luck is not followed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage command of a recipe, with what it reads and in which phase and turn it stands."""

    verb: str
    name: str
    """The shell variable its folder goes by."""
    inputs: list[Ref]
    overrides: dict[str, Any] = field(default_factory=dict)
    """Dotted config keys over the recipe's table for the verb; a Ref stands for a folder."""
    phase: str = ""
    iteration: int = 0
    iterations: int = 0
    ends_phase: bool = False
    alone: bool = False
    """It takes nothing from the recipe's table for the verb."""


def steps_of(recipe: Recipe) -> list[Step]:
    """Every stage command of the recipe, in order; UsageError for a folder by a name that no earlier step has."""
    made: dict[str, Ref] = {}
    steps = []
    for step in _steps(recipe):
        steps.append(_with_named(recipe, step, made))
        if step.alone:
            made[step.name] = Ref(step.name)
        elif step.ends_phase:
            made[step.phase] = Ref(step.name)
    return steps


def _with_named(recipe: Recipe, step: Step, made: dict[str, Ref]) -> Step:
    """The step with a Ref in place of each `$name` in the tables of what it runs; corpora and ended phases have one."""
    if step.verb not in ("rollout", "score", "train"):
        return step
    overrides = dict(step.overrides)
    for key, name in named({**flatten(with_shared(recipe, step.verb)), **overrides}).items():
        if name not in made:
            others = ", ".join(f"${other}" for other in made) or "none yet"
            where = step.phase if step.phase.startswith("measure ") else f"phase {step.phase!r}"
            raise UsageError(
                f"[{step.verb}] {key} = '${name}' is no corpus and no phase before {where}",
                f"known by then: {others}; [corpora] {name} = FILE.jsonl makes a corpus",
            )
        overrides[key] = made[name]
    return replace(step, overrides=overrides)


def _steps(recipe: Recipe) -> Iterator[Step]:
    for corpus, documents in recipe.corpora.items():
        yield Step("prepare", corpus, [], {"sources": [f"corpus:{documents}"]}, alone=True)
    yield Step("prepare", "prompts", [])
    policy: str | Ref = recipe.policy
    measured: list[tuple[str, Ref]] = []
    trained: list[Ref] = []
    if START not in [phase.name for phase in recipe.phases]:
        for name in _measured_after(recipe, START):
            yield from _measure(recipe, name, policy)
            measured.append((name, Ref(f"{name}_scored")))
    for number, phase in enumerate(recipe.phases):
        if not phase.needs_rollouts:
            yield _one_training(recipe, phase, policy)
            # What trains another kind of model leaves the policy as it is.
            if phase.makes_policy:
                policy = Ref(phase.name)
                trained.append(policy)
        else:
            mix = _mix(recipe.phases[:number], phase)
            reference, sampler = _reference(recipe, phase, policy), policy
            for iteration in range(phase.iterations):
                turn = list(_turn(recipe, phase, number, iteration, mix, policy, sampler, reference))
                yield from turn
                before, policy = policy, Ref(turn[-1].name)
                sampler = before if phase.policy_lag else policy
                trained.append(policy)
        for name in _measured_after(recipe, phase.name):
            yield from _measure(recipe, name, policy)
            measured.append((name, Ref(f"{name}_scored")))
    if measured:
        names = [name for name, _ in measured]
        yield Step("eval", "metrics", [ref for _, ref in measured], {"names": names, "training": trained})
    if isinstance(policy, Ref):
        evals = {"evals": Ref("metrics")} if measured else {}
        yield Step("export", "model", [policy], evals)


def _one_training(recipe: Recipe, phase: Phase, policy: str | Ref) -> Step:
    """A phase on the prompts, or on the scored groups that earlier phases have left."""
    select: dict[str, Any] = {"select.split": "train"}
    if phase.labels:
        select["select.labels"] = phase.labels
    if phase.prompts:
        select["select.take"] = phase.prompts
    earlier = [p for p in recipe.phases if p.name in phase.groups_of]
    stored = [Ref(f"{name}_scored") for p in earlier for i in range(p.iterations) for name in _draws(p, i)]
    overrides = {"objective": phase.objective, "policy": policy, **select, **flatten(phase.train)}
    return Step("train", phase.name, stored or [Ref("prompts")], overrides, phase.name, 0, 1, True)


def _draws(phase: Phase, iteration: int) -> list[str]:
    """The names of a turn's draws: the first one, and its refills."""
    tag = f"{phase.name}_{iteration + 1}"
    return [tag, *(f"{tag}_more{number}" for number in range(1, 1 + phase.refill))]


def _turn(
    recipe: Recipe,
    phase: Phase,
    number: int,
    iteration: int,
    mix: dict[str, float],
    policy: str | Ref,
    sampler: str | Ref,
    reference: dict[str, Any],
) -> Iterator[Step]:
    """Draws, by `sampler`, and the training of `policy` on them."""
    where: dict[str, Any] = {"phase": phase.name, "iteration": iteration + 1, "iterations": phase.iterations}
    scored: list[Ref] = []
    for number_of_draw, name in enumerate(_draws(phase, iteration)):
        draw = iteration * (1 + phase.refill) + number_of_draw
        select = _select(recipe, phase, number, iteration, draw, mix) | _refilled(recipe, phase, scored)
        rollout = {"policy": sampler, **select, **flatten(phase.rollout)}
        yield Step("rollout", f"{name}_groups", [Ref("prompts")], rollout, **where)
        yield Step("score", f"{name}_scored", [Ref(f"{name}_groups")], flatten(phase.score), **where)
        scored.append(Ref(f"{name}_scored"))
    later = _carried_on(recipe, phase) if iteration else {}
    together: dict[str, Any] = {"one_rollout": True} if phase.refill else {}
    if phase.policy_lag:
        together["old_logprobs"] = STORED
    # Later ones win: what the phase says of training, then the reference, then what turns after the first have
    # otherwise.
    train = {"objective": phase.objective, "policy": policy, **flatten(phase.train), **together, **reference, **later}
    last = iteration + 1 == phase.iterations
    yield Step("train", f"{phase.name}_{iteration + 1}", scored, train, **where, ends_phase=last)


def _select(
    recipe: Recipe, phase: Phase, number: int, iteration: int, draw: int, mix: dict[str, float]
) -> dict[str, Any]:
    """Which prompts a draw of a turn takes."""
    select: dict[str, Any] = {
        "select.split": "train",
        "select.take": phase.prompts,
        "select.draw": draw,
        # A seed of its own for each phase, so that two phases do not draw the same prompts in the same order.
        "select.seed": recipe.seed * 1000 + number,
    }
    if mix:
        select["select.labels"] = mix
    if phase.follow_reward and iteration:
        turns = range(max(0, iteration - FOLLOWED_TURNS), iteration)
        select["select.adapt_to"] = [Ref(f"{phase.name}_{turn + 1}_scored") for turn in turns]
        select["select.adapt_strength"] = phase.follow_reward
    return select


def _refilled(recipe: Recipe, phase: Phase, scored: list[Ref]) -> dict[str, Any]:
    """What cuts a further draw of a turn to what the draws before it lack; nothing for the first."""
    if not scored:
        return {}
    by = {**recipe.table("train"), **phase.train}.get("flat_by")
    lacking = {"select.refill_of": list(scored), "select.refill_to": phase.prompts}
    return lacking | ({"select.refill_by": by} if by else {})


def _carried_on(recipe: Recipe, phase: Phase) -> dict[str, Any]:
    """What a phase's turns after its first have otherwise: a fresh optimizer is fresh where the phase begins.

    Every turn afresh would mean that no turn gets past its first steps: of the warm-up, of Adam's moments, of the
    multipliers that an advantage carries, and of the drift watch's window.
    """
    afresh = {**recipe.table("train"), **phase.train}.get("optimizer") == "fresh"
    return {"optimizer": "auto"} if afresh else {}


def _reference(recipe: Recipe, phase: Phase, start: str | Ref) -> dict[str, Any]:
    """The reference policy where the recipe names it by its place: `phase` (the default of a KL) or `start`."""
    train = {**recipe.table("train"), **phase.train}
    place = train.get("ref_policy") or ("phase" if train.get("ref_kl", 0.0) > 0 else "")
    places: dict[str, str | Ref] = {"phase": start, START: recipe.policy}
    return {"ref_policy": places[place]} if place in places else {}


def _mix(earlier: list[Phase], phase: Phase) -> dict[str, float]:
    """The phase's label weights with the replayed share of the earlier rl phases' mix, summing to 1."""
    own = _share(phase.labels)
    before: dict[str, float] = {}
    for old in earlier:
        if old.needs_rollouts:
            for label, weight in _share(old.labels).items():
                before[label] = before.get(label, 0.0) + weight
    before = _share(before)
    if not before or not own or phase.replay == 0:
        return own
    labels = {*own, *before}
    # Six places: the numbers stand in printed commands, and have to be the same ones when they are typed.
    return {
        label: round((1 - phase.replay) * own.get(label, 0.0) + phase.replay * before.get(label, 0.0), 6)
        for label in sorted(labels)
    }


def _share(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {label: round(w / total, 6) for label, w in weights.items()} if total else {}


def _measured_after(recipe: Recipe, place: str) -> list[str]:
    """What the policies are called that are measured at this place: a phase's end, or before all of them."""
    return [name for name, after in recipe.evaluate.after.items() if after == place]


def _measure(recipe: Recipe, name: str, policy: str | Ref) -> Iterator[Step]:
    rollout = {"policy": policy, "select.split": "test", **recipe.evaluate.overrides(name, "rollout")}
    yield Step("rollout", f"{name}_groups", [Ref("prompts")], rollout, phase=f"measure {name}")
    score = recipe.evaluate.overrides(name, "score")
    yield Step("score", f"{name}_scored", [Ref(f"{name}_groups")], score, phase=f"measure {name}")


def command_line(
    step: Step, recipe: Recipe, source: Path | None, runs: Path, executor: tuple[str, dict[str, Any]] = (LOCAL, {})
) -> str:
    """`name=$(cosmo verb "$input" --config ... --set ...)`: works when typed, in order, in bash.

    Without a `source` file (the recipe was changed by --set) the recipe's table is spelled out as well. `executor` is
    its name and settings, for stages that have one.
    """
    # Quoted by us around `$name`, so that the shell puts the folder in even where its path has blanks.
    words = ["cosmo", step.verb, *(f'"${r.name}"' for r in step.inputs), "--runs", shlex.quote(public(runs))]
    words += ["--name", step.name]
    values = dict(step.overrides)
    if step.alone:
        pass
    elif source is not None:
        words += ["--config", shlex.quote(str(source))]
    else:
        values = {**flatten(with_shared(recipe, step.verb)), **values}
    if executor[0] != LOCAL and STAGES[step.verb].spread:
        words += ["--executor", executor[0]]
        values |= {f"executor.{key}": value for key, value in executor[1].items()}
    for key, value in values.items():
        words += ["--set", _assignment(key, value)]
    return f"{step.name}=$({' '.join(words)})"


def _assignment(key: str, value: Any) -> str:
    refs = [value] if isinstance(value, Ref) else value if isinstance(value, list) else []
    if refs and all(isinstance(r, Ref) for r in refs):
        # Double quotes let the shell put the folder in; names of run folders need no escaping.
        inner = ",".join(f"'${r.name}'" for r in refs)
        return f'"{key}=[{inner}]"' if isinstance(value, list) else f"\"{key}='${value.name}'\""
    return shlex.quote(f"{key}={toml_value(value)}")


def toml_value(value: Any) -> str:
    """A plain value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    # JSON's strings are TOML's but for one control character, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
