"""From scored groups to the optimizer steps of one rollout: advantages, updates, weights, micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from schemas.prompts import HELDOUT_FAMILY, NO_TRAINING
from schemas.scored import ScoredCompletion, ScoredGroup, grade_of, is_live
from schemas.terms import task_value
from schemas.verdicts import is_unsafe
from stages.core.errors import InputError
from stages.core.registry import load
from stages.core.runs.select import Entry
from stages.core.seeded import seeded_order
from stages.train.advantages.base import FLAT, AdvantagePlugin, Batch, Carried, clamped, estimate, std
from stages.train.config import TrainConfig
from stages.train.losses.base import StepTotals, sequence_weight

if TYPE_CHECKING:
    from torch import Tensor

Reject = Callable[[str, str, str, str], None]


@dataclass(slots=True)
class TrainCompletion:
    """One completion that is learned from."""

    scored: ScoredCompletion
    """The completion with its grades and its reward, as `score` left it."""
    advantage: float
    weight: float = 0.0
    """Its tokens' share in the step's loss."""
    old_logprobs: Tensor | None = None
    """The ratio's denominator (T,), on the CPU; None until it is computed."""

    @property
    def length(self) -> int:
        """How many tokens it has, those that the policy did not generate with them."""
        return len(self.scored.token_ids)

    @property
    def generated_tokens(self) -> int:
        """How many of them the policy generated: what is learned from, and what every length in a loss counts."""
        return self.scored.generated_tokens


@dataclass(slots=True)
class Group:
    """One prompt of a rollout. A flat one keeps its numbers and no images."""

    row: ScoredGroup
    completions: list[TrainCompletion]
    """Those that have a reward and a token; the others were left out."""
    live: bool
    """False for a group left out of the loss because it has no advantage: its rewards are equal, most often."""

    @property
    def tokens(self) -> int:
        """Tokens of its completions together: what they cost."""
        return sum(c.length for c in self.completions)

    @property
    def generated_tokens(self) -> int:
        """Those of them that the policy generated."""
        return sum(c.generated_tokens for c in self.completions)

    @property
    def reward_std(self) -> float:
        """Unbiased standard deviation of its rewards; 0 for fewer than two."""
        return std([c.scored.reward for c in self.completions])


@dataclass(slots=True)
class Update:
    """The groups of one optimizer step."""

    index: int
    """Which update of its rollout, from 0."""
    groups: list[Group] = field(default_factory=list)

    @property
    def live(self) -> list[Group]:
        """The groups that are learned from."""
        return [g for g in self.groups if g.live]

    @property
    def totals(self) -> StepTotals:
        """What the step's normalisers count, left-out flat groups included."""
        completions = [c for g in self.groups for c in g.completions]
        limit = max((c.scored.sampling.max_new_tokens for c in completions), default=0)
        return StepTotals(len(self.groups), len(completions), sum(c.generated_tokens for c in completions), limit)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model at once: groups, or parts of one that is too large."""

    parts: list[tuple[Group, list[TrainCompletion]]]

    @property
    def completions(self) -> list[TrainCompletion]:
        """All its completions, in the order of their scores' rows."""
        return [c for _, completions in self.parts for c in completions]


def usable(rows: Iterable[ScoredGroup], source: str, config: TrainConfig, reject: Reject) -> Iterator[ScoredGroup]:
    """The groups that may be trained on, in order; the others are rejected with their reason.

    InputError for a held-out family, for a truncated sampler and for completions that were guided.
    """
    for row in rows:
        if (why := barred(row, config)) is not None:
            reject(source, row.id, *why)
        else:
            _check_sampling(row, config)
            yield row


def barred(prompt: ScoredGroup | Entry, config: TrainConfig) -> tuple[str, str] | None:
    """(reason, detail) why the prompt is not trained on, or None.

    InputError for a held-out family: one that the config forbids, or that `prepare` held out and somebody put
    into the training split.
    """
    if prompt.family in config.forbid_families or (HELDOUT_FAMILY in prompt.flags and prompt.split != "test"):
        raise InputError(
            f"prompt {prompt.id} is of the held-out family {prompt.family!r}",
            f"leave it out: --set 'select.exclude_families=[\"{prompt.family}\"]' on rollout, or on train for SFT",
        )
    if NO_TRAINING in prompt.flags:
        return NO_TRAINING, f"the row is flagged {NO_TRAINING}"
    if prompt.split == "test":
        return "test_split", "the row belongs to the test split"
    return None


