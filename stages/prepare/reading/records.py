"""From what a source says to a record and a row: the part every file-based dataset shares."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schemas.identity import content_id, digest
from schemas.prompts import PromptRow
from schemas.values import Image
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.reading.plain_samples import Draft
from stages.reading.unread_images import UnreadImage


def content_key(row: PromptRow, images: list[str]) -> str:
    """The row's id by its images' sha256: what `schemas.identity.prompt_id` makes of the whole row."""
    turns = [(m.role, [(p.type, p.text) for p in m.content]) for m in row.messages]
    return content_id(row.label, turns, images, row.answer)


def record_of(draft: Draft, ref: str, payload: Any, kept: KeptRows | None = None) -> Record:
    """What planning needs of a draft; its row, which lacks its images alone, is put into `kept`."""
    row, hashes = draft.row, [p.digest() for p in draft.images]
    key = content_key(row, hashes)
    at = kept.keep(row, key) if kept is not None else -1
    return Record(
        ref=ref,
        key=key,
        label=row.label,
        task=row.task,
        split=row.split,
        text=draft.text,
        flags=tuple(row.flags),
        payload=payload,
        images=images_key(hashes),
        answer=row.answer,
        family=row.family or "",
        kept_in=kept if at >= 0 else None,
        kept_at=at,
        instructions=tuple(row.instructions),
    )


def images_key(hashes: list[str]) -> str:
    """The content key of images by their sha256, "" without any."""
    return digest(hashes)[:16] if hashes else ""


def row_of(draft: Draft) -> PromptRow:
    """The whole row, images read but not checked; BadSample when one has gone since."""
    images = read_images(draft.images)
    hashes = [hashlib.sha256(i.bytes).hexdigest() for i in images]
    return dataclasses.replace(draft.row, id=content_key(draft.row, hashes), images=images)


def read_images(unread: list[UnreadImage]) -> list[Image]:
    """Images as they lie in their source, not checked; BadSample when one has gone since."""
    try:
        return [Image(p.load(), p.name) for p in unread]
    # Planning saw the file; it may have been moved while the shards before this one were made.
    except OSError as error:
        raise BadSample("missing_image", f"can't read {error.filename}: {error.strerror}") from None


def rejected_record(ref: str, bad: BadSample) -> Record:
    """A record that says why there will be no row."""
    return Record(ref, "", "", "", "", "", rejected=(bad.reason, bad.detail))


def records_of(samples: Iterable[tuple[str, Any]], make: Callable[[Any], Draft]) -> Iterator[Record]:
    """One record for each (ref, payload), in order; a BadSample raised by `make` becomes a refused record."""
    kept = KeptRows()
    for ref, payload in samples:
        try:
            yield record_of(make(payload), ref, payload, kept)
        except BadSample as bad:
            yield rejected_record(ref, bad)
