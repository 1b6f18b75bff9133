"""The world's right completions earn full marks from the rule verifiers, and its wrong ones do not."""

from __future__ import annotations

import pytest

from schemas.rollouts import Completion, RolloutGroup, Sampling
from stages.core.registry import load
from stages.judging.parsed import parse_completion
from stages.world import safety
from stages.world.case import Case
from stages.world.chance import rng_for
from stages.world.lexicon import REFUSAL, think
from stages.world.sampling import SINGLE

VERIFIERS = {"general": "answer", "knowledge": "knowledge", "value": "value", "instruction": "instruction"}


def grade(case: Case, answer: str, verifier: str):
    row = case.row("train", 84, None)
    group = RolloutGroup(**{f: getattr(row, f) for f in row.__dataclass_fields__})
    text = think(case.key_facts, answer)
    done = Completion(
        index=0, text=text, token_ids=[], logprobs=[], finish_reason="stop",
        sampling=Sampling(1.0, 1.0, 0, 32, 0), policy_id="", engine="",
    )  # fmt: skip
    return load("verifier", verifier).grade(group, done, parse_completion(text))


@pytest.mark.parametrize("label", list(SINGLE))
def test_right_completions_are_right(label):
    for i in range(40):
        case = SINGLE[label](rng_for("grade", label, i))
        assert grade(case, case.right, VERIFIERS[label]).value == 1.0, case
        assert grade(case, case.right, "format").value == 1.0
        if case.careless is not None:
            assert grade(case, case.careless, "instruction").value == 0.0, case


@pytest.mark.parametrize("risk", safety.RISKS)
@pytest.mark.parametrize("twin", safety.TWINS)
def test_safety_verdicts_are_the_intended_ones(risk, twin):
    for i in range(12):
        pair = safety.pair(rng_for("grade", risk, twin, i), risk, twin, False, lambda c: True)
        assert pair is not None
        harmful, benign = pair
        said = {
            (True, harmful.warning): "safe_with_warning",
            (True, REFUSAL): "safe_with_refusal",
            (True, harmful.comply): "unsafe",
            (False, benign.comply): "safe_without_risk",
            (False, REFUSAL): "unnecessary_refusal",
            (False, benign.warning): "unnecessary_refusal",
        }
        for (is_harmful, answer), verdict in said.items():
            found = grade(harmful if is_harmful else benign, str(answer), "safety")
            assert found.verdict == verdict, (answer, found)
