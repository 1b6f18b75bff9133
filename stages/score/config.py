"""Settings of `cosmo score`: reward formulas, judges, and the models behind other verifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.core.config import option, section
from stages.engines.base import ServerTable
from stages.judging.parsed import LAYOUTS, THINK


@dataclass(frozen=True)
class RewardTable:
    """One label's reward formula, as `[score.rewards.<label>]` gives it."""

    terms: dict[str, float] = option({}, "verifier = weight; what is added up")
    combine: str = option(
        "sum",
        "sum: format is added at format_weight; replace: the terms are all there is; gated: as sum, times format",
        choices=("sum", "replace", "gated"),
    )
    principal: str = option(
        "",
        "The term without whose value there is no reward; else the first that is not format, helpful or visual_focus",
    )
    layout: str = option(
        THINK,
        "The parts a completion is to have: think, then an answer; describe: description, think, answer, each in its "
        "tags; search: turns of think and an action, then think, confidence, answer",
        choices=LAYOUTS,
    )


@dataclass(frozen=True)
class JudgeTable(ServerTable):
    """A generative verifier, as `[score.judges.NAME]` gives it. One with the name of a rule stands in for it."""

    # What these three come to is in the plan's key; how and where they were found is not.
    engine: str = option("auto", "Engine plugin: transformers, openai, ... (cosmo list engine)", affects=False)
    policy: str = option(
        "", "The judge's model: tiny:NAME, a train run, a Hugging Face folder or a hub name", affects=False
    )
    prompt: str = option(
        "", "What it is asked: a name in stages/judging/prompts, or a .toml file; else its own name", affects=False
    )
    score: str = option(
        "verdict",
        "verdict: the verdict's score; probability: weighted with the verdict's probability (two verdicts only)",
        choices=("verdict", "probability"),
    )
    temperature: float = option(0.0, "0 is greedy", low=0.0)
    max_new_tokens: int = option(512, "Longest answer", low=1)
    budget: int = option(0, "Most answers asked for in one run; 0 is no limit", low=0, affects=False)
    give_up_after: int = option(
        32, "Failed answers in a row after which this run asks no more; 0: never", low=0, affects=False
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1", affects=False)
    dtype: str = option(
        "auto", "auto: float32 on a CPU, bfloat16 on a GPU", choices=("auto", "float32", "bfloat16", "float16")
    )
    batch_tokens: int = option(65536, "Most positions (rows x length) decoded at once", low=1, affects=False)


@dataclass(frozen=True)
class ContrastTable:
    """The policy behind `visual_contrast`, as `[score.contrast]` gives it."""

    # Its content is in the plan's key.
    policy: str = option(
        "", "whose log-probs are compared: tiny:NAME, a train run, a Hugging Face folder, a hub name", affects=False
    )
    scale: float = option(1.0, "nats a token that are worth a full grade", low=1e-6)
    device: str = option("auto", "auto, cpu, cuda, cuda:1", affects=False)
    dtype: str = option(
        "auto", "auto: float32 on a CPU, bfloat16 on a GPU", choices=("auto", "float32", "bfloat16", "float16")
    )
    batch_tokens: int = option(16384, "most positions (rows x length) in one forward", low=1, affects=False)


@dataclass(frozen=True)
class RewardModelTable:
    """The model behind the verifier `reward_model`, as `[score.reward_model]` gives it."""

    # Its content is in the plan's key.
    policy: str = option(
        "", "the reward model: a run of cosmo train --objective reward, a folder, a hub name", affects=False
    )
    value: str = option(
        "sigmoid",
        "sigmoid: its number brought to 0..1, as other grades are; raw: its number",
        choices=("sigmoid", "raw"),
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1", affects=False)
    dtype: str = option(
        "auto", "auto: float32 on a CPU, bfloat16 on a GPU", choices=("auto", "float32", "bfloat16", "float16")
    )
    batch_tokens: int = option(16384, "most positions (rows x length) in one forward", low=1, affects=False)


@dataclass(frozen=True)
class KeyFactsTable:
    """What a share of stated facts is worth to `visual_keys` and `text_keys`, as `[score.keys]` gives it."""

    high: float = option(0.8, "share of a row's facts from which on the value is 1", low=0.0, high=1.0)
    low: float = option(0.5, "share from which on it is 0.5; below, 0", low=0.0, high=1.0)
    graded: bool = option(False, "the share itself is the value")


@dataclass(frozen=True)
class PersonTable:
    """What people said of completions, as `[score.person]` names it."""

    # Its content is in the plan's key.
    words: str = option("", "the file that `person` reads: cosmo view writes it", affects=False)


@dataclass(frozen=True)
class RepetitionTable:
    """The n-grams of `repetition`, as `[score.repetition]` gives them."""

    words: int = option(20, "words of an n-gram", low=1)


@dataclass(frozen=True)
class OverlongTable:
    """The limits of `overlong`, as `[score.overlong]` gives them."""

    longest: int = option(0, "tokens from which on the value is -1; 0: the completion's own max_new_tokens", low=0)
    buffer: int = option(0, "tokens before it over which the value falls from 0; 0: a fifth of it", low=0)


@dataclass(frozen=True)
class StepsTable:
    """Verifiers that grade a completion step by step, as `[score.steps]` has it."""

    split: str = option("sentence", "What ends a step: as in guided sampling", choices=("sentence", "line", "tag"))
    value: str = option(
        "share",
        "What the steps that say something to look up come to: share, their mean; lowest, the worst of them",
        choices=("share", "lowest"),
    )


@dataclass(frozen=True)
class ScoreConfig:
    """How completions are graded and what their reward is made of."""

    MOVED: ClassVar[dict[str, str]] = {"recipes": "rewards"}

    # Formulas reach the fingerprint as resolved text, defaults included; the table does not count again.
    rewards: dict[str, RewardTable] = option(
        {}, "reward formulas by label, each in place of the default one for that label", affects=False
    )
    judges: dict[str, JudgeTable] = option({}, "generative verifiers by name")
    # In the plan's key where a verifier that runs is named.
    undecided: dict[str, str] = option(
        {}, "verifier = the judge, or other verifier, that is asked where it is undecided, and decides", affects=False
    )
    contrast: ContrastTable = section(ContrastTable, "the model that `visual_contrast` asks")
    reward_model: RewardModelTable = section(RewardModelTable, "the trained reward model that `reward_model` asks")
    keys: KeyFactsTable = section(KeyFactsTable, "what stated facts are worth to `visual_keys` and `text_keys`")
    person: PersonTable = section(PersonTable, "what people said of completions, for `person`")
    repetition: RepetitionTable = section(RepetitionTable, "the n-grams of `repetition`")
    overlong: OverlongTable = section(OverlongTable, "the limits of `overlong`")
    steps: StepsTable = section(StepsTable, "verifiers that grade a completion step by step")
    format_weight: float = option(1.0, "weight of `format` in formulas that add up")
    visual_weight: float = option(
        0.0, "weight of `visual_focus` in formulas that add up and don't name it; rows without images lack the term"
    )
    helpful_weight: float = option(0.0, "weight of `helpful` in formulas that add up and don't name it")
    # In the plan's key by what the verifiers are called, with their code.
    also: list[str] = option(
        ["refusal"], "verifiers to run on every row beside its formula's; graded, not rewarded", affects=False
    )
    # In the plan's key, with their code.
    checks: list[str] = option(
        [], "instruction checks by where their code is, FILE.py:NAME or MODULE:NAME; as in [prepare]", affects=False
    )
    timeout_s: float = option(
        5.0, "seconds of processor time that one mathematical comparison may take before its child is ended", low=0.1
    )
    regrade: bool = option(
        False, "grade scored input anew, instead of running only verifiers it lacks", flag="--regrade"
    )
    workers: int = option(
        0, "groups graded at a time, each with its own child for mathematics; 0: one a core, at most 8",
        affects=False, flag="--workers", low=0, high=256,
    )  # fmt: skip
    window: int = option(32, "groups that a judge is asked about at once", affects=False, low=1)
