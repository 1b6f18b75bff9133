"""Options of `cosmo export`."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class ExportConfig:
    """Which form the model takes, where it goes besides the run folder, and what its card says."""

    # Its name and its code are in the plan's key; where the code lies is not.
    target: str = option(
        "huggingface",
        "Export target plugin (cosmo list export), FILE.py:NAME or MODULE:NAME",
        flag="--target",
        affects=False,
    )
    to: str = option("", "Also place the model folder here, whole or not at all", affects=False, flag="--to")
    overwrite: bool = option(False, "Replace what is at --to even where it is no earlier export", affects=False)
    dtype: str = option("float32", "Type of the stored weights", flag="--dtype", choices=("float32", "bfloat16"))
    evals: str = option(
        "",
        "Eval run folder that measured this policy; its table goes into the card",
        affects=False,
        flag="--evals",
    )
    name: str = option("", "The model's name in its card; not given: the train run's")
    license: str = option("", "Licence of the weights, as a Hugging Face licence id")
    max_shard_size: str = option("5GB", "Largest weights file")
    tolerance: float = option(
        1e-4,
        "Largest log-prob difference allowed after reloading in a fresh process",
        affects=False,
        low=0.0,
    )
    vllm_check: bool = option(False, "Also load the folder in vLLM and compare log-probs")
    vllm_tolerance: float = option(0.05, "Largest log-prob difference allowed in vLLM.", affects=False, low=0.0)
    device: str = option("cpu", "Where the log-probs to compare with are computed", affects=False)
