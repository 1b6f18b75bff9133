"""Datasets of the Hugging Face hub and folders of `datasets`: the commit that is meant, and its rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.errors import InputError, UnavailableError, first_line

# A machine without network must not wait long before the cached copy is used.
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HubPart:
    """One split of a dataset."""

    path: str
    """Hub id, or a local folder."""
    config: str = ""
    split: str = "train"
    revision: str = ""
    """Commit or tag; the main branch if empty."""


def local_folder(path: str) -> Path | None:
    """The folder that `path` is; None for a hub id; InputError for what can be neither."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{folder} is a file", "give its folder, or use jsonl: or parquet: for a file")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or path.startswith("."):
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


def loaded(part: HubPart) -> Any:
    """The `datasets.Dataset` of a part."""
    import datasets

    folder = local_folder(part.path)
    revision = None if folder is not None else commit(part.path, part.revision)
    location = part.path if folder is None else str(folder)
    datasets.disable_progress_bars()
    try:
        return _loaded_part(location, part.config, part.split, revision)
    # Before OSError, which it derives from: no network is worth another exit code than a wrong path.
    except ConnectionError as error:
        raise UnavailableError(
            f"can't download {part.path}: {first_line(error)}",
            "go online, or give a local folder",
        ) from None
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        first = first_line(error)
        raise InputError(
            f"{part.path} can't be loaded by datasets: {first}",
            "check path, config and split of the source",
        ) from None
