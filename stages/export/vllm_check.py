"""Does vLLM load the folder and agree? `python -m stages.export.vllm_check FOLDER`.

vLLM scores the recorded probes as prompts, images included; its log-probs are compared with the policy's.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import UnavailableError
from stages.export.verify import RECORD, main
from stages.models.families import family_named
from stages.models.probe import Probe, from_json, probe_image


def require_vllm() -> None:
    """UnavailableError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UnavailableError("vllm_check: vLLM is not installed", "pip install 'cosmo-rl[vllm]', or leave it out")


def check(folder: Path, tolerance: float) -> dict[str, Any]:
    """Load the folder in vLLM and compare the log-probs of the probes' completions."""
    # The engine in this very process, with a small cache: the check is a few prompts long.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # It reads the environment when imported, and logs to stdout: the report is the last line there.
    import vllm

    probes = from_json(json.loads((folder / RECORD).read_text(encoding="utf-8"))["probes"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    longest = max(len(p.token_ids) + len(p.completion_ids) for p in probes)
    engine = vllm.LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=longest + 8,
        gpu_memory_utilization=0.3,
    )
    # 0 alternatives: of each prompt token its own log-prob, which is all that is compared.
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    prompts = [prompt_of(p, config) for p in probes]
    problems, gaps = [], []
    for probe, output in zip(probes, engine.generate(prompts, sampling, use_tqdm=False), strict=True):
        # vLLM puts in the image's placeholders by itself; other ids mean another prompt, and no log-prob to compare.
        if list(output.prompt_token_ids) != probe.token_ids + probe.completion_ids:
            problems.append(f"vLLM renders {probe.text!r} {'with' if probe.image else 'without'} image otherwise")
            continue
        found = output.prompt_logprobs[len(probe.token_ids) :]
        for token, expected, given in zip(probe.completion_ids, probe.logprobs, found, strict=True):
            gaps.append(abs(given[token].logprob - expected))
    largest = max(gaps, default=float("inf"))
    if not largest <= tolerance:
        problems.append(f"vLLM's log-probs are {largest:.2g} off, more than {tolerance:.2g}")
    report = {"folder": folder.name, "problems": problems, "version": vllm.__version__}
    return {**report, "tokens": len(gaps), "max_gap": largest, "tolerance": tolerance}


def prompt_of(probe: Probe, config: dict[str, Any]) -> dict[str, Any]:
    """The probe as vLLM takes it; `config` is the model's config.json."""
    ids = probe.token_ids + probe.completion_ids
    if not probe.image:
        return {"prompt_token_ids": ids}
    from PIL import Image

    # Ids with the placeholders already expanded would be expanded once more.
    ids = family_named(config["model_type"]).renderer_ids(ids, config.get("image_token_id"))
    image = Image.open(io.BytesIO(probe_image().bytes)).convert("RGB")
    return {"prompt_token_ids": ids, "multi_modal_data": {"image": image}}


if __name__ == "__main__":
    sys.exit(main(check))
