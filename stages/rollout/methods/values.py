"""Values of candidates: what each dimension is thought to come to, and how much each counts for a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError, UsageError
from stages.rollout.methods.guide_table import LABEL, LEARNED, GuideTable

if TYPE_CHECKING:
    from torch import Tensor

    from stages.core.stage import Context
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.models.value_record import ValueRecord
    from stages.rollout.methods.base import Asked


class Values(ABC):
    """What candidates are judged by."""

    dimensions: list[str]
    """The verifiers whose grades are predicted."""

    @abstractmethod
    def weights(self, asked: Asked) -> list[float]:
        """The weight of each dimension for this prompt, by its label or by what it says; they sum to 1."""

    @abstractmethod
    def of(self, asked: Asked, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        """A number a dimension for each candidate, none of them empty, that goes on from the prefix.

        A function of its arguments alone: what else the shard holds may not matter.
        """


@dataclass(frozen=True, slots=True)
class Source:
    """A value model, and which of its dimensions are asked for."""

    ref: PolicyRef
    record: ValueRecord
    dimensions: list[str]


def sources(guide: GuideTable) -> list[Source]:
    """The value models that the table names, without loading any. UsageError for one that can't be asked so."""
    from stages.models.policy_ref import resolve_policy
    from stages.models.value_record import read_record

    named = {"": guide.values} if isinstance(guide.values, str) else guide.values
    found: dict[str, Source] = {}
    for dimension, spec in named.items():
        ref = resolve_policy(spec)
        record = read_record(ref.path)
        if record is None:
            raise UsageError(f"{spec} is no value model", "cosmo train SCORED --objective value makes one")
        if dimension and dimension not in record.dimensions:
            raise UsageError(f"{spec} has no value of {dimension!r}", f"it has: {', '.join(record.dimensions)}")
        if record.step != guide.step:
            raise UsageError(
                f"{spec} learned at the ends of a {record.step}, and guide.step = {guide.step!r}",
                f"--set guide.step={record.step}",
            )
        asked = [dimension] if dimension else record.dimensions
        known = found.get(ref.id)
        found[ref.id] = Source(ref, record, [*known.dimensions, *asked] if known else asked)
        if guide.route == LEARNED and (not record.router or len(found) > 1):
            raise UsageError(
                f"rollout.guide.route = {LEARNED!r} wants one value model with a router, and "
                + (f"{spec} has none" if not record.router else f"{len(found)} are named"),
                "cosmo train SCORED --objective value --set objectives.value.router=true",
            )
    return list(found.values())


def route(guide: GuideTable, dimensions: list[str], routes: dict[str, dict[str, float]], label: str) -> list[float]:
    """The weight of each dimension for a label, summing to 1.

    By label it is the weight of the dimension's term in that label's reward; alike for all where the label has none.
    """
    chosen = routes.get(label, {}) if guide.route == LABEL else guide.route
    given = [float(chosen.get(name, 0.0)) for name in dimensions]
    if sum(given) <= 0:
        given = [1.0] * len(dimensions)
    return [weight / sum(given) for weight in given]


def check_route(guide: GuideTable, dimensions: list[str]) -> None:
    """UsageError for a weight of what is no dimension."""
    if guide.route not in (LABEL, LEARNED) and (strange := sorted(set(guide.route) - set(dimensions))):
        raise UsageError(
            f"guide.route weighs {', '.join(strange)}, and no value model has it",
            f"dimensions: {', '.join(dimensions)}",
        )


class ValueModels(Values):
    """Loaded value models. Each completion's candidates are one forward, so that nothing else in a shard matters."""

    def __init__(self, ctx: Context, guide: GuideTable) -> None:
        from stages.models.load import load_value_model

        config = ctx.config
        self._guide = guide
        self._sources = sources(guide)
        machine = {"device": config.device, "dtype": config.dtype, "trust_remote_code": config.trust_remote_code}
        self._models = [load_value_model(source.ref, **machine) for source in self._sources]
        self.dimensions = [name for source in self._sources for name in source.dimensions]
        if not guide.verifiers:
            check_route(guide, self.dimensions)
        self._routes: dict[str, dict[str, float]] = {}
        for source in self._sources:
            for label, weights in source.record.routes.items():
                own = {name: weight for name, weight in weights.items() if name in source.dimensions}
                self._routes[label] = {**self._routes.get(label, {}), **own}
        # Of the prompt in hand: its candidates come one step after the other.
        self._images: dict[tuple[int, str], dict[str, Tensor]] = {}
        self._routed: dict[str, list[float]] = {}

    def weights(self, asked: Asked) -> list[float]:
        """As `route` has them; the value model's own where they are learned."""
        if self._guide.route != LEARNED:
            return route(self._guide, self.dimensions, self._routes, asked.prompt.label)
        from stages.models.value_model import router_weights

        if asked.request.id not in self._routed:
            (source,), (model,) = self._sources, self._models
            images = self._image_inputs(0, model, asked)
            every = router_weights(model.model, model.processor, asked.request.token_ids, images)
            given = [every[source.record.dimensions.index(name)] for name in self.dimensions]
            self._routed[asked.request.id] = [weight / sum(given) for weight in given]
        return self._routed[asked.request.id]

    def of(self, asked: Asked, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        """Sigmoids at each candidate's last token, all candidates behind one prompt and prefix."""
        import torch

        from stages.models.attention.shared_inputs import TokenGroup
        from stages.models.value_model import value_logits

        rows: list[list[float]] = [[] for _ in candidates]
        ends = [[len(ids)] for ids in candidates]
        for at, (source, model) in enumerate(zip(self._sources, self._models, strict=True)):
            group = TokenGroup([*asked.request.token_ids, *prefix], self._image_inputs(at, model, asked), candidates)
            with torch.no_grad():
                values_KD = value_logits(model.model, model.processor, [group], ends).sigmoid().tolist()
            places = [source.record.dimensions.index(name) for name in source.dimensions]
            for row, values in zip(rows, values_KD, strict=True):
                row += [values[place] for place in places]
        return rows

    def _image_inputs(self, at: int, model: Policy, asked: Asked) -> dict[str, Any]:
        key = at, asked.request.id
        if key not in self._images:
            encoded = model.processor.encode(asked.prompt.messages, asked.prompt.images)
            if encoded.token_ids != asked.request.token_ids:
                raise InputError(
                    f"prompt {asked.request.id} has {len(asked.request.token_ids)} tokens for the policy and"
                    f" {len(encoded.token_ids)} others for the value model {model.ref.spec}",
                    "guide a policy by value models that were made of one with the same tokenizer and processor",
                )
            self._images[key] = encoded.image_inputs
        return self._images[key]

    def forget(self) -> None:
        """Let go of the images and weights of a shard that is done."""
        self._images.clear()
        self._routed.clear()
