"""Hugging Face datasets: a hub id or a local folder, through `datasets`, with a mapping of columns.

    [[prepare.sources]]
    name = "hf"
    path = "org/questions"          # or a folder: data files, or what save_to_disk wrote
    split = "train"
    columns = { prompt = "question", image = "figure", answer = "gold" }

Samples are read as `stages/prepare/reading/plain_samples.py` says. A hub id is pinned to the commit it points to
when it is planned (give `revision` to pin it yourself); without network the newest cached copy is used, and without one
it is unavailable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample, InputError, UnavailableError, first_line
from stages.prepare.datasets.base import Record
from stages.prepare.reading.columns import KINDS, item_of, mapping
from stages.prepare.reading.files import sha256
from stages.prepare.reading.plain_samples import Defaults, draft_of
from stages.prepare.reading.records import Draft, record_of, rejected_record, row_of
from stages.prepare.reading.unread_images import image_from

# Rows decoded at a time: whole images may be in them.
_BATCH = 256
# A machine without network must not wait long before the cached copy is used.
_SECONDS = 5.0


@dataclass(frozen=True)
class HfOptions:
    """Which dataset, which part of it, and which of its columns is what."""

    path: str = option("", "Hub id, or a local folder", affects=False)
    config: str = option("", "The dataset's configuration, where it has several")
    split: str = option("train", "The dataset's own split")
    revision: str = option("", "Commit or tag of a hub id; its main branch if empty")
    columns: dict[str, str] = option({}, "Our name = their column, where they differ")
    keep: list[str] = option([], "Further columns, kept in the row's `extra`")
    label: str = option("general", "Label of rows without one")
    task: str = option("", "Task of rows without one; their label if empty")
    rows_split: str = option(
        "", "Split of our rows; if empty, test unless theirs starts with train", choices=("", "train", "test")
    )
    answer_kind: str = option("", "How to compare answers; guessed if empty", choices=KINDS)
    flags: list[str] = option([], "Flags added to every row")


class Hf:
    """Datasets of the Hugging Face hub, or folders: whatever `datasets.load_dataset` reads."""

    version = 2
    options = HfOptions

    def digest(self, options: HfOptions) -> dict[str, str]:
        """The commit of a hub id; sha256 over all files of a local folder."""
        folder = _local(options)
        if folder is None:
            return {"id": options.path, "revision": commit(options.path, options.revision)}
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        return {"files": digest([[p.relative_to(folder).as_posix(), sha256(p)] for p in files])}

    def records(self, options: HfOptions, seed: int) -> Iterator[Record]:
        """One record a row; images are hashed and not decoded."""
        data = loaded(options)
        make = _maker(data, options)
        # Arrow, because `datasets` would decode each image into a PIL object on the way.
        data = data.with_format("arrow")
        n = 0
        for table in data.iter(batch_size=_BATCH):
            for item in table.to_pylist():
                ref = f"{options.split} row {n}"
                try:
                    yield record_of(make(item), ref, (data, make, n))
                except BadSample as bad:
                    yield rejected_record(ref, bad)
                n += 1

    def row(self, record: Record, options: HfOptions) -> PromptRow:
        """The row at a position: `datasets` maps its files into memory."""
        data, make, n = record.payload
        return row_of(make(data[n : n + 1].to_pylist()[0]))


def _local(options: HfOptions) -> Path | None:
    """The folder that `path` is; None for a hub id; InputError for what can be neither."""
    folder = Path(options.path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{folder} is a file", "give its folder, or use jsonl: or parquet: for a file")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", options.path) or options.path.startswith("."):
        raise InputError(f"no such folder: {folder}", "give a hub id (ORG/NAME) or a folder that exists")
    return None


# Asked once a process: digest and rows must be of one commit, also when main moves in between.
@lru_cache(maxsize=8)
def commit(path: str, revision: str) -> str:
    """The commit a hub id stands for, from the hub, or from the cache when the hub can't be reached."""
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # A full commit needs no look-up, so that pinned sources work without network.
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        return str(HfApi().dataset_info(path, revision=revision or None, timeout=_SECONDS).sha)
    # Before httpx.HTTPError, which it derives from: the hub did answer, and a cached copy must not cover up a wrong id.
    except HfHubHTTPError as error:
        reason = first_line(error)
        raise UnavailableError(
            f"no such dataset on the hub: {path} ({reason})",
            "check the id; a private one needs `hf auth login`",
        ) from None
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
        try:
            cached = snapshot_download(path, repo_type="dataset", revision=revision or None, local_files_only=True)
        except LocalEntryNotFoundError:
            raise UnavailableError(
                f"can't reach the hub for {path}, and it is not cached ({type(error).__name__})",
                "go online once, or give a local folder: hf:FOLDER",
            ) from None
        # The cache's snapshots lie in a folder named by the commit.
        return Path(cached).name


@lru_cache(maxsize=4)
def _loaded_part(path: str, config: str, split: str, revision: str | None) -> Any:
    import datasets

    folder = Path(path)
    # `load_dataset` refuses a folder that `save_to_disk` wrote, and `load_from_disk` any other.
    on_disk = revision is None and any((folder / f).is_file() for f in ("state.json", "dataset_dict.json"))
    if not on_disk:
        return datasets.load_dataset(path, config or None, split=split, revision=revision)
    whole = datasets.load_from_disk(path)
    if not isinstance(whole, datasets.DatasetDict):
        return whole
    if split not in whole:
        raise ValueError(f'Unknown split "{split}". Should be one of {list(whole)}.')
    return whole[split]


def loaded(options: HfOptions) -> Any:
    """The `datasets.Dataset` of the options."""
    import datasets

    folder = _local(options)
    revision = None if folder is not None else commit(options.path, options.revision)
    location = options.path if folder is None else str(folder)
    datasets.disable_progress_bars()
    try:
        return _loaded_part(location, options.config, options.split, revision)
    # Before OSError, which it derives from: no network is worth another exit code than a wrong path.
    except ConnectionError as error:
        raise UnavailableError(
            f"can't download {options.path}: {first_line(error)}",
            "go online, or give a local folder",
        ) from None
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        first = first_line(error)
        raise InputError(
            f"{options.path} can't be loaded by datasets: {first}",
            "check path, config and split of the source",
        ) from None


def _maker(data: Any, options: HfOptions) -> Any:
    """Record -> draft for this dataset's columns."""
    import datasets

    whole = mapping(options.columns, options.keep, list(data.column_names), options.path)
    # A ClassLabel column holds numbers; what people mean by `label` or `answer` are their names.
    classes = {n: f.int2str for n, f in data.features.items() if isinstance(f, datasets.ClassLabel)}
    folder = _local(options)
    split = options.rows_split or ("train" if options.split.startswith("train") else "test")
    defaults = Defaults(
        source=f"hf:{Path(options.path).name}",
        label=options.label,
        task=options.task,
        split=split,
        answer_kind=options.answer_kind,
        flags=tuple(options.flags),
    )

    def make(record: dict[str, Any]) -> Draft:
        named = {n: classes[n](v) if n in classes and v is not None else v for n, v in record.items()}
        return draft_of(item_of(named, whole), defaults, partial(image_from, folder=folder))

    return make


PLUGIN = Hf()
