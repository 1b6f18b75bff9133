"""Whether the installed vLLM has a class of its own for an architecture, read from its source: vLLM is not imported.

vLLM's `model_executor/models/registry.py` lists architectures as keys of plain dictionaries; importing it would take
seconds, and a GPU build fails where there is no GPU.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path

_REGISTRY = Path("model_executor", "models", "registry.py")
# Models that generate; beside these are tables of embedding, reward and draft models, and of the general fallback.
_TABLES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
UNKNOWN = "unknown: vLLM is not installed here"


def vllm_class(architectures: Sequence[str] | None, known: frozenset[str] | None) -> str:
    """A line for the table of `cosmo check`: which class vLLM has for a model, or that it has none or can't be asked.

    `known`: what `known_architectures` found.
    """
    if known is None:
        return UNKNOWN
    found = [name for name in architectures or () if name in known]
    if found:
        return f"known: {found[0]}"
    return f"not known: {', '.join(architectures or ()) or 'config.json names no architecture'}"


def known_architectures(registry: Path | None = None) -> frozenset[str] | None:
    """The architectures that vLLM has a generating class for; None where there is no vLLM or no such table in it."""
    path = registry or _installed()
    if path is None or not path.is_file():
        return None
    names: set[str] = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        table = getattr(statement, "value", None)
        if isinstance(table, ast.Dict) and any(isinstance(t, ast.Name) and t.id in _TABLES for t in targets):
            names |= {key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return frozenset(names) or None


def _installed() -> Path | None:
    # Of a package at the top this imports nothing.
    spec = importlib.util.find_spec("vllm")
    return Path(spec.origin).parent / _REGISTRY if spec is not None and spec.origin else None
