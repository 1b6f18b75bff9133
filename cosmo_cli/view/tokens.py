"""A completion token by token, with what the sampler thought of each."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rollouts import RolloutGroup
from stages.core.errors import CosmoError

if TYPE_CHECKING:
    from cosmo_cli.view.library import Library
    from stages.core.runs.folder import RunFolder

MOST_TOKENS = 8_192
SHADES = 10
"""Steps of colour, from certain to surprising."""
_SURPRISE = 5.0
"""Nats at which a token has the strongest shade: a chance of one in 150."""


def token_strip(
    folder: RunFolder, library: Library, place: tuple[Path, list[int]], completion: int
) -> dict[str, Any] | None:
    """Texts, log-probs in nats, shades 0 to 9 and who wrote each token; None for a completion that is not there."""
    from schemas.tables import TABLES
    from stages.core.runs.shards import rows_at

    row = next(iter(rows_at(place[0], TABLES[folder.table or ""], place[1])), None)
    if not isinstance(row, RolloutGroup):
        return None
    found = next((c for c in row.completions if c.index == completion), None)
    if found is None:
        return None
    ids = list(found.token_ids[:MOST_TOKENS])
    tokenizer = policy_tokenizer(folder, library)
    texts = [tokenizer.decode([i]) for i in ids] if tokenizer is not None else [f" {i}" for i in ids]
    logprobs = [float(v) for v in found.logprobs[: len(ids)]]
    own = found.generated or [True] * len(ids)
    shades = [min(SHADES - 1, int(-v / _SURPRISE * SHADES)) if math.isfinite(v) else SHADES - 1 for v in logprobs]
    return {
        "texts": texts,
        "logprobs": [round(v, 3) if math.isfinite(v) else None for v in logprobs],
        "shades": [max(0, s) if o else -1 for s, o in zip(shades, own, strict=False)],
        "more": len(found.token_ids) - len(ids),
        "decoded": tokenizer is not None,
    }


def policy_tokenizer(folder: RunFolder, library: Library) -> Any:
    """The tokenizer of the policy that sampled a run's completions; None where it is not here."""
    return _tokenizer(_policy_folder(folder, library))


def _policy_folder(folder: RunFolder, library: Library) -> Path | None:
    """Where the policy's tokenizer lies: in a run of the library, or in a tiny model; nothing that a stranger's
    manifest names leads elsewhere, to the hub least of all."""
    spec = ""
    for run in [folder, *folder.upstream()]:
        spec = str(run.manifest.provenance.get("policy") or "")
        if spec:
            break
    if spec.startswith("tiny:"):
        from stages.models.policy_ref import resolve_policy

        try:
            return resolve_policy(spec).path
        except CosmoError:
            return None
    name = Path(spec.rstrip("/").removesuffix("/policy")).name
    entry = next((e for e in library.entries().values() if e.path.name == name and e.table == "steps"), None)
    trained = library.open(entry.key) if entry is not None else None
    return trained.artifact("policy") if trained is not None else None


@lru_cache(maxsize=2)
def _tokenizer(folder: Path | None) -> Any:
    """The tokenizer in a policy's folder, without any code of its own; None where there is none."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Whatever a damaged file raises: its class is not exported.
    except Exception:
        return None
