"""A Slurm array's place in its array, as `--worker i/n`."""

from __future__ import annotations

from collections.abc import Mapping

from stages.core.errors import UsageError

_NAMES = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT", "STEP"))


def array_worker(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """(i, n) of this task, wherever its array starts and whatever its step; None outside an array.

    An array with gaps has no such place: a shard could be left to an index that never runs.
    """
    if _NAMES[0] not in environment:
        return None
    variables = {name: environment[name] for name in _NAMES if name in environment}
    try:
        task, first, last, count, step = (int(variables.get(name, "1" if name == _NAMES[4] else "")) for name in _NAMES)
    except ValueError:
        raise _unclear(variables) from None
    # Place 2 of `--array=4-8:2` is (8 - 4) / 2; a remainder, or fewer tasks than places, means gaps.
    index, off = divmod(task - first, step) if step > 0 else (0, 1)
    if off or not 0 <= index < count or (count - 1) * step != last - first:
        raise _unclear(variables)
    return index, count


def _unclear(variables: dict[str, str]) -> UsageError:
    listed = ", ".join(f"{name}={value}" for name, value in variables.items())
    return UsageError(
        f"this Slurm array has gaps, so no task knows its part ({listed})",
        "submit it as --array=0-7, or give --worker i/n; --worker 0/1 does every shard here",
    )
