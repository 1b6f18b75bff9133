"""Supervised fine-tuning on reference completions (SFT), through TRL's SFTTrainer.

With `min_reward` it imitates the completions of scored groups that earned so much, in place of the references:
rejection sampling, a teacher's completions, or those that people edited, whole.

The peak rate where it is left open is arXiv:2509.24776's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.tables import PROMPTS, SCORED
from stages.core.config import key_of, option
from stages.core.registry import short_name
from stages.core.stage import Context
from stages.train.objectives.base import Objective

if TYPE_CHECKING:
    from stages.train.session import Session


@dataclass(frozen=True)
class SftOptions:
    """[train.objectives.sft]: what is imitated, and what of it is not learned."""

    min_reward: float | None = option(
        None, "Imitate the completions of scored groups with at least this reward; not given: the rows' references"
    )
    context: list[str] = option(
        [],
        "Tags whose parts of a completion are read and not learned, where it does not say itself what an environment "
        'wrote: ["results", "document"]',
    )


class Sft(Objective):
    """Imitate the reference completions of the selected prompts, or their completions that earned enough."""

    called = "SFT"
    title = "Supervised fine-tuning"
    reads = (SCORED, PROMPTS)
    settings = SftOptions

    def plan_key(self, ctx: Context) -> dict[str, Any]:
        """Its own settings where they are not at their defaults: runs of before had none."""
        own = key_of(ctx.config.objective_settings())
        if "min_reward" in own:
            # Completions with an environment's words in them were left out once.
            own["observed"] = "read"
        return {short_name(ctx.config.objective): own} if own else {}

    def train(self, session: Session) -> None:
        """Token cross-entropy on the completions, in the order that `supervised.examples` gives them."""
        from stages.train.supervised.examples import ExampleRows, example_order, usable_entries
        from stages.train.supervised.imitation import imitate, in_tags
        from stages.train.supervised.rewarded import as_example, given_in, rewarded_entries, rewarded_order

        config, inputs = session.config, session.ctx.inputs
        own = config.objective_settings()
        # An objective made from this one may have settings of its own in their place.
        options = own if isinstance(own, SftOptions) else SftOptions()
        least = options.min_reward
        if least is None:
            order = example_order(usable_entries(inputs, config, session.reject), config)
            imitate(session, ExampleRows(inputs, order), partial(in_tags, tags=options.context))
            return
        chosen = rewarded_order(rewarded_entries(inputs, config, least, session.reject), config)
        examples = ExampleRows(inputs, chosen, table=SCORED, made=as_example)
        imitate(session, examples, partial(given_in, tags=options.context))


PLUGIN = Sft()
