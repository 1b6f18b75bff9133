"""Does vLLM load the folder and agree? `python -m stages.export.vllm_check FOLDER`.

vLLM scores the recorded text probes as prompts; its log-probs are compared with the policy's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import UnavailableError
from stages.export.verify import RECORD, main


def require_vllm() -> None:
    """UnavailableError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UnavailableError(
            "vllm_check: vLLM is not installed", "pip install 'cosmo-rl[vllm]', or leave it out"
        )


def check(folder: Path, tolerance: float) -> dict[str, Any]:
    """Load the folder in vLLM and compare the log-probs of the text probes."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # vLLM writes to stdout; the report is the last line of it.
    import vllm

    probes = [
        p for p in json.loads((folder / RECORD).read_text(encoding="utf-8"))["probes"] if not p["picture"]
    ]
    longest = max(len(p["token_ids"]) + len(p["reply_ids"]) for p in probes)
    engine = vllm.LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=longest + 8,
        gpu_memory_utilization=0.3,
    )
    wanted = vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    prompts = [{"prompt_token_ids": p["token_ids"] + p["reply_ids"]} for p in probes]
    gaps = []
    for probe, output in zip(probes, engine.generate(prompts, wanted, use_tqdm=False), strict=True):
        found = output.prompt_logprobs[len(probe["token_ids"]) :]
        for token, expected, given in zip(probe["reply_ids"], probe["logprobs"], found, strict=True):
            gaps.append(abs(given[token].logprob - expected))
    problems = (
        []
        if max(gaps) <= tolerance
        else [f"vLLM's log-probs are {max(gaps):.2g} off, more than {tolerance:.2g}"]
    )
    return {
        "folder": folder.name,
        "problems": problems,
        "version": vllm.__version__,
        "tokens": len(gaps),
        "max_gap": max(gaps),
        "tolerance": tolerance,
    }


if __name__ == "__main__":
    sys.exit(main(check))
