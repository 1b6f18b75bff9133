"""Supervised fine-tuning on reference completions (SFT), through TRL's SFTTrainer.

The peak rate where it is left open is arXiv:2509.24776's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.tables import PROMPTS, SCORED
from stages.train.objectives.base import Objective

if TYPE_CHECKING:
    from stages.train.session import Session


class Sft(Objective):
    """Imitate the reference completions of the selected prompts."""

    called = "SFT"
    title = "Supervised fine-tuning"
    reads = (SCORED, PROMPTS)

    def train(self, session: Session) -> None:
        """Token cross-entropy on the completions, in the order that `supervised.examples` gives them."""
        from stages.train.supervised.examples import ExampleRows, example_order, usable_entries
        from stages.train.supervised.imitation import imitate

        config, inputs = session.config, session.ctx.inputs
        order = example_order(usable_entries(inputs, config, session.reject), config)
        imitate(session, ExampleRows(inputs, order))


PLUGIN = Sft()
