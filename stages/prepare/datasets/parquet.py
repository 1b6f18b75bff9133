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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample, InputError, UsageError, first_line
from stages.core.storage.unpacked import check_parquet
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.columns import KINDS, item_of, mapping
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.reading.files import digest_if_file, matching, sha256
from stages.reading.plain_samples import IMAGES, Defaults, Draft, draft_of, images_of
from stages.reading.unread_images import UnreadImage, bytes_image, image_from

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from stages.prepare.reading.plain_batches import PlainBatches

# Rows decoded at a time while planning: whole images may be in them.
_BATCH = 256
# Rows of a shard are made in the source's order, so that the next one wanted is mostly in the same block.
_BLOCK = 32


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
class _Table:
    """One file, and which of its columns is what."""

    path: Path
    mtime_ns: int
    """When it was last written, as planning found it: blocks that are remembered are of that file."""
    columns: tuple[str, ...]
    whole: dict[str, str] | None
    """Our name -> their column; None for prompt rows of our own."""
    defaults: Defaults
    folder: Path
    """Where the images lie that it names."""
    image_columns: dict[str, str]
    """What an image is read from, by our name."""

    def draft(self, item: dict[str, Any]) -> Draft:
        """The draft of one row."""
        if self.whole is None:
            return prompt_row_draft(item)
        return draft_of(item_of(item, self.whole), self.defaults, self._image)

    def plain_batches(self, schema: Any) -> PlainBatches | None:
        """What makes its records column by column; None where its rows are more than questions and answers."""
        from stages.prepare.reading.plain_batches import PlainBatches, are_plain

        if self.whole is None or not are_plain(self.whole, schema):
            return None
        return PlainBatches(self.defaults, self._image)

    def values(self, batch: Any) -> dict[str, list[Any]]:
        """The columns of a batch by our names."""
        from schemas.columns import text_values

        columns = {name: batch.column(column) for name, column in (self.whole or {}).items()}
        return {n: c.to_pylist() if n in self.image_columns else text_values(c) for n, c in columns.items()}

    def images(self, item: dict[str, Any]) -> list[UnreadImage]:
        """The images of one row, of which these columns alone are there."""
        if self.whole is None:
            return prompt_row_images(item)
        return images_of(item_of(item, self.image_columns), self._image)

    def _image(self, value: Any, name: str) -> UnreadImage:
        return image_from(value, name, self.folder)


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
                table = _reader(file, path, options)
                plain = table.plain_batches(file.schema_arrow)
                for group in range(file.num_row_groups):
                    batches = file.iter_batches(_BATCH, row_groups=[group], columns=list(table.columns))
                    where, first = f"{path.name} row" if group == 0 else f"{path.name} group {group} row", 0
                    for batch in _checked(batches, path):
                        numbers = range(first, first + batch.num_rows)
                        places = [(f"{where} {n}", (table, group, n)) for n in numbers]
                        if plain is not None:
                            yield from plain.records(table.values(batch), places)
                        else:
                            yield from _one_by_one(table, batch, places, kept)
                        first += batch.num_rows

    def row(self, record: Record, options: ParquetOptions) -> PromptRow:
        """The row of one table row; the last row group read stays in memory."""
        table: _Table = record.payload[0]
        return row_of(table.draft(_read(record, table.columns)))

    def images(self, record: Record, options: ParquetOptions) -> list[UnreadImage]:
        """The images of one table row."""
        table: _Table = record.payload[0]
        return table.images(_read(record, tuple(table.image_columns.values())))


def _one_by_one(table: _Table, batch: Any, places: list[tuple[str, Any]], kept: KeptRows) -> Iterator[Record]:
    for (ref, payload), item in zip(places, batch.to_pylist(), strict=True):
        try:
            yield record_of(table.draft(item), ref, payload, kept)
        except BadSample as bad:
            yield rejected_record(ref, bad)


def _read(record: Record, columns: tuple[str, ...]) -> dict[str, Any]:
    """Some columns of one table row."""
    table, group, row = record.payload
    return _block(table.path, table.mtime_ns, group, table.columns, columns, row // _BLOCK)[row % _BLOCK]


def _files(options: ParquetOptions) -> list[Path]:
    root = Path(options.path).expanduser()
    return matching(root / "shards" if (root / "shards").is_dir() else root, ".parquet", "a .parquet file")


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        check_parquet(file, path)
        return file
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


# Of some rows all is asked for and of those between their images alone: a block of each.
@lru_cache(maxsize=2)
def _block(
    path: Path, mtime_ns: int, group: int, columns: tuple[str, ...], asked: tuple[str, ...], block: int
) -> list[dict[str, Any]]:
    """Some rows of a group as Python values: rows of a shard lie close to each other, and one by one is slow."""
    rows = _group(path, mtime_ns, group, columns).select(asked)
    found: list[dict[str, Any]] = rows.slice(block * _BLOCK, _BLOCK).to_pylist()
    return found


def _reader(file: pq.ParquetFile, path: Path, options: ParquetOptions) -> _Table:
    """How this file is read."""
    from schemas.arrow import RowError, check_schema
    from schemas.tables import PROMPTS

    found, written = list(file.schema_arrow.names), path.stat().st_mtime_ns
    defaults = Defaults.of(options, f"parquet:{path.stem}")
    try:
        check_schema(PROMPTS, file.schema_arrow)
    # Not ours, which is no fault: any table may be mapped.
    except RowError:
        whole = mapping(options.columns, options.keep, found, str(path))
        # A set, for two of our names may be mapped to one column.
        image_columns = {n: c for n, c in whole.items() if n in IMAGES}
        return _Table(path, written, tuple(sorted({*whole.values()})), whole, defaults, path.parent, image_columns)
    if options.columns:
        raise UsageError(f"{path} holds prompt rows already", "leave `columns` out")
    columns = tuple(PROMPTS.row.__dataclass_fields__)
    return _Table(path, written, columns, None, defaults, path.parent, {"images": "images"})


def _image_files(path: Path, options: ParquetOptions) -> list[list[str]]:
    """(name, sha256) of every image file that a column of paths names."""
    import pyarrow as pa

    with _opened(path) as file:
        columns = _reader(file, path, options).columns
        schema = file.schema_arrow
        named = [options.columns.get(n, n) for n in IMAGES]
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


def prompt_row_draft(item: dict[str, Any]) -> Draft:
    """A prompt row as it was, its id made anew from its content."""
    import dataclasses

    from schemas.arrow import RowError, from_record
    from schemas.values import plain_text

    try:
        row: PromptRow = from_record(PromptRow, item)
    except RowError as error:
        raise BadSample("malformed", str(error)) from None
    images = prompt_row_images(item)
    # Built-in rows repeat their templates on purpose: only what came from outside is compared by words.
    text = "" if row.scene else plain_text(row.messages)
    return Draft(dataclasses.replace(row, id="", images=[]), images, text)


def prompt_row_images(item: dict[str, Any]) -> list[UnreadImage]:
    """The images of a prompt row as it was."""
    return [bytes_image(i["bytes"], i["path"] or "image") for i in item["images"] or ()]


PLUGIN = Parquet()
