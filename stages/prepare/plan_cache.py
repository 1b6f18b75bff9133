"""Plans remembered: the same command again answers at once, however long it took to compare the words.

A plan is a pure function of its key and of this package's code, so both make the name of the remembered file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from schemas.identity import canonical, digest
from schemas.rejected import RejectedRow
from stages.core.cache import cache_root
from stages.core.plugins.kinds import KINDS, ROOT
from stages.core.stage import Plan
from stages.reading.files import write_cache_file


def cached_plan(key: dict[str, Any], make: Callable[[], Plan]) -> Plan:
    """The plan of this key from the user cache, or a new one."""
    # The code is in the name, not the stage's version alone: a plan from before an edit would be another's plan.
    note = cache_root() / "plans" / f"{digest([key, _code()])[:32]}.json.gz"
    try:
        found = json.loads(gzip.decompress(note.read_bytes()))
    # No note yet, one cut short (EOFError) or damaged (zlib.error, BadGzipFile is an OSError), no JSON: a cache decides
    # nothing, so each is as good as none.
    except (OSError, EOFError, ValueError, zlib.error):
        with _no_search_for_cycles():
            plan = make()
        # `mtime=0` leaves the time out of gzip's head: the same plan is the same bytes.
        fields = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
        fields["rejected"] = [dataclasses.asdict(row) for row in plan.rejected]
        write_cache_file(note, gzip.compress(canonical(fields), compresslevel=1, mtime=0))
        return plan
    rejected = [RejectedRow(**r) for r in found["rejected"]]
    return Plan(found["shards"], found["key"], rejected, found["provenance"])


@contextlib.contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Records have no cycles, and each search for some looks through all records: a tenth of a large plan's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _code() -> str:
    """Digest of all code that can decide a plan."""
    plugins = (KINDS["dataset"].folder, KINDS["augmentation"].folder, KINDS["instruction"].folder)
    shared = (ROOT / "stages" / name for name in ("prepare", "reading", "world"))
    folders = (*plugins, *shared, ROOT / "schemas")
    files = sorted(p for f in folders for p in f.rglob("*.py"))
    return digest([[p.name, p.read_text(encoding="utf-8")] for p in files])
