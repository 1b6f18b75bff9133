"""Recipes: one TOML file, a table a stage, and the phases that `cosmo run` goes through."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.tables import flatten, overridden
from schemas.tables import SCORED
from stages.core.atomic import parse_toml
from stages.core.config import build, option, section
from stages.core.errors import InputError, UsageError
from stages.core.plugins.references import code_named_in, relative_to
from stages.core.registry import load
from stages.core.stage_list import STAGES, load_config, recipe_verbs

RESERVED = ("prompts", "metrics", "model")
"""Names that steps of every recipe go by."""
STORED = "stored"
"""`[train] old_logprobs` of a phase with a lag: those that the sampler had."""
_LONGEST_NAME = 80
"""Characters of a recipe's name: in four bytes each no more than a file system takes."""
START = "start"
"""The recipe's own policy, where a policy is named by its place: before any phase, unless a phase is called so."""


@dataclass(frozen=True)
class Phase:
    """One leg of the training: on prompts alone (sft), turn by turn on fresh, scored rollouts (rl), or on those of
    earlier phases (value)."""

    name: str = option("", "Name in run displays, retention and [evaluate]")
    objective: str = option("rl", "Objective plugin that trains a policy (cosmo list objective): sft, rl, ...")
    iterations: int = option(1, "Turns of rollout, score, train (rl)", low=1)
    prompts: int = option(0, "Prompts an iteration (rl), examples to learn from (sft; 0 takes all)", low=0)
    labels: dict[str, float] = option({}, "Label weights; empty takes every label")
    groups_of: list[str] = option(
        [],
        "Earlier rl phases whose stored scored groups it learns from, in one training and without a rollout (value, "
        "reward, verifier, dpo, sft with min_reward)",
    )
    replay: float = option(0.0, "Share of the draw that keeps the earlier rl phases' label mix", low=0.0, high=1.0)
    follow_reward: float = option(
        0.0,
        "How far label weights move towards labels with little reward in the last turns (rl); 0: not at all",
        low=0.0,
        high=1.0,
    )
    refill: int = option(
        0, "Further draws of a turn (rl), until `prompts` groups of it can be learned from: see [train] flat_by", low=0
    )
    policy_lag: int = option(
        0,
        "At 1 a turn samples with the policy from before the last turn's training (rl), so that another machine can "
        "sample while this one trains; ratios are to the sampler's log-probs then",
        low=0,
        high=1,
    )
    rollout: dict[str, Any] = option({}, "Overrides of [rollout] in this phase")
    score: dict[str, Any] = option({}, "Overrides of [score] in this phase")
    train: dict[str, Any] = option({}, "Overrides of [train] in this phase")

    @property
    def needs_rollouts(self) -> bool:
        """Whether each of its turns samples and scores; UsageError where there is no such objective."""
        return not self.groups_of and bool(load("objective", self.objective).needs_rollouts)

    @property
    def makes_policy(self) -> bool:
        """Whether the phases after it go on from what it trains; else that is a model which settings name."""
        return bool(load("objective", self.objective).phase)


@dataclass(frozen=True)
class Measure:
    """What one of the measured policies has otherwise than the others."""

    rollout: dict[str, Any] = option({}, "Overrides of [rollout] and [evaluate.rollout]")
    score: dict[str, Any] = option({}, "Overrides of [score] and [evaluate.score]")


@dataclass(frozen=True)
class Evaluate:
    """When the policy is measured, and on what."""

    after: dict[str, str] = option(
        {}, "Name in the comparison -> phase after whose end it is measured; start: before all, the recipe's policy"
    )
    rollout: dict[str, Any] = option({}, "Overrides of [rollout] while measuring")
    score: dict[str, Any] = option({}, "Overrides of [score] while measuring")
    own: dict[str, Measure] = option({}, "Name in the comparison -> overrides that are for it alone")

    def overrides(self, name: str, verb: str) -> dict[str, Any]:
        """The dotted keys over a stage's table while the policy of this name in the comparison is measured."""
        return {**flatten(getattr(self, verb)), **flatten(getattr(self.own.get(name, Measure()), verb))}


