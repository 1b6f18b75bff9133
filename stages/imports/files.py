"""Which files are read, and by what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.imports.eval_logs import EvalLog
from stages.reading.containers.base import Container, plain_suffix
from stages.reading.containers.found import SUFFIXES, of_file
from stages.reading.containers.json_files import JsonObject

_OWN = {".eval": EvalLog}
_READ = (*SUFFIXES, *_OWN)


def find_files(named: list[str]) -> list[Path]:
    """The files, those in folders sorted by name; InputError for one that is not there or of an unknown kind."""
    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and plain_suffix(p) in _READ)
            # lmms-eval and lm-eval put a summary, which is no row of anything, beside the samples.
            samples = [p for p in inside if "samples_" in p.name and plain_suffix(p) == ".jsonl"]
            if not inside:
                raise InputError(f"{path} holds no file of completions", f"files end in {', '.join(_READ)}")
            found += samples or inside
        elif not path.is_file():
            raise InputError(f"no such file or folder: {path}", "cosmo import FILE --as rollout")
        elif plain_suffix(path) not in _READ:
            raise InputError(f"{path} is of no kind that is read", f"files end in {', '.join(_READ)}, also compressed")
        else:
            found.append(path)
    return found


def open_file(path: Path) -> Container:
    """A file of rows, by its suffix."""
    if path.suffix in _OWN:
        return _OWN[path.suffix](path)
    container = of_file(path, lenient=True)
    return _ById(path, "", lenient=True) if isinstance(container, JsonObject) else container


class _ById(JsonObject):
    """A JSON object, which may be nothing but completions by id."""

    def _itself(self, whole: dict[str, Any]) -> list[Any]:
        if not whole or not all(isinstance(text, str) for text in whole.values()):
            raise InputError(
                f"{self.files[0]} holds no list of rows", "a list of objects, or one object of them by id, is read"
            )
        return [{"id": name, "completion": text} for name, text in whole.items()]
