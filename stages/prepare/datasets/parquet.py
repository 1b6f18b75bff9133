"""Parquet: prompt rows that cosmo wrote, or any table with a mapping of its columns.

A file whose columns are those of the prompts table (a run folder, one of its shards) is read row for row. Any
other table is read as plain samples (`stages/reading/plain_samples.py`), its columns named like ours or mapped:

    [[prepare.sources]]
    name = "parquet"
    path = "questions.parquet"
    columns = { prompt = "question", image = "figure", answer = "gold" }

Images are bytes, `struct<bytes, path>` as Hugging Face `datasets` stores them, data URLs, or paths relative
to the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample, InputError, UsageError, first_line
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.columns import KINDS, item_of, mapping
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.reading.files import digest_if_file, matching, sha256
from stages.reading.plain_samples import Defaults, Draft, draft_of
from stages.reading.unread_images import bytes_image, image_from

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Rows decoded at a time while planning: whole images may be in them.
_BATCH = 256
# Rows of a shard are made in the source's order, so that the next one wanted is mostly in the same block.
_BLOCK = 32
Maker = Callable[[dict[str, Any]], Draft]


@dataclass(frozen=True)
class ParquetOptions:
    """Where the table is, which of its columns is what, and what holds for rows that do not say it."""

    path: str = option("", "A Parquet file, a folder of them, or a prepare run folder", affects=False)
    columns: dict[str, str] = option({}, "Our name = their column, where they differ")
    keep: list[str] = option([], "Further columns, kept in the row's `extra`")
    label: str = option("general", "Label of rows without one")
    task: str = option("", "Task of rows without one; their label if empty")
    split: str = option("train", "Split of rows without one", choices=("train", "test"))
    answer_kind: str = option("", "How to compare answers; guessed if empty", choices=KINDS)
    flags: list[str] = option([], "Flags added to every row")


@dataclass(frozen=True, slots=True)
class _RowLocation:
    """Where a record lies, and how it is read."""

    path: Path
    group: int
    row: int
    columns: tuple[str, ...]
    make: Maker


class Parquet:
    """Rows of tables on disk: prompt rows of our own, or plain samples."""

    version = 2
    options = ParquetOptions

    def digest(self, options: ParquetOptions) -> dict[str, str]:
        """sha256 of each file, in order, and of all images beside it that its rows name."""
        found = {}
        for n, path in enumerate(_files(options)):
            found[f"{n:05d}"] = sha256(path)
            if images := _image_files(path, options):
                found[f"{n:05d} images"] = digest(images)
        return found

    def records(self, options: ParquetOptions, seed: int) -> Iterator[Record]:
        """One record a row; images are hashed, a bounded number in memory at a time."""
        kept = KeptRows()
        for path in _files(options):
            with _opened(path) as file:
                make, columns = _reader(file, path, options)
                chosen = tuple(columns)
                for group in range(file.num_row_groups):
                    batches = file.iter_batches(_BATCH, row_groups=[group], columns=columns)
                    rows = (r for b in _checked(batches, path) for r in b.to_pylist())
                    for n, item in enumerate(rows):
                        ref = f"{path.name} row {n}" if group == 0 else f"{path.name} group {group} row {n}"
                        try:
                            location = _RowLocation(path, group, n, chosen, make)
                            yield record_of(make(item), ref, location, kept)
                        except BadSample as bad:
                            yield rejected_record(ref, bad)

    def row(self, record: Record, options: ParquetOptions) -> PromptRow:
        """The row of one table row; the last row group read stays in memory."""
        location: _RowLocation = record.payload
        block, at = divmod(location.row, _BLOCK)
        found = _block(location.path, location.path.stat().st_mtime_ns, location.group, location.columns, block)
        return row_of(location.make(found[at]))


def _files(options: ParquetOptions) -> list[Path]:
    root = Path(options.path).expanduser()
    return matching(root / "shards" if (root / "shards").is_dir() else root, ".parquet", "a .parquet file")


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        first = first_line(error)
        raise InputError(f"{path} can't be read as Parquet: {first}", "copy it again") from None


def _checked(batches: Iterator[Any], path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        for batch in batches:
            # Texts that are no UTF-8 are found here, and not by whoever looks at one.
            batch.validate(full=True)
            yield batch
    except (pa.ArrowInvalid, OSError) as error:
        first = first_line(error)
        raise InputError(f"{path} is corrupt: {first}", "copy it again") from None


# One group only: with images in it, it may be hundreds of megabytes. Rows are asked for in the source's order.
@lru_cache(maxsize=1)
def _group(path: Path, mtime_ns: int, group: int, columns: tuple[str, ...]) -> Any:
    """One row group. `mtime_ns` is there so that a changed file is read anew."""
    with _opened(path) as file:
        return file.read_row_group(group, columns=list(columns))


@lru_cache(maxsize=2)
def _block(path: Path, mtime_ns: int, group: int, columns: tuple[str, ...], block: int) -> list[dict[str, Any]]:
    """Some rows of a group as Python values: rows of a shard lie close to each other, and one by one is slow."""
    found: list[dict[str, Any]] = _group(path, mtime_ns, group, columns).slice(block * _BLOCK, _BLOCK).to_pylist()
    return found


def _reader(file: pq.ParquetFile, path: Path, options: ParquetOptions) -> tuple[Maker, list[str]]:
    """(record -> draft, columns to read) for this file's kind."""
    from schemas.arrow import RowError, check_schema
    from schemas.tables import PROMPTS

    found = list(file.schema_arrow.names)
    try:
        check_schema(PROMPTS, file.schema_arrow)
    # Not ours, which is no fault: any table may be mapped.
    except RowError:
        whole = mapping(options.columns, options.keep, found, str(path))
        defaults = Defaults.of(options, f"parquet:{path.stem}")
        # A set, for two of our names may be mapped to one column.
        return partial(_plain_sample_draft, whole=whole, defaults=defaults, folder=path.parent), sorted(
            {*whole.values()}
        )
    if options.columns:
        raise UsageError(f"{path} holds prompt rows already", "leave `columns` out")
    return prompt_row_draft, list(PROMPTS.row.__dataclass_fields__)


