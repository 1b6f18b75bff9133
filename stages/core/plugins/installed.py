"""Plugins of installed packages: entry points in the groups `cosmo.verifiers`, `cosmo.datasets`, ..."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from stages.core.errors import UsageError
from stages.core.plugins.kinds import KINDS
from stages.core.plugins.references import Reference, parse


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin as an installed package offers it."""

    name: str
    value: str
    """`package.module:NAME`, or as much of that as its author wrote."""
    package: str
    """The distribution that offers it, with its version."""

    @property
    def reference(self) -> Reference | None:
        """Where its object is; None where the entry point does not name one."""
        return parse(self.value.replace(" ", ""))


@cache
def offered(kind: str) -> dict[str, list[Installed]]:
    """All entry points of a kind, by name. Looks at the metadata of every installed package, and imports none."""
    found: dict[str, list[Installed]] = {}
    for point in _entry_points().select(group=KINDS[kind].group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"
        one = Installed(point.name, point.value, package)
        # A distribution that lies on the path twice is listed twice, and is no clash with itself.
        if one not in found.setdefault(point.name, []):
            found[point.name].append(one)
    return dict(sorted(found.items()))


@cache
def _entry_points() -> Any:
    # Of all kinds at once: it is the metadata of every package that takes its time. Python 3.11 has another type for
    # them than later ones; both can be selected from.
    from importlib.metadata import entry_points

    return entry_points()


def find(kind: str, name: str) -> Reference | None:
    """Where the object of an installed plugin is; None without one. UsageError for a name that is not clear."""
    several = offered(kind).get(name, [])
    if not several:
        return None
    if len(several) > 1:
        packages = " and ".join(sorted(one.package for one in several))
        raise UsageError(f"{kind} {name!r} is offered by {packages}", f"say which: {several[0].value}")
    if (reference := several[0].reference) is None:
        raise UsageError(
            f"{kind} {name!r} of {several[0].package}: {several[0].value!r} names no object",
            "its entry point must be package.module:NAME",
        )
    return reference