@dataclass(frozen=True)
class Retention:
    """What stays on disk. Rows always stay; weights and optimizer states are what weighs."""

    policies: int = option(2, "The last so many policies keep weights and trainer state", low=1)
    phase_ends: bool = option(True, "Each phase's last policy is kept, too")


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, but for the stages' tables."""

    name: str = option("", "Name of the run")
    seed: int = option(0, "Seed of every stage that does not set its own")
    policy: str = option("tiny:qwen2_5_vl", "The model to start from")
    corpora: dict[str, str] = option(
        {}, "Corpora to search, made first: NAME = FILE.jsonl or almanac (cosmo prepare corpus:FILE); named as $NAME"
    )
    checks: list[str] = option([], "Instruction checks of every stage that has them and names none of its own")
    summary: str = option(
        "summary.json", "File for the figures in the runs folder; recipes that share a folder need one each"
    )
    phases: list[Phase] = option([], "[[phases]]")
    evaluate: Evaluate = section(Evaluate, "[evaluate]")
    retention: Retention = section(Retention, "[retention]")

    def table(self, verb: str) -> dict[str, Any]:
        """What the recipe says of a stage, as it was written: a copy; KeyError for what is no stage."""
        return dict(getattr(self, STAGES[verb].verb))


RecipeFile = make_dataclass(
    "RecipeFile",
    [(verb, dict[str, Any], option({}, f"[{verb}]")) for verb in recipe_verbs()],
    bases=(Recipe,),
    frozen=True,
)
"""A recipe with its stage tables: a field for each stage that is listed, so that a new one needs no line here."""


def read(path: Path, run_code: bool = False) -> dict[str, Any]:
    """The TOML of a recipe, its plugins' files taken as lying beside it.

    InputError names file and line when it is malformed; UsageError for one inside a run folder, which may be anybody's,
    that names code, unless `run_code` says that it may run.
    """
    try:
        values = parse_toml(path.read_bytes())
        named = code_named_in(values)
        if named and not run_code and (run := _run_folder_of(path)) is not None:
            raise UsageError(
                f"{path} lies in the run folder {run} and names code: {named[0]}", "add --run-code if you trust it"
            )
        return dict(relative_to(values, path.parent))
    except FileNotFoundError:
        raise InputError(f"no such recipe: {path}", "ls examples/*/recipe.toml shows some") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", f"name the file: {path}/recipe.toml") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML: {error}", "check that line") from None


def _run_folder_of(path: Path) -> Path | None:
    """The run folder that a file lies in, None without one."""
    return next((f for f in path.resolve().parents if (f / "manifest.json").is_file()), None)


def parse(values: dict[str, Any]) -> Recipe:
    """A checked recipe: every stage table is built once against its config, phases are consistent."""
    recipe: Recipe = build(RecipeFile, values, "recipe")
    # The folder of its runs goes by it.
    plain = Path(recipe.name).name == recipe.name != ".." and recipe.name.isprintable()
    if recipe.name and not (plain and len(recipe.name) <= _LONGEST_NAME):
        raise UsageError(
            f"name = {recipe.name[:_LONGEST_NAME]!r} is no name for a folder of runs: one word or a few, no path",
            'name = "mine"',
        )
    # Every table of every stage now, or a slip in the last one is found after hours of training.
    for verb in recipe_verbs():
        build(load_config(verb), with_shared(recipe, verb), verb)
    if Path(recipe.summary).name != recipe.summary or not recipe.summary.endswith(".json"):
        raise UsageError(f"summary = {recipe.summary!r} is not the name of a .json file", 'summary = "summary.json"')
    _check_corpora(recipe)
    for number, phase in enumerate(recipe.phases):
        _check_phase(recipe, number, phase)
        for verb in ("rollout", "score", "train"):
            values = overridden(with_shared(recipe, verb), flatten(getattr(phase, verb)))
            build(load_config(verb), values, f"phases.{verb}")
    _check_evaluate(recipe)
    return recipe


def _check_corpora(recipe: Recipe) -> None:
    """UsageError for a name that is no name, or that something else goes by."""
    for name, what in recipe.corpora.items():
        if not name.isidentifier() or name in (*RESERVED, *(p.name for p in recipe.phases)):
            raise UsageError(
                f"corpora.{name} = {what!r} needs a name of its own", "letters and digits, and no phase's name"
            )


