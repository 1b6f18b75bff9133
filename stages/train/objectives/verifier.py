"""A generative verifier: fine-tuned to answer a judge's prompt with the verdicts that rules or people gave."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

from schemas.tables import SCORED
from stages.judging.prompt import load_prompt
from stages.train.objectives.sft import imitate
from stages.train.session import Session
from stages.train.supervised.examples import ExampleRows
from stages.train.supervised.verdicts import as_example, judged_entries, verdict_order

RECORD = "verifier.json"


def train_verifier(session: Session) -> None:
    """Imitate the verdict line for each judged completion; only what follows its think block is shown."""
    config, inputs = session.config, session.ctx.inputs
    prompt = load_prompt(config.verifier.asked)
    entries = judged_entries(inputs, config, prompt, session.reject)
    counts = dict(sorted(Counter(e.verdict for e in entries).items()))
    session.ctx.progress.log("judged completions: " + ", ".join(f"{v} {n:,}" for v, n in counts.items()))
    record = {
        "name": config.verifier.name,
        "prompt": prompt.name,
        "prompt_digest": prompt.digest,
        "completions": counts,
    }
    session.writer.artifact(RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    order = verdict_order(entries, config)
    imitate(session, ExampleRows(inputs, order, table=SCORED, made=partial(as_example, prompt)))
