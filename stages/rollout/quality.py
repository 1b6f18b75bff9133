"""What a finished rollout came to: how many completions, how many failed and why, how long they are, how fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schemas.columns import generated_counts
from schemas.rollouts import FinishReason
from schemas.tables import ROLLOUTS, STEPS_GUIDED
from stages.core.runs.folder import RunFolder, further_rows
from stages.core.runs.halved import MOST_REASONS, counted, halved_line, halved_numbers
from stages.core.stage import Quality
from stages.engines.base import FAILED_HINT

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

_COLUMNS = ("token_ids", "generated", "finish_reason", "error")
_GROUPS = 64


def rollout_quality(folder: RunFolder) -> Quality:
    """Numbers over all completions; a warning where most failed, a failure where all did."""
    ends: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    tokens = 0
    for path in folder.shard_paths():
        for flat in _completions(path):
            ends.update(flat.field("finish_reason").to_pylist())
            errors.update(error for error in flat.field("error").to_pylist() if error)
            tokens += int(generated_counts(flat).sum())
    completions, failed = ends.total(), ends[FinishReason.ERROR]
    sampled = completions - failed
    seconds = sum(receipt.seconds for receipt in folder.receipts().values())
    numbers: dict[str, Any] = {
        "completions": completions,
        "failed": failed,
        "failed_reasons": dict(errors.most_common(MOST_REASONS)),
        "mean_tokens": round(tokens / sampled, 2) if sampled else None,
        "truncated_share": round(ends[FinishReason.LENGTH] / sampled, 4) if sampled else None,
        # Of the workers' own time, as the receipts tell it: a cached run says the same.
        "tokens_per_second": round(tokens / seconds) if seconds > 0 else None,
    }
    if (choices := _choices(folder)) is not None:
        numbers["guided"] = {**choices, "kept_tokens": tokens, "seconds": round(seconds, 3)}
    why = counted(errors)
    numbers |= halved_numbers(folder)
    if not sampled:
        return Quality("", numbers, failure=f"no completion of {completions} could be sampled: {why}", hint=FAILED_HINT)
    warning = f"{failed} of {completions} completions failed: {why}" if 2 * failed > completions else None
    return Quality(_line(numbers, why), numbers, warning, hint=FAILED_HINT if warning else "")


def _choices(folder: RunFolder) -> dict[str, int] | None:
    """What guiding took: choices, and tokens of all their candidates and behind them; None where nothing was guided."""
    rows = list(further_rows(folder, STEPS_GUIDED))
    if not rows:
        return None
    sampled = sum(len(c.token_ids) + len(c.ahead) for row in rows for c in row.candidates)
    return {"choices": len(rows), "sampled_tokens": sampled}


def _line(numbers: dict[str, Any], why: str) -> str:
    failed = f", {numbers['failed']} failed ({why})" if numbers["failed"] else ""
    speed, guided = numbers["tokens_per_second"], numbers.get("guided")
    parts = [f"{speed} tokens a second"] if speed is not None else []
    parts += [f"{guided['sampled_tokens'] / guided['kept_tokens']:.1f} tokens sampled for one kept"] if guided else []
    return (
        f"{numbers['completions']} completions{failed}, {numbers['mean_tokens']:.1f} tokens each,"
        f" {numbers['truncated_share']:.0%} truncated" + "".join(f", {part}" for part in parts)
    ) + halved_line(numbers, "drawn")


def _completions(path: Path) -> Iterator[pa.StructArray]:
    """These columns of a shard's completions, one after the other; no prompt and no image is read."""
    from stages.core.runs.shards import open_shard

    with open_shard(path, ROLLOUTS) as file:
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        # A few groups at a time: the ids of a whole shard of long completions are tens of megabytes.
        for batch in file.iter_batches(batch_size=_GROUPS, columns=[leaf for leaf in leaves if _is_read(leaf)]):
            yield batch.column("completions").flatten()


def _is_read(leaf: str) -> bool:
    # Parquet writers call a list's level `list.element` or `list.item`; the field names are what counts.
    path = [part for part in leaf.split(".") if part not in ("list", "element", "item", "array")]
    return path[0] == "completions" and len(path) == 2 and path[1] in _COLUMNS
