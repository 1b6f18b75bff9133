"""Options and column mapping that the table-shaped sources, `parquet` and `hf`, share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stages.core.errors import InputError, UsageError, did_you_mean
from stages.reading.plain_samples import KNOWN
from stages.reading.references import KINDS as _KINDS

KINDS = ("", *_KINDS)


def mapping(columns: Mapping[str, str], keep: Iterable[str], found: list[str], where: str) -> dict[str, str]:
    """Our name -> their column, for all that will be read; InputError when a column is not there.

    Columns with one of our names map to themselves; `keep` names further ones, which go into `extra`.
    """
    for name in columns:
        if name not in KNOWN:
            hint = did_you_mean(name, KNOWN) or f"names: {', '.join(KNOWN)}"
            raise UsageError(f"columns maps {name!r}, which is no name of a sample", hint)
    for column in (*columns.values(), *keep):
        if column not in found:
            hint = f"{did_you_mean(column, found)} its columns: {', '.join(found)}"
            raise InputError(f"{where} has no column {column!r}", hint.lstrip())
    # Later entries win: names that agree, then what is kept, then what the user mapped.
    whole = {name: name for name in found if name in KNOWN and name not in columns.values()}
    whole.update({name: name for name in keep})
    whole.update(columns)
    if "prompt" not in whole and "messages" not in whole:
        raise InputError(
            f"{where} has no column 'prompt' or 'messages'",
            f'say which it is: columns = {{ prompt = "..." }}; its columns: {", ".join(found)}',
        )
    # Of two columns that mean the same, the one that was mapped is meant, though the table has the other one by name.
    for one, other in (("image", "images"), ("prompt", "messages")):
        if (one in columns) != (other in columns):
            whole.pop(other if one in columns else one, None)
    return whole


def item_of(record: Mapping[str, Any], whole: Mapping[str, str]) -> dict[str, Any]:
    """A sample from one record of the table."""
    return {name: record[column] for name, column in whole.items()}
