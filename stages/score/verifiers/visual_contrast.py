"""Visual contrast: how much likelier a completion is with the image than without it, under a given policy.

A second form of visual focus, for rows whose facts nobody knows; ours too, as COSMO-RL (arXiv:2510.04196) defines
none. With T tokens y of the whole completion (the think block is where images are described) and a policy p:

    d     = 1/T * sum_t [ log p(y_t | images, words, y_<t) - log p(y_t | words, y_<t) ]
    value = min(1, max(0, d / s)),   s = `contrast.scale`, 1 nat by default

So a completion that the words alone explain gets 0, and one whose tokens the image makes e times likelier gets 1. The
policy is `[score.contrast] policy`; it should not be the one in training, which could learn to please itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.errors import BadSample, UsageError
from stages.core.resources import Kind
from stages.core.stage import Context
from stages.score.config import ContrastTable, ScoreConfig
from stages.score.verifiers.base import (
    BoundVerifier,
    Judgement,
    ModelVerifier,
    Ungraded,
    does_not_apply,
    failed,
    judged,
)

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef

NAME = "visual_contrast"
_MODEL: Kind[Policy] = Kind(NAME, on_device=True)


class _Contrast:
    """A loaded policy and the rule."""

    def __init__(self, table: ContrastTable, policy: Policy) -> None:
        self.table, self.policy = table, policy

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        """A judgement for every completion; one group at a time, as its prompt is common to them."""
        return [self._group(ungraded) for ungraded in window]

    def _group(self, ungraded: Ungraded) -> list[Judgement]:
        from stages.score.models.image_gain import image_gain

        group, count = ungraded.group, len(ungraded.completions)
        if not group.images:
            return [does_not_apply("the row has no image")] * count
        try:
            gains = image_gain(self.policy, group, [c.text for c in ungraded.completions], self.table.batch_tokens)
        except BadSample as error:
            return [failed(str(error))] * count
        except Exception as error:
            # One group's failure must not be the grade of its whole window.
            return [failed(f"{type(error).__name__}: {error}")] * count
        return [_judgement(gain, self.table.scale) for gain in gains]


def _judgement(gain: float, scale: float) -> Judgement:
    verdict = "looked" if gain > 0 else "not_looked"
    return judged(min(1.0, max(0.0, gain / scale)), verdict, None, f"{gain:+.4f} nats a token")


def bind(config: ScoreConfig) -> ModelVerifier:
    """The verifier under a run's config; UsageError where no policy is named."""
    from stages.models.policy_ref import resolve_policy

    table = config.contrast
    if not table.policy:
        raise UsageError(
            f"the verifier {NAME!r} needs a policy", "add --set contrast.policy=POLICY: tiny:NAME, a folder, a run"
        )
    ref = resolve_policy(table.policy)
    identity = {"rule": 1, "policy": ref.id, "scale": table.scale, "dtype": table.dtype}
    gpus = int(table.device != "cpu")
    return ModelVerifier(NAME, identity, lambda ctx: _open(ctx, table, ref).grade_groups, gpus)


def _open(ctx: Context, table: ContrastTable, ref: PolicyRef) -> _Contrast:
    from stages.models.load import load_policy

    def make() -> Policy:
        return load_policy(ref, device=table.device, dtype=table.dtype)

    policy = ctx.resources.get(_MODEL, f"{ref.id} {table.device} {table.dtype}", make)
    if policy.processor.image_token_id is None:
        raise UsageError(f"{table.policy} reads no images", f"{NAME} needs a vision-language model")
    return _Contrast(table, policy)


PLUGIN = BoundVerifier(version=1, bind=bind)
