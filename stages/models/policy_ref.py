"""Which model is meant, and its content digest. Loads no torch, so planning stays cheap."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest
from stages.core.cache import cache_root
from stages.core.errors import InputError, UnavailableError, UsageError, first_line
from stages.core.file_digest import file_sha256, is_sha256
from stages.core.parallel_map import in_order
from stages.core.runs.folder import RunFolder, artifact
from stages.core.storage.location import is_url
from stages.models.tiny.build import tiny_folder

# What decides a model's behaviour: weights, configs, tokenizer, processor, template, remote code.
_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".py", ".tiktoken")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_HINT = "give tiny:NAME (cosmo list backbone), a train run, a Hugging Face folder, or a hub name ORG/NAME"


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """A model by content."""

    spec: str
    """As it was typed."""
    id: str
    """16 hex digits over the sha256 of every file that matters; the same content is the same policy."""
    folder: Path
    """Where its Hugging Face folder lies; that of a run in a bucket is perhaps not fetched yet: use `path`."""
    run: Path | None
    """The train run that made it, where one did."""
    name: str
    """Short, for people."""

    @property
    def path(self) -> Path:
        """The Hugging Face folder on this machine; planning asks for none, so it fetches none."""
        return self.folder if self.run is None else artifact(self.run, "policy")


def resolve_policy(spec: str) -> PolicyRef:
    """Find a model by `tiny:NAME[@SEED]`, train run, Hugging Face folder, or hub name.

    Raises UnavailableError when there is none, InputError for a run without a finished policy.
    """
    if not spec:
        raise UsageError("no policy was given", f"add --policy: {_HINT}")
    if spec.startswith("tiny:"):
        return _tiny(spec)
    if is_url(spec):
        return _train_run(spec, RunFolder.open(Path(spec.rstrip("/").removesuffix("/policy"))))
    path = Path(spec).expanduser()
    if (path / "manifest.json").is_file():
        return _train_run(spec, RunFolder.open(path))
    if path.is_dir():
        run = path.parent if path.name == "policy" and (path.parent / "manifest.json").is_file() else None
        return _ref(spec, path, run, run.name if run else path.resolve().name)
    if path.exists():
        raise UnavailableError(f"{spec} is a file, not a model folder", _HINT)
    if _HUB_NAME.fullmatch(spec):
        return _ref(spec, _hub_folder(spec), None, spec.partition("/")[2])
    raise UnavailableError(f"no such model: {spec}", _HINT)


def _tiny(spec: str) -> PolicyRef:
    name, _, seed = spec.removeprefix("tiny:").partition("@")
    if seed and not seed.isdecimal():
        raise UsageError(f"policy {spec!r}: the seed {seed!r} is not a number", "write it as tiny:qwen2_5_vl@3")
    return _ref(spec, tiny_folder(name, int(seed or 0)), None, spec.replace(":", "-"))


def _train_run(spec: str, run: RunFolder) -> PolicyRef:
    if run.stage != "train":
        raise InputError(f"{spec} is a {run.stage} run and holds no policy", "give a train run, or a model folder")
    files: dict[str, str] = {}
    for _, receipt in sorted(run.receipts().items()):
        for entry in receipt.files:
            name = entry.path.removeprefix("policy/")
            if name != entry.path and _counts(name):
                files[name] = entry.sha256
    if not files:
        raise InputError(f"{spec} has no finished policy", "finish it with the same cosmo train command")
    # Weights that retention has removed still name their policy: what was made with it stays cached.
    return PolicyRef(spec, _policy_id(files), run.path / "policy", run.path, run.path.resolve().name)


def _ref(spec: str, folder: Path, run: Path | None, name: str) -> PolicyRef:
    return PolicyRef(spec, folder_id(folder), folder, run, name)


def folder_id(folder: Path, sha256: Callable[[Path], str] | None = None) -> str:
    """The policy id of a Hugging Face folder; UnavailableError when it is not one.

    `sha256` gives the digest of a file to whoever has it at hand; without, digests are remembered in the user cache.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and _counts(p.name))
    if "config.json" not in names:
        raise UnavailableError(f"{folder} is not a model folder: no config.json", _HINT)
    if not any(n.endswith(".safetensors") for n in names):
        raise UnavailableError(f"{folder} has no safetensors weights", "convert them: pickled weights are not loaded")
    if sha256 is not None:
        digests = in_order(lambda name: sha256(folder / name), names, min(8, len(names)))
        return _policy_id(dict(zip(names, digests, strict=True)))
    return _policy_id(_hashes(folder, names))


def _counts(name: str) -> bool:
    # Directly in the folder: what lies deeper, other formats most often, is not what is loaded.
    return name.endswith(_SUFFIXES) and "/" not in name and not name.startswith(".")


def _policy_id(files: dict[str, str]) -> str:
    return digest(sorted(files.items()))[:16]


def _hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """sha256 by file name; remembered by path, size and time, for folders of many gigabytes."""
    path = str(folder.resolve())
    cache_file = cache_root() / "digests" / f"{digest(path)[:32]}.json"
    known: dict[str, list[Any]] = {}
    # A cache that can't be read or written costs a second hashing and nothing else.
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(cache_file.read_text(encoding="utf-8"))

    def entry(name: str) -> list[Any]:
        stat = (folder / name).stat()
        mark = [stat.st_size, stat.st_mtime_ns]
        old = known.get(name)
        # A cache may be damaged or cut short: what it says is believed where it can be a digest.
        believed = isinstance(old, list) and old[:2] == mark and is_sha256(old[-1])
        return [*mark, old[-1] if believed and old else _sha256(folder / name)]

    current = dict(zip(names, in_order(entry, names, min(8, len(names))), strict=True))
    if current != known:
        with contextlib.suppress(OSError):
            cache_file.parent.mkdir(parents=True, exist_ok=True)
            beside = cache_file.with_name(f"{cache_file.name}.{os.getpid()}")
            beside.write_text(json.dumps(current), encoding="utf-8")
            os.replace(beside, cache_file)
    return {name: found[2] for name, found in current.items()}


def _sha256(path: Path) -> str:
    # The hub's own cache names a large file by its sha256.
    target = path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target):
        return target
    return file_sha256(path)


def _hub_folder(spec: str) -> Path:
    """The snapshot of a hub repository `ORG/NAME[@REVISION]`: the cached one, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = spec.partition("@")
    request: dict[str, Any] = {
        "repo_id": repo,
        "revision": revision or None,
        "allow_patterns": [f"*{s}" for s in _SUFFIXES],
        "ignore_patterns": ["*/*"],
    }
    # Cached first: else each start would ask the hub, and a branch that moved would change the policy between two
    # turns.
    with contextlib.suppress(LocalEntryNotFoundError, HFValidationError):
        folder = Path(snapshot_download(**request, local_files_only=True))
        if _whole(folder):
            return folder
    try:
        folder = Path(snapshot_download(**request, etag_timeout=10))
        reason = "" if _whole(folder) else "only part of its files could be had"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
    if reason:
        raise UnavailableError(
            f"no such model: {spec} (no folder of that name; the hub: {reason})",
            f"check the name, or download it where there is a network: hf download {repo}",
        )
    return folder


def _whole(folder: Path) -> bool:
    """True when a cached snapshot has its config and all its weights."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        # Without an index there is one file, which transformers calls so.
        weights = {"model.safetensors"}
    return all((folder / name).is_file() for name in {"config.json", *weights})
