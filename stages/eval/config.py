"""Options of `cosmo eval`."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option, section


@dataclass(frozen=True)
class VerifierCheck:
    """A verifier to measure: two names of grades, given together."""

    gold: str = option("", "The grade whose verdicts are taken for true: a rule's, or people's")
    judge: str = option("", "The grade that is measured against it")


@dataclass(frozen=True)
class PeaksTable:
    """Safety-information peaks, as `[eval.peaks]` asks for them: an extra forward of warnings and safe references."""

    # Which model it is, is in the plan's key.
    policy: str = option("", "The model whose states are looked at, as for rollout; none: no such probe", affects=False)
    rows: int = option(200, "Completions looked at, at most", low=2)
    dims: int = option(
        256, "Coordinates of a state; wider ones are projected, as the cost grows with their cube", low=8
    )
    draws: int = option(2000, "Permutations behind each p", low=100)
    device: str = option("auto", "auto, cpu, cuda, cuda:1", affects=False)
    dtype: str = option(
        "auto", "auto: float32 on a CPU, bfloat16 on a GPU", choices=("auto", "float32", "bfloat16", "float16")
    )


@dataclass(frozen=True)
class EvalConfig:
    """What is measured, how the policies are called, and what the report shows."""

    # Which they come to, and their code, is in the plan's key.
    metrics: list[str] = option(
        [], "Metric plugins to compute, by name, FILE.py:NAME or MODULE:NAME; none named: all", affects=False
    )
    packs: list[str] = option(
        [],
        "Public benchmarks to give the figures of: a pack (safety, value, capability, instruction, safework), a "
        "benchmark's name, or a TOML file; then only metrics that are named stand beside them",
        affects=False,
        flag="--pack",
    )
    names: list[str] = option(
        [],
        "Names of the policies: one for each input folder (a repeated name pools folders), or one for "
        "each policy in the order the folders bring them; the first is what others are compared with",
        flag="--policy-name",
    )
    heldout_families: list[str] = option(
        [],
        "Augmentation families that training never saw; none named: rows flagged `heldout_family`.",
        flag="--heldout",
    )
    paired: list[str] = option(
        [], "Families to compare with the rows they were made of, task by task: the settings of a study"
    )
    calibration_bins: int = option(10, "Bins of stated confidence in the expected calibration error", low=1)
    verifier: VerifierCheck = section(VerifierCheck, "A verifier to measure")
    peaks: PeaksTable = section(PeaksTable, "Safety-information peaks, an optional probe of a model's states")
    training: list[str] = option(
        [], "Train run folders whose steps the report draws, in order", affects=False, flag="--training"
    )
    report: str = option("", "Also copy report.html to this file", affects=False, flag="--report")
    title: str = option("Evaluation", "Heading of the report")
    sample: int = option(60, "Prompts shown in the report", low=0, high=500)
    sample_completions: int = option(3, "Completions shown a prompt and policy", low=1, high=16)
    sample_megabytes: float = option(3.0, "Size the report's sample may take, images included", low=0.1, high=50.0)
    image_pixels: int = option(240, "Longest side of an image in the report", low=32, high=1024)
    seed: int = option(0, "Which prompts the sample draws")
