"""Which container a path or a hub id is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stages.core.errors import InputError
from stages.reading.containers.base import Container, is_compressed, plain_stem, plain_suffix
from stages.reading.containers.hub import Hub, is_hub_id

_JSON = (".json", ".jsonl", ".ndjson", ".jsonlines")
_DELIMITED = (".csv", ".tsv", ".tab")
_ARROW = (".arrow", ".feather")
SUFFIXES = (*_JSON, *_DELIMITED, *_ARROW, ".parquet", ".tar", ".tgz", ".xlsx")
"""What a file may end with, `.gz`, `.zst`, `.bz2` and `.xz` after it."""
_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_MOST_NAMED = 5


def found(path: str, part: str) -> Container:
    """The container of a file, a folder or a hub id; InputError says what is there instead."""
    root = Path(path).expanduser()
    try:
        if root.is_dir():
            return _folder(root, part)
        if root.is_file():
            return of_file(root, part)
    except OSError as error:
        raise InputError(f"can't read {root}: {error.strerror}", "check path and permissions") from None
    if is_hub_id(path):
        return Hub(path, part)
    raise InputError(f"no such file or folder: {root}", "give a file, a folder, or a hub id (ORG/NAME)")


def of_file(path: Path, part: str = "", lenient: bool = False) -> Container:
    """The container of a file, by its suffix and its first bytes.

    `lenient` reads what loggers write and no standard has: NaN in JSON, two columns of one name.
    """
    suffix = plain_suffix(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", "copy or download it again")
    _refuse_another(path)
    if suffix in _JSON:
        from stages.reading.containers.json_files import json_container

        return json_container(path, part, lenient)
    if suffix in _DELIMITED:
        from stages.reading.containers.delimited import Delimited

        return Delimited(path, lenient)
    makers = _makers()
    if suffix not in makers:
        raise InputError(f"{path} is of no format that is read", f"read are {', '.join(SUFFIXES)}, also compressed")
    return makers[suffix]([path])


_INSTEAD = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file", "git lfs pull"),
    (b"<!doctype html", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
)
_PACKED = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"BZh", ".bz2"), (b"\xfd7zXZ", ".xz"))


def _refuse_another(path: Path) -> None:
    """InputError where the first bytes are of something else than the name says."""
    with open(path, "rb") as handle:
        head = handle.read(64)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for begins, what, hint in _INSTEAD:
        if start.startswith(begins):
            raise InputError(f"{path} is {what}", hint)
    suffix = next((s for begins, s in _PACKED if head.startswith(begins)), "")
    if suffix and not is_compressed(path):
        raise InputError(f"{path} is compressed, and its name doesn't say so", f"call it {path.name}{suffix}")


def _makers() -> dict[str, Callable[[list[Path]], Container]]:
    from stages.reading.containers.archives import WebDataset
    from stages.reading.containers.tables import Arrow, Parquet
    from stages.reading.containers.workbooks import Workbook

    def of(kind: Callable[[list[Path], Path, str], Container]) -> Callable[[list[Path]], Container]:
        return lambda files: kind(files, files[0].parent, plain_stem(files[0]))

    return {
        **dict.fromkeys(_ARROW, of(Arrow)),
        **dict.fromkeys((".tar", ".tgz"), of(WebDataset)),
        ".parquet": of(Parquet),
        ".xlsx": lambda files: Workbook(files[0]),
    }


def _folder(root: Path, part: str) -> Container:
    """What a folder holds; the rules in this order, the first that applies."""
    from stages.reading.containers.tables import Arrow, Parquet

    if (root / "dataset_dict.json").is_file():
        return _part(root, part)
    files = sorted(p for p in root.iterdir() if p.is_file() and not p.name.startswith("."))
    if (root / "state.json").is_file():
        return Arrow([p for p in files if p.suffix == ".arrow"], root, root.resolve().name)
    shards = root / "shards"
    if shards.is_dir() and (root / "manifest.json").is_file():
        return Parquet(_sorted(shards, ".parquet"), shards, root.resolve().name)
    if (images := _image_folder(root, part)) is not None:
        return images
    data = files if any(plain_suffix(p) in SUFFIXES for p in files) else _sorted(root / "data", "")
    return _alike([p for p in data if plain_suffix(p) in SUFFIXES], root, part)


def _part(root: Path, part: str) -> Container:
    parts = [p.name for p in sorted(root.iterdir()) if (p / "state.json").is_file()]
    chosen = part or ("train" if "train" in parts else parts[0] if len(parts) == 1 else "")
    if chosen not in parts:
        raise InputError(
            f"{root} has the parts {', '.join(parts) or 'none'}", f"cosmo prepare {root / (parts or ['PART'])[0]}"
        )
    return _folder(root / chosen, "")


def _sorted(folder: Path, suffix: str) -> list[Path]:
    # Sorted: a folder lists its files in an order of its own, and records must come alike on every machine.
    return sorted(p for p in folder.glob(f"*{suffix}") if p.is_file()) if folder.is_dir() else []


def _image_folder(root: Path, part: str) -> Container | None:
    from stages.reading.containers.image_folders import IMAGES, CaptionedImages, NamedImages

    for name in _TABLES:
        if (root / name).is_file():
            return NamedImages(of_file(root / name, part), root)
    images = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
    # A table with an `images/` folder beside it is a table.
    if not images or any(plain_suffix(p) in SUFFIXES and not _is_caption(p) for p in root.iterdir() if p.is_file()):
        return None
    return CaptionedImages(root, images)


def _is_caption(path: Path) -> bool:
    from stages.reading.containers.image_folders import CAPTIONS, IMAGES

    return path.suffix in CAPTIONS and any(path.with_suffix(s).is_file() for s in IMAGES)


def _alike(files: list[Path], root: Path, part: str) -> Container:
    """One container of several files of one kind."""
    if part and (named := [p for p in files if p.name.startswith(part)]):
        files = named
    if not files:
        raise InputError(f"{root} holds no data file", f"read are {', '.join(SUFFIXES)}, and folders of images")
    suffixes = {plain_suffix(p) for p in files}
    # `train-00000-of-00004.parquet`: what stands before the number is the part.
    parts = sorted({plain_stem(p).partition("-0")[0] for p in files})
    if len(suffixes) == 1 and (len(files) == 1 or (len(parts) == 1 or not _are_splits(parts))):
        suffix = suffixes.pop()
        if len(files) == 1:
            return of_file(files[0])
        if suffix in _makers():
            container = _makers()[suffix](files)
            container.name = root.resolve().name
            return container
        if suffix in (".jsonl", ".ndjson", ".jsonlines"):
            from stages.reading.containers.json_files import JsonLines

            return JsonLines(files, root, root.resolve().name)
    names = ", ".join(p.name for p in files[:_MOST_NAMED])
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    raise InputError(f"{root} holds {names}{more}: say which", f"cosmo prepare {files[0]}")


def _are_splits(parts: list[str]) -> bool:
    return any(p.startswith(("train", "test", "val", "dev")) for p in parts)