def _image_files(path: Path, options: ParquetOptions) -> list[list[str]]:
    """(name, sha256) of every image file that a column of paths names."""
    import pyarrow as pa

    with _opened(path) as file:
        _, columns = _reader(file, path, options)
        schema = file.schema_arrow
        named = [options.columns.get(n, n) for n in ("image", "images")]
        kinds = {n: schema.field(n).type for n in named if n in columns}
        # Of bytes and structs the file's digest says all; a column of strings may name files beside it.
        paths = [n for n, t in kinds.items() if pa.types.is_string(getattr(t, "value_type", t))]
        found = []
        for n in paths:
            for value in file.read(columns=[n]).column(n).to_pylist():
                for name in value if isinstance(value, list) else [value]:
                    # A name that is no file, raw base64 for one, has no digest: its row will say what is wrong.
                    if name and not name.startswith("data:") and (known := digest_if_file(path.parent / name)):
                        found.append([name, known])
    return found


def _plain_sample_draft(item: dict[str, Any], whole: dict[str, str], defaults: Defaults, folder: Path) -> Draft:
    return draft_of(item_of(item, whole), defaults, partial(image_from, folder=folder))


def prompt_row_draft(item: dict[str, Any]) -> Draft:
    """A prompt row as it was, its id made anew from its content."""
    import dataclasses

    from schemas.arrow import RowError, from_record
    from schemas.values import plain_text

    try:
        row: PromptRow = from_record(PromptRow, item)
    except RowError as error:
        raise BadSample("malformed", str(error)) from None
    images = [bytes_image(i.bytes, i.path or "image") for i in row.images]
    # Built-in rows repeat their templates on purpose: only what came from outside is compared by words.
    text = "" if row.scene else plain_text(row.messages)
    return Draft(dataclasses.replace(row, id="", images=[]), images, text)


PLUGIN = Parquet()
