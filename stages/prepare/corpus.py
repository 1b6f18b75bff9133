"""`cosmo prepare corpus:FILE.jsonl`: documents to a typed table with a BM25 index, as a run folder of its own.

`corpus:almanac` are the entries of the built-in almanac.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import DocumentRow
from stages.core.errors import InputError, UsageError
from stages.core.file_digest import file_sha256
from stages.core.runs.folder import RunFolder
from stages.core.stage import Plan, Quality, ShardWriter, Work
from stages.prepare.config import PrepareConfig

NAME, ALMANAC = "corpus", "almanac"
_TEXTS = ("title", "text")


def corpus_path(config: PrepareConfig) -> Path | None:
    """The file of documents that is asked for; None where sources of prompts are. UsageError where both are."""
    named = [spec for spec in config.sources if isinstance(spec, str) and spec.partition(":")[0] == NAME]
    if not named:
        return None
    path = named[0].partition(":")[2]
    if len(config.sources) > 1 or not path:
        raise UsageError(
            f"{named[0]} is a corpus, and stands alone", "cosmo prepare corpus:FILE.jsonl; prompts in another run"
        )
    return Path(path)


def corpus_plan(path: Path) -> Plan:
    """One shard: an index is of all documents."""
    from importlib.metadata import version

    from stages.corpus.index import library

    library()
    if str(path) == ALMANAC:
        found = digest([dataclasses.asdict(document) for document in almanac_documents()])
        return Plan([{NAME: 0}], {NAME: found, "bm25s": version("bm25s")}, provenance={NAME: ALMANAC})
    if not path.is_file():
        raise InputError(f"no such file: {path}", "corpus:FILE.jsonl, a line {title, text} each")
    return Plan([{NAME: 0}], {NAME: file_sha256(path), "bm25s": version("bm25s")}, provenance={NAME: path.name})


def corpus_work(path: Path) -> Work:
    """Rows in the file's order, then the index; a line that is no document is a rejected row."""

    def work(shard: dict[str, Any], writer: ShardWriter) -> None:
        from stages.corpus.index import FOLDER, Index

        kept = []
        for number, found in _documents(path):
            if isinstance(found, str):
                writer.reject(path.name, f"line {number}", "malformed", found)
            else:
                writer.row(found)
                kept.append(found)
        if not kept:
            raise InputError(f"{path} has no document", 'a line each: {"title": ..., "text": ...}')
        Index.of(kept).save(writer.artifact(FOLDER))

    return work


def corpus_quality(folder: RunFolder) -> Quality:
    """How many documents there are."""
    count = sum(receipt.rows for receipt in folder.receipts().values())
    return Quality(f"{count} documents", {"documents": count})


def almanac_documents() -> Iterator[DocumentRow]:
    """The built-in almanac's entries."""
    from stages.world.almanac.towns import documents

    for entry in documents():
        yield DocumentRow(**entry)


def _documents(path: Path) -> Iterator[tuple[int, DocumentRow | str]]:
    """(line number, the document or what is wrong with it)."""
    if str(path) == ALMANAC:
        yield from enumerate(almanac_documents(), 1)
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _document(line)


def _document(line: str) -> DocumentRow | str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is no JSON"
    if not isinstance(found, dict):
        return "the line is no JSON object"
    for name in (*_TEXTS, "abstract", "id"):
        value = found.get(name)
        if (name in _TEXTS and not value) or not isinstance(value, str | None):
            return f"{name} = {value!r:.40} is no text"
    title, text = found["title"], found["text"]
    ident = found.get("id") or digest([title, text])[:16]
    return DocumentRow(id=ident, title=title, text=text, abstract=found.get("abstract"))
