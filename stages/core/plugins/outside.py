"""Loading plugins that are not ours: said before it runs, with errors that name the person's own file and line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.errors import CosmoError, UsageError, first_line
from stages.core.plugins.references import Reference
from stages.core.plugins.source import package_paths

_roots: set[Path] = set()
"""Files, and folders of packages, whose code was loaded as plugins: errors in them are their authors'."""
_refused: list[str] = []
"""Why no code that is named by its place may run now; empty when it may."""


class ForeignCodeError(UsageError):
    """Code that a run folder or a recipe of somebody else names, and that nobody here asked to run."""


@contextmanager
def no_named_code(why: str) -> Iterator[None]:
    """Within it a `file.py:NAME` or `module:NAME` raises ForeignCodeError instead of running."""
    _refused.append(why)
    try:
        yield
    finally:
        _refused.pop()


def load(kind: str, reference: Reference, by_place: bool = True) -> Any:
    """The object that a reference names, its file or module imported; UsageError where that fails.

    `by_place`: somebody wrote file or module down; else it is an installed package's, which its owner chose to install.
    """
    if _refused and by_place:
        raise ForeignCodeError(f"{_refused[-1]} names code: {reference.text}", "add --run-code if you trust it")
    what = f"{kind} {reference.text}"
    with failures(what, reference.shown):
        if reference.is_file and not Path(reference.where).is_file():
            raise UsageError(f"{what}: no such file: {reference.shown}", "a relative path starts at the working folder")
        if by_place:
            _announce(reference)
        module = _file_module(Path(reference.where)) if reference.is_file else _module(reference.where)
    if not hasattr(module, reference.attribute):
        there = sorted(n for n, v in vars(module).items() if not n.startswith("_") and callable(v))
        raise UsageError(
            f"{what}: {reference.shown} has no {reference.attribute}", f"it has: {', '.join(there[:12]) or 'nothing'}"
        )
    return getattr(module, reference.attribute)


def _announce(reference: Reference) -> None:
    # Ranks of one command would all say it.
    if os.environ.get("RANK", "0") == "0":
        _say(reference.shown)


@cache
def _say(shown: str) -> None:
    print(f"running code of {shown}", file=sys.stderr, flush=True)


def _module(name: str) -> Any:
    # The import below raises the same, inside `failures`.
    with suppress(ImportError):
        _roots.update(package_paths(name.partition(".")[0]))
    return importlib.import_module(name)


@cache
def _file_module(file: Path) -> Any:
    """The module of a file, imported once a process."""
    _roots.add(file)
    # Behind everything else: what lies beside it can be imported, and hides nothing.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    # With the path: files of one name in two folders are two modules.
    name = f"cosmo_plugin_{file.stem}_{abs(hash(str(file))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # Half a module: the next try has to run the file from its beginning.
        del sys.modules[name]
        raise
    return module


@contextmanager
def failures(what: str, shown: str, file: Path | None = None) -> Iterator[None]:
    """Whatever the code raises as a UsageError that says where. A plugin that exits is one that fails, too.

    `file`: a built-in plugin's, for errors of somebody who is writing one.
    """
    if file is not None:
        _roots.add(file)
    try:
        yield
    # It says already what is wrong, and where.
    except CosmoError:
        raise
    except (Exception, SystemExit) as error:
        where = line_of_plugin(error) or shown
        raise UsageError(f"{what}: {type(error).__name__}: {first_line(error)}", f"see {where}") from error


def line_of_plugin(error: BaseException) -> str | None:
    """`./my_rewards.py line 12`: the last place in a plugin's own code that an error went through; None without one."""
    if isinstance(error, SyntaxError) and error.filename and _is_named_code(error.filename):
        return f"{_shown(error.filename)} line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_named_code(f.filename)]
    return f"{_shown(frames[-1].filename)} line {frames[-1].lineno}" if frames else None


def _is_named_code(filename: str) -> bool:
    file = Path(filename)
    return any(root == file or root in file.parents for root in _roots)


def _shown(filename: str) -> str:
    with suppress(ValueError, OSError):
        return str(Path(filename).relative_to(Path.cwd()))
    return filename
