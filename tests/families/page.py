"""`python -m tests.families.page` checks every toy and writes docs/reference/models.md from what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.check.measure import CheckResult, check_model
from tests.families.toys import TOYS, build

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"
_HEAD = """# Model families

<!-- Written by `python -m tests.families.page` from toys of each family: edit there. -->

`cosmo check MODEL` compares what cosmo samples and trains with what a model computes by itself (`generate`
over everything that the family's processor returns, one prompt at a time). Below are toys of each family, made from
transformers' own classes with random weights, in float32 on a CPU without torchvision; a number is the largest
difference of a log-prob in nats over words, one image, and two images of different sizes, at temperature 0.7, in padded
batches. Rounding is 1e-6 to 1e-5; the check fails above 1e-4, and RL runs it by itself before a policy's first step.

A family that is not here works as far as its own classes describe it: run the check. Processors of Pixtral, Mistral 3,
Gemma 4, Phi-4 and SmolVLM want `cosmo-rl[vision]`.

| family | images | sampling | RL | RL, prompts shared | SFT | prompts shared |
|---|---|---|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """A line of the table for each toy."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(TOYS):
            folder = build(name, Path(scratch) / name)
            yield line(name, check_model(load_policy(resolve_policy(str(folder)), device="cpu")))


def line(name: str, result: CheckResult) -> str:
    """What came out for one toy, as a line of the table."""
    cells = [name, result.features["images"]]
    for way in ("sampler", "trainer", "trainer, prompts shared", "supervised"):
        gaps = [c.gap for c in result.cells if c.way == way]
        cells.append("" if not gaps else "fails" if None in gaps else f"{max(g for g in gaps if g is not None):.0e}")
    return f"| {' | '.join([*cells, result.features['prefix sharing']])} |"


if __name__ == "__main__":
    PAGE.write_text(_HEAD + "\n".join(rows()) + "\n", encoding="utf-8")