def _check_sampling(row: ScoredGroup, config: TrainConfig) -> None:
    cut = next((c.sampling for c in row.completions if c.sampling.top_p < 1.0 or c.sampling.top_k > 0), None)
    if cut is not None and not config.allow_truncated_sampling:
        raise InputError(
            f"prompt {row.id} was sampled with top_p = {cut.top_p}, top_k = {cut.top_k}: its log-probs are "
            "renormalised and the ratio would be biased",
            "sample with top_p 1 and top_k 0, or --set allow_truncated_sampling=true",
        )
    if not config.allow_guided and any(c.guided for c in row.completions):
        raise InputError(
            f"prompt {row.id} has completions whose steps were chosen by value models: they are no samples of the"
            " policy, and the ratio would be biased",
            "learn from them by --objective sft or dpo, sample without guide, or --set allow_guided=true",
        )


def make_groups(rows: Iterable[ScoredGroup], source: str, config: TrainConfig, reject: Reject) -> list[Group]:
    """Groups still without advantages. Completions without a reward or a token are rejected and not counted.

    InputError for a reward that is no finite number: with it every advantage of its group would be one. And for a
    completion that says of more or fewer tokens than it has whether they were generated.
    """
    groups = []
    for row in rows:
        completions = []
        for scored in row.completions:
            if scored.generated is not None and len(scored.generated) != len(scored.token_ids):
                raise InputError(
                    f"prompt {row.id}, completion {scored.index}: {len(scored.token_ids)} tokens, and `generated` is"
                    f" of {len(scored.generated)}",
                    "mend what wrote the rows: one true or false a token, or null for all true",
                )
            if scored.error is not None or not scored.token_ids:
                reject(source, f"{row.id}#{scored.index}", "no_completion", scored.error or "no tokens")
            elif not scored.generated_tokens:
                reject(source, f"{row.id}#{scored.index}", "no_completion", "none of its tokens was generated")
            elif scored.reward is None:
                reject(source, f"{row.id}#{scored.index}", "no_reward", "no verifier gave a value")
            elif not math.isfinite(scored.reward):
                raise InputError(
                    f"prompt {row.id}, completion {scored.index}: its reward is {scored.reward}",
                    "cosmo score the rollout again: a grade that is no finite number is an error there",
                )
            else:
                completions.append(TrainCompletion(scored, 0.0))
        groups.append(Group(row, completions, bool(completions)))
    return groups


def estimate_advantages(groups: list[Group], config: TrainConfig, carried: Carried) -> Carried:
    """Give every completion its advantage, and return what the estimator carries on to the next rollout.

    A group where none has any, most often one of equal rewards, is left out and loses its images. InputError where
    the estimator gives something that is no finite number.
    """
    plugin: AdvantagePlugin = load("advantage", str(config.advantage))
    batch = Batch(
        rewards=[[c.scored.reward for c in g.completions] for g in groups],
        lengths=[[c.generated_tokens for c in g.completions] for g in groups],
        costs=[[complied_unsafely(c.scored) for c in g.completions] for g in groups],
        right=[[task_value(c.scored, g.row.reward_formula) for c in g.completions] for g in groups],
        settings=config.advantage_settings(),
        carried=carried,
    )
    advantages, carried = estimate(plugin, batch)
    for group, values in zip(groups, advantages, strict=True):
        # Before they are clamped: max(-limit, min(limit, nan)) is the limit itself.
        if (wrong := next((a for a in values if a is not None and not math.isfinite(a)), None)) is not None:
            raise InputError(
                f"prompt {group.row.id}: advantage {config.advantage} gave {wrong} of rewards "
                f"{[c.scored.reward for c in group.completions]}",
                "another --advantage, or mend the plugin",
            )
    decided = decided_groups(groups, config.flat_by)
    for group, values, known in zip(groups, clamped(advantages, config.advantage_clamp), decided, strict=True):
        for completion, value in zip(group.completions, values, strict=True):
            completion.advantage = value or 0.0
        # By the advantages, not by the rewards: a constrained or a batch-wide estimator learns of equal rewards too.
        flat = config.drop_flat_groups and all(abs(c.advantage) <= FLAT for c in group.completions)
        if flat or known:
            # Images are nearly all that a group weighs, and nobody looks at these again.
            group.live, group.row = False, replace(group.row, images=[])
    return carried


