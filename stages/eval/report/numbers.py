"""Numbers as a reader wants them: per cent for rates, points for their changes, a true minus sign."""

from __future__ import annotations

from collections.abc import Sequence


def value(number: float | None, rate: bool) -> str:
    """A rate as `41.2%`, any other number as `63.5`."""
    if number is None:
        return "–"
    return f"{number * 100:.1f}%" if rate else _plain(number, number)


def interval(low: float | None, high: float | None, rate: bool) -> str:
    """Both ends of an interval as `36.1 – 46.4`; empty where there is none."""
    if low is None or high is None:
        return ""
    if rate:
        return f"{low * 100:.1f} – {high * 100:.1f}"
    return f"{_plain(low, high)} – {_plain(high, high)}"


def change(number: float, rate: bool, like: float | None = None) -> str:
    """`+12.3 pts` for rates, else `+4.1` with as many decimals as values `like` that have."""
    if rate:
        text = f"{number * 100:+.1f} pts"
    else:
        text = f"{'-' if number < 0 else '+'}{_plain(abs(number), number if like is None else like)}"
    return text.replace("-", "−")


def change_interval(low: float | None, high: float | None, rate: bool, like: float | None = None) -> str:
    """Both ends of a difference's interval as `+8.1 to +16.4`; empty where there is none."""
    if low is None or high is None:
        return ""
    return f"{change(low, rate, like)} to {change(high, rate, like)}".replace(" pts", "")


def tick(number: float, rate: bool) -> str:
    """An axis label, as short as it can be."""
    if rate:
        # 6 decimals and `g` take off what float leaves, as in 0.30000000000000004.
        return f"{round(number * 100, 6):g}%".replace("-", "−")
    text = f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return text.replace("e-0", "e-").replace("-", "−")


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def _plain(number: float, like: float) -> str:
    return f"{number:,.1f}" if abs(like) >= 10 else f"{number:.2f}"
