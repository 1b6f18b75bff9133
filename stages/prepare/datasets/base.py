"""What a dataset plugin is: cheap records to choose from, and rows made only of the chosen ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from schemas.prompts import PromptRow

if TYPE_CHECKING:
    from stages.prepare.kept_rows import KeptRows
    from stages.reading.unread_images import UnreadImage


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of a source, known well enough to choose, compare and count it, and nothing more."""

    ref: str
    """Where it is in the source, for people: `train.jsonl line 17`. No machine paths."""
    key: str
    """Content key of what it becomes: equal keys are exact duplicates."""
    label: str
    """The row's label; mixing weights go by it."""
    task: str
    """The kind of question inside the label."""
    split: str
    """`train` or `test`."""
    text: str
    """Words for near-duplicate and contamination checks; "" = never compared."""
    flags: tuple[str, ...] = ()
    """Licence and use flags, as in the row."""
    payload: Any = None
    """What `row` needs to make the row: small, because all records of a source are held at once."""
    rejected: tuple[str, str] | None = None
    """(reason, detail) when the source itself found the sample unusable: a malformed line, a missing file."""
    images: str = ""
    """Content key of the images, "" without any; texts are near-duplicates only where this is equal."""
    answer: str | None = None
    """The row's reference, where it has one: with another one, the same words are another question."""
    family: str = ""
    """The augmentation family that the row is of, "" for none."""
    kept_in: KeptRows | None = None
    """Where the row lies if all of it but its images is finished already; else `row` makes it."""
    kept_at: int = -1
    """Its number there."""
    instructions: tuple[str, ...] = ()
    """The row's checkable instructions: one that no check is for is no row."""


class Dataset(Protocol):
    """A plugin module's `PLUGIN`. A source that fails as a whole raises InputError or UnavailableError."""

    version: int
    """Raised when the same source would give other records or rows."""
    options: type[Any]
    """Frozen dataclass of the plugin's own options, fields by `stages.core.config.option`.

    A plugin that reads files has a `path: str` with `affects=False`: identity is in the digest."""

    def digest(self, options: Any) -> dict[str, str]:
        """Content identity of the source: sha256 by file or part; {} where the options say it all."""

    def records(self, options: Any, seed: int) -> Iterator[Record]:
        """All samples in a fixed order, cheaply: nothing is drawn or decoded."""

    def row(self, record: Record, options: Any) -> PromptRow:
        """The row of one record of `records`; BadSample when it can't be made."""


@runtime_checkable
class ImagesApart(Dataset, Protocol):
    """A dataset that gives the images of a record without the words around them, which are kept from planning."""

    def images(self, record: Record, options: Any) -> list[UnreadImage]:
        """The images that `row` would read for this record; BadSample when one is gone."""


@runtime_checkable
class FoundOut(Dataset, Protocol):
    """A dataset whose reading is found out by a look at its first records, and can be shown before it is used."""

    def reading(self, options: Any) -> list[str]:
        """How it is read, in a line, and what in it is not read, in another."""

    def first_rows(self, options: Any, most: int) -> Iterator[PromptRow | str]:
        """The first rows as they would be; of a record that is rejected, why."""
