"""A generative verifier: fine-tuned to answer a judge's prompt with the verdicts that rules or people gave."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.tables import SCORED
from stages.core.config import key_of, option
from stages.core.errors import UsageError
from stages.train.objectives.base import Objective

if TYPE_CHECKING:
    from stages.core.stage import Context
    from stages.train.session import Session

RECORD = "verifier.json"
"""What the verifier was made to judge, beside its policy."""


@dataclass(frozen=True)
class VerifierOptions:
    """Which verdicts a verifier learns to give."""

    name: str = option("", "The grade whose verdicts are learned: safety, value, ...")
    # What the prompt file says is in the plan's key; where it lies is not.
    prompt: str = option(
        "", "How it is asked: a judge prompt by name, or a .toml file; not given: the one called like the grade",
        affects=False,
    )  # fmt: skip
    balance: bool = option(True, "As many examples of each verdict, rare ones repeated; else as often as they come")
    max_examples: int = option(0, "Different completions learned from, at most; 0: all", low=0)

    @property
    def asked(self) -> str:
        """The judge prompt, by name or path."""
        return self.prompt or self.name


class Verifier(Objective):
    """Imitate the verdict line for each judged completion."""

    called = "a verifier"
    title = "Verifier training"
    # It answers judges' prompts: no phase after it could go on from that as from a policy.
    phase = False
    settings = VerifierOptions

    def check(self, ctx: Context) -> None:
        """The inputs; UsageError where it is not said whose verdicts are to be learned."""
        super().check(ctx)
        if not ctx.config.objective_settings().name:
            raise UsageError(
                "whose verdicts the verifier is to learn is not said", "--set objectives.verifier.name=safety"
            )

    def plan_key(self, ctx: Context) -> dict[str, Any]:
        """Its settings, with the words of its prompt."""
        from stages.judging.prompt import load_prompt

        options = ctx.config.objective_settings()
        return {"verifier": {**key_of(options), "prompt": load_prompt(options.asked).digest}}

    def train(self, session: Session) -> None:
        """SFT on conversations that end in the verdict; only what follows a think block is shown."""
        from stages.judging.prompt import load_prompt
        from stages.train.supervised.examples import ExampleRows
        from stages.train.supervised.imitation import imitate
        from stages.train.supervised.verdicts import as_example, judged_entries, verdict_order

        config, inputs = session.config, session.ctx.inputs
        options: VerifierOptions = config.objective_settings()
        prompt = load_prompt(options.asked)
        entries = judged_entries(inputs, config, prompt, session.reject)
        counts = dict(sorted(Counter(e.verdict for e in entries).items()))
        session.ctx.progress.log("judged completions: " + ", ".join(f"{v} {n:,}" for v, n in counts.items()))
        record = {
            "name": options.name,
            "prompt": prompt.name,
            "prompt_digest": prompt.digest,
            "completions": counts,
        }
        session.writer.artifact(RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        order = verdict_order(entries, config)
        imitate(session, ExampleRows(inputs, order, table=SCORED, made=partial(as_example, prompt)))


PLUGIN = Verifier()
