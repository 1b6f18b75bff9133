"""What `prepare` writes: one row a prompt, with everything a verifier may need later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from schemas.values import Float32, Image, Int32, Message

NO_TRAINING = "no_training"
"""The flag of rows that a licence or a use keeps out of every training mix."""
HELDOUT_FAMILY = "heldout_family"
"""The flag of rows of a family that training never sees: what generalisation is measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What somebody made of a completion's beginning; the rest of it was dropped and is sampled anew.

    The masks say of each id whose it is: what is neither generated nor written came from an environment.
    """

    by: str
    """Who made it: a person's name, or a rule's."""
    why: str | None = None
    """The reason, in their words."""
    index: int
    """Which completion of the parent row's group it changes."""
    policy_id: str
    """The policy that sampled that completion."""
    seed: int
    """The seed under which it was sampled: with this one, what was not changed comes out again."""
    temperature: float
    """Its temperature."""
    top_p: float
    """Its nucleus."""
    top_k: int
    """Its number of likeliest tokens; 0 is off."""
    noise_id: str
    """The prompt whose noise the completion had: the parent's id, or where that is an edit, its own `noise_id`."""
    noise_index: int
    """The place whose noise it had."""
    at_token: int
    """Ids before this one are kept as they were sampled."""
    token_ids: Sequence[Int32]
    """The ids that completions begin with: the kept ones, then those of the new words. Shape (T,)."""
    logprobs: Sequence[Float32]
    """Log-probs of the kept ids; 0.0 where the policy did not generate one. Shape (T,)."""
    generated: list[bool]
    """Which of them that policy generated. Shape (T,)."""
    written: list[bool]
    """Which of them a person wrote. Shape (T,)."""
    before: str
    """What stood after the kept ids, up to where the edit ends."""
    after: str
    """What stands there now."""
    guided: bool = False
    """The kept ids were chosen among several by value models, and so is whatever goes on from them no sample."""
    text: str
    """What all the ids decode to, for whoever goes on to see that they mean the same."""

    @property
    def kept(self) -> str:
        """The text before the change."""
        return self.text[: len(self.text) - len(self.after)]

    def fits(self, completion: str) -> bool:
        """Whether it is this completion that it changes."""
        return completion.startswith(self.kept + self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """One prompt with its images, its truth and its place in the mix."""

    id: str
    """Content address: see `schemas.identity.prompt_id`. Never a position or a file name."""
    label: str
    """Which reward formula applies: general, knowledge, value, safety, jailbreak, instruction, math, ..."""
    source: str
    """The dataset plugin, and its subset, that produced the row: `builtin`, `math_v:testmini`."""
    task: str
    """The kind of question inside the label: counting, colours, figstep, ..."""
    messages: list[Message]
    """The conversation up to the completion to be sampled; ends with a user turn."""
    images: list[Image] = field(default_factory=list)
    """The images, once, in the order of the image parts."""
    split: str = "train"
    """`train` or `test`; scenes never appear in both."""
    answer: str | None = None
    """The reference answer, where one exists."""
    answer_kind: str | None = None
    """How to compare: number, choice, choices, text, math; None where there is no reference."""
    accepted: list[str] = field(default_factory=list)
    """Further references, as right as `answer`."""
    answer_rule: str | None = None
    """How exact, as a JSON object: `{"relative": 0.05}` or `{"absolute": 0.01}` for numbers, `{"partial": 0.5}` for
    some of several right options and no wrong one; None for exactly."""
    choices: list[str] = field(default_factory=list)
    """The options of a choice question, in order; the first is A."""
    reference_response: str | None = None
    """A whole completion (think block and answer) to imitate in SFT."""
    facts: list[str] = field(default_factory=list)
    """What the image shows, one short statement each, where it is known."""
    key_facts: list[str] = field(default_factory=list)
    """The facts that the question needs."""
    visual_keys: list[str] = field(default_factory=list)
    """Those that have to be seen, one short statement each: no result, no knowledge, nothing that the words tell."""
    text_keys: list[str] = field(default_factory=list)
    """Those that the words tell: who, what, how many, on which condition."""
    risk: str | None = None
    """Where the risk is carried: image, text, both; also set on benign twins; None elsewhere."""
    category: str | None = None
    """The harm category or topic, in the source's own words."""
    harmful: bool | None = None
    """True: a harmful request. False: known harmless, so that a refusal is needless. None: not a safety row."""
    hazards: list[str] = field(default_factory=list)
    """Words that name the risk; a warning is specific when it uses one of them."""
    unsafe_markers: list[str] = field(default_factory=list)
    """Phrases whose presence in a completion to this harmful row means compliance; empty where no rule can tell."""
    family: str | None = None
    """The augmentation family that made the row; None for a row as its source has it."""
    parent_id: str | None = None
    """The id of the row it was augmented from, or of the harmful row whose benign twin it is."""
    instructions: list[str] = field(default_factory=list)
    """Checkable instructions as JSON objects `{"kind": ..., ...}`, one string each."""
    scene: str | None = None
    """Content key of the scene; what keeps train and test apart."""
    flags: list[str] = field(default_factory=list)
    """Licence and use flags: `no_training` keeps a row out of every training mix."""
    extra: str | None = None
    """Source columns with no field of their own, as one JSON object."""
    edit: Edit | None = None
    """What its completions begin with, where somebody edited one of the parent's; never in the split `test`."""


def source_name(source: str) -> str:
    """A row's source without its subset: `math_v` of `math_v:testmini`."""
    return source.partition(":")[0]


# Several figures ask about one row after the other.
@lru_cache(maxsize=8)
def extra_columns(extra: str | None) -> Mapping[str, Any]:
    """The columns that a row's `extra` holds; none where it holds no JSON object. Not to be written to."""
    try:
        found = json.loads(extra or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
