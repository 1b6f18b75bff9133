"""Which digest of a built-in plugin's source its version stands for: `stages/core/plugin_digests.json`.

Where the file has a plugin's present digest, its key holds the version, so that a refactoring leaves runs cached. Where
it has another, somebody edited the plugin or what it imports: the key holds the digest, and so does that of every run.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from stages.core.plugins import builtin, source
from stages.core.plugins.kinds import KINDS, ROOT

FILE = ROOT / "stages" / "core" / "plugin_digests.json"
KEYED = (
    *("dataset", "augmentation", "engine", "verifier", "instruction"),
    *("loss", "advantage", "objective", "metric", "export"),
)
"""Kinds whose plugins can change rows. A backbone is weights, which have a digest; an executor changes no row."""


def identity(kind: str, name: str, module: str) -> int | str:
    """The version of a built-in plugin where it stands for the source as it is; else the source's digest."""
    found = source.built_in(kind, module)
    recorded = _recorded().get(kind, {}).get(name)
    return int(recorded["version"]) if recorded is not None and recorded["source"] == found else found


@cache
def _recorded() -> dict[str, dict[str, dict[str, Any]]]:
    """Kind -> name -> version and digest; nothing where there is no file."""
    return dict(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.is_file() else {}


def present() -> dict[str, dict[str, dict[str, Any]]]:
    """What the file should hold: the version and digest of every built-in plugin whose code can change rows."""
    return {
        kind: {
            name: {
                "version": builtin.module(kind, file).PLUGIN.version,
                "source": source.built_in(kind, builtin.module_name(kind, file)),
            }
            for name, file in builtin.files(kind).items()
        }
        for kind in KEYED
        if kind in KINDS
    }


def differences(now: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Built-in plugins whose source is another under the same version, one line each."""
    return [
        f"{kind} {name}: its code, or code that it imports, changed, and its version is {entry['version']} as before"
        for kind, plugins in now.items()
        for name, entry in plugins.items()
        if (old := recorded.get(kind, {}).get(name)) is not None
        and old["version"] == entry["version"]
        and old["source"] != entry["source"]
    ]
