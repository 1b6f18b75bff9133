"""What `cosmo edit` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class Change:
    """What somebody wants otherwise in one completion: a line of `--from`, or what an editor gave back.

    With `step` it replaces that step; with `before` alone, those words, which the completion has once; with neither,
    `after` is the whole completion as it should be, up to its last change.
    """

    id: str = option("", "The row of the completion")
    index: int = option(0, "Which completion of its group", low=0)
    after: str = option("", "The new words")
    step: int = option(0, "Which step they replace, from 1; 0: see `before`", low=0)
    before: str | None = option(None, "What stands there; where it doesn't any more, the edit is stale")
    by: str = option("", "Who changes it; empty: --by")
    why: str = option("", "The reason")


@dataclass(frozen=True)
class EditConfig:
    """Which completions are changed, how, by whom, and what is written."""

    # What they say is in the plan, a shard's part in each shard.
    file: str = option("", "JSONL file of edits, one a line (docs/edit.md)", flag="--from", affects=False)
    changes: list[Change] = option([], "Edits, as the lines of the file", affects=False)
    by: str = option("", "Who edits; empty: the name of the user", flag="--by", affects=False)
    write: str = option(
        "prompts",
        "What to write: rows to go on from, or of scored runs each edited completion beside the one it came of",
        flag="--as",
        choices=("prompts", "pairs"),
    )
    tokenizer: str = option(
        "", "Policy whose tokenizer made the completions; empty: the one that sampled them", flag="--tokenizer",
        affects=False,
    )  # fmt: skip
    trust_remote_code: bool = option(False, "Run code that comes with the tokenizer's folder")
    shard_rows: int = option(256, "Rows an output shard", low=1)
