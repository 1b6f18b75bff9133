"""The digest of a plugin: its file, and the modules of its own package that it imports, however far.

Its own package is the stage for a built-in plugin (`stages.score`), and what its kind shares with other stages (for a
dataset `stages.reading`); the top-level package for an installed one, and for a file the modules beside it. What it
takes from elsewhere has versions of its own.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

from schemas.identity import digest
from stages.core.plugins.kinds import KINDS, ROOT
from stages.core.plugins.references import Reference
from stages.core.plugins.trees import tree_of
from stages.core.plugins.unchanged import remembered

Find = Callable[[str], Path | None]
"""The file of a module of the own package; None for any other module."""


def built_in(kind: str, module: str) -> str:
    """The digest of a built-in plugin's module."""
    packages = (KINDS[kind].own_package, *KINDS[kind].shared)
    finders = [partial(_in_package, own, (ROOT / Path(*own.split(".")),)) for own in packages]
    find: Find = lambda name: next((file for look in finders if (file := look(name)) is not None), None)  # noqa: E731
    return remembered(f"{ROOT} {module}", lambda: _digest(_closure(module, find)))


def outside(reference: Reference) -> str:
    """The digest of a plugin outside, its code and which object of it. Raises what reading and parsing raise."""
    if reference.is_file:
        start, file = "", Path(reference.where)
        find: Find = lambda name: _beside(file.parent, name) if name else file  # noqa: E731
    else:
        start, own = reference.where, reference.where.partition(".")[0]
        find = partial(_in_package, own, package_paths(own))
    where = f"{reference.where}:{reference.attribute}"
    return remembered(where, lambda: _digest(_closure(start, find), reference.attribute))


def package_paths(name: str) -> tuple[Path, ...]:
    """Where a top-level package or module lies, without importing it. ImportError where there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"No module named {name!r}", name=name)
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    if spec.origin is None or not Path(spec.origin).is_file():
        raise ImportError(f"the module {name!r} has no file", name=name)
    return (Path(spec.origin),)


def _digest(files: dict[str, Path], attribute: str = "") -> tuple[str, Iterable[Path]]:
    """The digest of these modules, and the files that it is of."""
    trees = sorted((name, tree_of(file).digest) for name, file in files.items())
    return f"sha256:{digest([trees, attribute])}", files.values()


def _closure(start: str, find: Find) -> dict[str, Path]:
    """Module -> file of the module and of all that it imports, as far as `find` knows them."""
    found: dict[str, Path] = {}
    waiting = [start]
    if find(start) is None:
        raise ImportError(f"No module named {start!r}", name=start)
    while waiting:
        name = waiting.pop()
        if name in found or (file := find(name)) is None:
            continue
        found[name] = file
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += (_absolute(imported, package) for imported in tree_of(file).imports)
        # Importing a.b.c runs a and a.b first.
        waiting += (name[:at] for at, letter in enumerate(name) if letter == ".")
    return found


def _absolute(imported: str, package: str) -> str:
    """`..near.thing` as said in a module of `package`."""
    dots = len(imported) - len(imported.lstrip("."))
    if not dots:
        return imported
    base = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join((*base, imported.lstrip("."))).strip(".")


def _in_package(own: str, paths: tuple[Path, ...], name: str) -> Path | None:
    if name == own and paths[0].is_file():
        return paths[0]
    if name != own and not name.startswith(f"{own}."):
        return None
    inside = name.split(".")[own.count(".") + 1 :]
    return next((file for path in paths if (file := _file(path.joinpath(*inside))) is not None), None)


def _beside(folder: Path, name: str) -> Path | None:
    # A file may lie at the root of this repository, or be called like a module that Python brings along.
    top = name.partition(".")[0]
    if top in ("stages", "schemas", "cosmo_cli") or top in sys.stdlib_module_names or not top:
        return None
    return _file(folder.joinpath(*name.split(".")))


@cache
def _file(stem: Path) -> Path | None:
    """The file of a module: a package's `__init__.py`, a source file, or a compiled one."""
    for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
        if file.is_file():
            return file
    if not stem.parent.is_dir():
        return None
    # Compiled ones have interpreter and platform in their names: `fast.cpython-312-x86_64-linux-gnu.so`.
    return next((f for f in sorted(stem.parent.glob(f"{stem.name}.*")) if f.suffix in (".so", ".pyd")), None)