def _check_phase(recipe: Recipe, number: int, phase: Phase) -> None:
    """UsageError for a phase that can't be told from the others, or lacks what its objective needs."""
    names = [p.name for p in recipe.phases]
    # Names become shell variables in what --dry-run prints.
    if not phase.name.isidentifier() or phase.name in RESERVED or names.count(phase.name) > 1:
        raise UsageError(
            f"phase {number + 1} needs a name of its own, not {phase.name!r}", 'letters and digits: name = "stage1"'
        )
    _check_objective(number, phase)
    earlier = [p.name for p in recipe.phases[:number] if p.needs_rollouts]
    if missing := [name for name in phase.groups_of if name not in earlier]:
        raise UsageError(
            f"phase {phase.name!r} has groups_of = {missing[0]!r}, which is no earlier phase that samples groups",
            f"groups_of = {earlier}" if earlier else "an rl phase has to come before it",
        )
    if phase.groups_of and phase.iterations > 1:
        raise UsageError(
            f"phase {phase.name!r} has groups_of and iterations = {phase.iterations}: stored groups make one training",
            "leave iterations out; train = { epochs = 2 } goes through them twice",
        )
    if phase.needs_rollouts and phase.prompts == 0:
        raise UsageError(f"phase {phase.name!r} does not say how many prompts an iteration takes", "prompts = 32")
    if phase.follow_reward and not phase.labels:
        raise UsageError(
            f"phase {phase.name!r} has follow_reward and no label weights to move",
            "labels = { general = 1.0, safety = 1.0 }",
        )

    if phase.policy_lag and not phase.needs_rollouts:
        raise UsageError(f"phase {phase.name!r} has policy_lag and samples nothing", "leave policy_lag out")
    # The policy's own at the start of a turn would pass completions of another policy off as its own.
    if phase.policy_lag and {**recipe.table("train"), **phase.train}.get("old_logprobs", STORED) != STORED:
        raise UsageError(
            f"phase {phase.name!r} has policy_lag = {phase.policy_lag} with old_logprobs that are not the sampler's",
            f"leave old_logprobs out: it is {STORED!r} there",
        )


def _check_objective(number: int, phase: Phase) -> None:
    """UsageError for an objective that does not exist, that can't learn from stored groups and is to, or that trains
    nothing to go on from out of rollouts of its own."""
    where = f"recipe.phases[{number}].objective = {phase.objective!r}"
    try:
        plugin = load("objective", phase.objective)
    except UsageError as error:
        raise UsageError(f"{where} is not a choice", error.hint) from None
    if phase.groups_of and SCORED not in plugin.reads:
        raise UsageError(f"{where} learns from no scored groups, and groups_of names some", "leave groups_of out")
    if not plugin.phase and not phase.groups_of:
        raise UsageError(
            f"{where} trains no policy that a recipe could go on from",
            f'groups_of = ["stage1"] for one from the groups of phase stage1, or cosmo train RUN --objective '
            f"{phase.objective}",
        )


def _check_evaluate(recipe: Recipe) -> None:
    """UsageError for a measured policy without a phase, and for settings of its own that nobody measures."""
    evaluate, names = recipe.evaluate, [p.name for p in recipe.phases]
    for name, after in evaluate.after.items():
        if after not in (*names, START):
            raise UsageError(f"evaluate.after.{name} = {after!r} is no phase", f"phases: {', '.join((START, *names))}")
    for name in evaluate.own:
        if name not in evaluate.after:
            raise UsageError(f"evaluate.own.{name} is measured nowhere", f'[evaluate] after = {{ {name} = "PHASE" }}')
    for verb in ("rollout", "score"):
        for name in evaluate.after or [""]:
            where = f"evaluate.own.{name}.{verb}" if name in evaluate.own else f"evaluate.{verb}"
            values = overridden(with_shared(recipe, verb), evaluate.overrides(name, verb))
            build(load_config(verb), values, where)


def with_shared(recipe: Recipe, verb: str) -> dict[str, Any]:
    """A stage's table with the recipe's seed, starting policy and instruction checks where the table names none.

    Trackers know its training runs by its name: together they are one.
    """
    table = recipe.table(verb)
    fields = load_config(verb).__dataclass_fields__
    if "seed" in fields:
        table.setdefault("seed", recipe.seed)
    if "checks" in fields and recipe.checks:
        table.setdefault("checks", recipe.checks)
    if verb == "rollout":
        table.setdefault("policy", recipe.policy)
    if table.get("report_to"):
        table["track"] = {"run_name": recipe.name, **table.get("track", {})}
    return table


def stage_table(path: Path, verb: str, run_code: bool = False) -> dict[str, Any]:
    """One stage's values from a recipe file, the whole file checked first; `run_code` as in `read`."""
    return with_shared(parse(read(path, run_code)), verb)