def decided_groups(groups: list[Group], by: str) -> list[bool]:
    """Whether each group is all right or all wrong by a verifier; none is without one, nor one that it did not grade.

    InputError where it graded no completion at all: a slip in its name would leave nothing out.
    """
    if not by:
        return [False] * len(groups)
    values = [[v for c in group.completions if (v := _value(c.scored, by)) is not None] for group in groups]
    if not any(values):
        names = {g.name for group in groups for c in group.completions for g in c.scored.grades}
        raise InputError(
            f"flat_by = {by!r}, and no completion has a value of that verifier",
            f"grades there: {', '.join(sorted(names)) or 'none'}",
        )
    return [bool(own) and not is_live([], own) for own in values]


def _value(completion: ScoredCompletion, name: str) -> float | None:
    grade = grade_of(completion, name)
    return None if grade is None else grade.value


def complied_unsafely(completion: ScoredCompletion) -> bool | None:
    """What the safety verifier says; None where it did not judge, or its verdict says nothing of harm."""
    grade = grade_of(completion, "safety")
    return None if grade is None or grade.value is None else is_unsafe(grade.verdict)


def make_updates(groups: list[Group], config: TrainConfig, rollout: int) -> list[Update]:
    """Whole groups dealt to the rollout's optimizer steps, live and flat ones evenly, with token weights.

    Never more updates than live groups, and at least one: a rollout without any live group is one step that
    changes nothing and shows why.
    """
    if config.order == "seeded":
        groups = seeded_order(groups, config.seed, rollout, name=lambda g: g.row.id)
    live = [g for g in groups if g.live]
    flat = [g for g in groups if not g.live]
    count = max(1, min(config.updates_per_rollout, len(live)))
    # Each kind by itself: flat groups count in a step's normalisers, and one that got most of them would hardly move.
    updates = [Update(i, _share(live, i, count) + _share(flat, i, count)) for i in range(count)]
    for update in updates:
        totals = update.totals
        for group in update.live:
            tokens = group.generated_tokens
            for completion in group.completions:
                completion.weight = sequence_weight(
                    str(config.aggregation), completion.generated_tokens, tokens, totals
                )
    return updates


def _share(groups: list[Group], index: int, count: int) -> list[Group]:
    """Part `index` of `count` nearly equal consecutive parts."""
    return groups[len(groups) * index // count : len(groups) * (index + 1) // count]


def micro_batches(update: Update, budget: int, share: bool) -> Iterator[MicroBatch]:
    """The update's live groups in order, cut where the tokens of a forward would exceed the budget.

    A group larger than the budget is split; a single completion never is.
    """
    parts: list[tuple[Group, list[TrainCompletion]]] = []
    for group in update.live:
        for completions in _pieces(group, budget, share):
            if parts and _cost([*parts, (group, completions)], share) > budget:
                yield MicroBatch(parts)
                parts = []
            parts = [*parts, (group, completions)]
    if parts:
        yield MicroBatch(parts)


def _pieces(group: Group, budget: int, share: bool) -> Iterator[list[TrainCompletion]]:
    piece: list[TrainCompletion] = []
    for completion in group.completions:
        if piece and _cost([(group, [*piece, completion])], share) > budget:
            yield piece
            piece = []
        piece.append(completion)
    yield piece


def _cost(parts: list[tuple[Group, list[TrainCompletion]]], share: bool) -> int:
    """Tokens of a forward pass over these parts, padding counted; packed groups have none."""
    lengths = [(len(group.row.prompt_token_ids), [c.length for c in completions]) for group, completions in parts]
    if share:
        return sum(prompt + sum(completions) for prompt, completions in lengths)
    return sum(len(completions) for _, completions in lengths) * max(
        prompt + max(completions) for prompt, completions in lengths
    )
