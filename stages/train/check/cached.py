"""The check before a policy's first RL step: once for a kind of model and this code, then remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from schemas.identity import digest
from stages.core.cache import cache_root
from stages.core.errors import InputError
from stages.models.load import Policy
from stages.reading.files import write_cache_file
from stages.train.check.measure import CheckResult, check_model
from stages.train.parallel import ranks
from stages.train.session import Session

_STAGES = Path(__file__).resolve().parents[2]
_CODE = ("models", "engines/transformers", "train/rl", "train/check")
# Of a config: what another run or another version writes otherwise and no number depends on.
_PASSING = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


def check_before_training(session: Session) -> None:
    """Compare the policy with its own model before anything is learned; InputError where they differ.

    Weights do not matter, so a lineage is asked once. Left out: with several processes, whose weights may be in
    parts; in half precision, whose rounding is as large as some faults; and where `model_check` is off.
    """
    policy, log = session.policy, session.ctx.progress.log
    if session.config.model_check == "off" or ranks.count() > 1 or policy.model.dtype != torch.float32:
        return
    note = cache_root() / "checks" / f"{_key(policy)}.json"
    if note.is_file():
        return
    result = check_model(policy)
    if result.failures:
        raise InputError(
            f"{policy.ref.spec} would be trained on other numbers than its own: {failure_line(result)}",
            f"cosmo check {policy.ref.spec} shows all of them; --set model_check=off trains all the same",
        )
    log(f"numbers are the model's own to {result.worst:.0e} ({len(result.cells)} comparisons, {result.seconds:.1f} s)")
    write_cache_file(note, json.dumps(result.as_json()).encode())


def failure_line(result: CheckResult) -> str:
    """The worst of what went wrong, in a line."""
    errors = [c for c in result.failures if c.error is not None]
    if errors:
        return f"{errors[0].way}, {errors[0].question}: {errors[0].error}"
    worst = max(result.failures, key=lambda c: float("inf") if c.gap is None or c.gap != c.gap else c.gap)
    return f"{worst.way}, {worst.question}: {worst.gap:.2g} nats off"


def _key(policy: Policy) -> str:
    """What the numbers depend on beside weights: the kind of model, its processor's files, this code, the libraries."""
    config: dict[str, Any] = {k: v for k, v in policy.model.config.to_dict().items() if k not in _PASSING}
    files = [[name, content.hex()] for name, content in sorted(policy.processor.files.items())]
    versions = [torch.__version__, transformers.__version__, str(policy.device)]
    return digest([json.dumps(config, sort_keys=True, default=str), files, versions, list(_code())])[:16]


def _code() -> Iterator[list[str]]:
    for folder in _CODE:
        for path in sorted((_STAGES / folder).rglob("*.py")):
            yield [str(path.relative_to(_STAGES)), path.read_text(encoding="utf-8")]
