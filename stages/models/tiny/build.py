"""Tiny backbones as folders in the user cache, each built once on a machine. Losing the cache costs only time.

A folder's name holds the backbone, its version, the seed and a digest of the code that decides its content: a changed
recipe builds another folder and leaves the old one to the runs that name it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from schemas.identity import digest
from stages.core.cache import cache_root
from stages.core.errors import UnavailableError
from stages.core.plugins.kinds import KINDS, ROOT
from stages.core.registry import load, plugin_key, short_name


def tiny_folder(name: str, seed: int) -> Path:
    """The built folder of a tiny backbone; builds it first when this recipe was never built here.

    Built in a process of its own, so that planning a run never loads torch into this one.
    """
    plugin = load("backbone", name)
    called = short_name(name)
    # One from outside goes by its source: nobody looks after its version.
    made = f"v{plugin.version}" if called == name else str(plugin_key("backbone", name)[1])[-12:]
    folder = cache_root() / "tiny" / f"{called}-{made}-s{seed}-{_recipe_digest()}"
    try:
        # Of another user's folder not even that can be asked.
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{called}-", dir=folder.parent))
    except OSError as error:
        raise UnavailableError(
            f"can't write to the cache {folder.parent}: {error.strerror}", "point COSMO_CACHE to a folder of yours"
        ) from None
    try:
        _build(name, seed, staging / "model")
        os.rename(staging / "model", folder)
    except OSError:
        # Another process was first: rename refuses to replace its folder, which holds the same bytes.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _build(name: str, seed: int, folder: Path) -> None:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    done = subprocess.run(
        [sys.executable, "-m", "stages.models.tiny.build", name, str(seed), str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UnavailableError(f"can't build tiny:{name}: {last}", "check the installation: pip install -e .")


def _recipe_digest() -> str:
    """8 hex digits over the code that decides a tiny folder's content: a change there builds a new one."""
    folders = (KINDS["backbone"].folder, ROOT / "stages" / "world")
    files = sorted(p for f in folders for p in f.rglob("*.py"))
    return digest([[p.name, p.read_text(encoding="utf-8")] for p in files])[:8]


if __name__ == "__main__":
    load("backbone", sys.argv[1]).build(Path(sys.argv[3]), int(sys.argv[2]))
