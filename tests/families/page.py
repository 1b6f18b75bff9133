"""`python -m tests.families.page [FOLDER ...]` checks every toy and writes docs/reference/models.md from what came out.

FOLDER: further models to check, ordinary Hugging Face folders named after their families. Some processors want
torchvision (the extra `vision`), which the tests' environment lacks.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.check.measure import EXACT, CheckResult, check_model
from tests.families.chain import STAGES, Chain, checked_here
from tests.families.toys import TOYS, build

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"
_HEAD = """# Model families

<!-- Written by `python -m tests.families.page` from toys of each family: edit there. -->

`cosmo check MODEL` compares what cosmo samples and trains with what a model computes by itself (`generate`
over everything that the family's processor returns, one prompt at a time). Below are toys of each family, made from
transformers' own classes with random weights, in float32 on a CPU without torchvision; a number is the largest
difference of a log-prob in nats over words, one image, and two images of different sizes, at temperature 0.7, in padded
batches. Rounding is 1e-6 to 1e-5; the check fails above 1e-4, and RL runs it by itself before a policy's first step.

*By commands* is the whole chain on prompts of words, of one image in two sizes, and of two images: prepare, rollout,
score, RL with all weights and with LoRA, SFT, export, and the exported folder loaded anew. *all* says that every stage
came to its end, no batch failed, and RL's log-probs before its first update are the sampler's; what a family refuses is
a rejected row, with its reason. *Chunked head* says that RL never holds a table of logits.

A family that is not here works as far as its own classes describe it: run the check. Processors of Pixtral, Mistral 3,
Gemma 4, Phi-4 and SmolVLM want `cosmo-rl[vision]`.

| family | images | sampling | RL | RL, prompts shared | SFT | prompts shared | chunked head | by commands |
|---|---|---|---|---|---|---|---|---|
"""


_FURTHER = """
Further toys, made elsewhere and given to the page by their folders. SmolVLM, Pixtral, Mistral 3 and Gemma 4 were read
with `cosmo-rl[vision]`. Phi-4's processor counts tokens for images of 448 pixels whatever the model's config says: on a
toy with a tower of that size the check finds words, one image and two images exact to 2e-06; with another tower the
model's forward tells, and each prompt with an image is an error. Idefics2, Janus and Ovis2 were checked as well: each
is exact to 2e-06, without torchvision. BLIP-2 is not sampled: its forward takes no cache.

Tried by the check, by a plain forward beside it and by the commands, on toys that are not kept: Aria, GOT-OCR 2, Ernie
4.5 VL, with torchvision Llama 4, LFM2-VL, Kimi K2.5 and Step 3.7, and of words gpt-oss, DeepSeek-V3, LFM2 and its MoE,
Jamba, Falcon-H1, Falcon-Mamba, GLM-4 MoE, Bamba, SmolLM3, OLMo 3, Cohere 2, Granite MoE hybrid and PhiMoE are exact to
4e-06. GOT-OCR 2 has 256 tokens an image whatever its tower gives: where that differs, each image is an error. MiniCPM-V
4.6 takes words and one image; images of two sizes in one prompt the check refuses, for its forward cuts all by the
first. Zamba 2 is refused: one token at a time it computes otherwise (3e-04) than over the whole. RWKV, RecurrentGemma
and xLSTM keep what they read in places of their own, and are not sampled.

| family | images | sampling | RL | RL, prompts shared | SFT | prompts shared | chunked head | by commands |
|---|---|---|---|---|---|---|---|---|
"""


def rows(models: Iterable[Path]) -> Iterator[str]:
    """A line of the table for each model folder."""
    with tempfile.TemporaryDirectory() as scratch, patch("stages.export.verify.in_fresh_process", checked_here):
        os.environ["COSMO_CACHE"] = str(Path(scratch) / "cache")
        for folder in models:
            result = check_model(load_policy(resolve_policy(str(folder)), device="cpu"))
            yield line(folder.name, result, Chain(folder, Path(scratch) / folder.name).go())


def toys(place: Path) -> Iterator[Path]:
    """Every toy's folder, made when it is its turn."""
    return (build(name, place / name) for name in sorted(TOYS))


def line(name: str, result: CheckResult, chain: Chain) -> str:
    """What came out for one toy, as a line of the table."""
    cells = [name, result.features["images"]]
    for way in ("sampler", "trainer", "trainer, prompts shared", "supervised"):
        gaps = [c.gap for c in result.cells if c.way == way]
        cells.append("" if not gaps else "fails" if None in gaps else f"{max(g for g in gaps if g is not None):.0e}")
    cells += [result.features["prefix sharing"], result.features["chunked head"], by_commands(chain)]
    return f"| {' | '.join(cells)} |"


def by_commands(chain: Chain) -> str:
    """`all`, with the prompts that were refused; or what did not come to its end."""
    if missing := [name for name in STAGES if name not in chain.done]:
        return f"{missing[0]} fails: {chain.failed.get(missing[0], '')}"
    if (halved := chain.report("rollout").get("halved_batches")) is not None:
        return f"some batches failed: {halved}"
    if chain.gap() > EXACT:
        return f"RL is {chain.gap():.0e} off"
    return ", ".join(
        ["all", *(f"{count} prompts refused: {reason}" for reason, count in chain.rejected("rollout").items())]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        table = "".join(f"{row}\n" for row in rows(toys(Path(made))))
    further = "".join(f"{row}\n" for row in rows(Path(name) for name in sorted(sys.argv[1:])))
    PAGE.write_text(_HEAD + table + (_FURTHER + further if further else ""), encoding="utf-8")
