"""IFBench's repeats: the request again, changed, in part, or one sentence alone (arXiv:2507.02833)."""

from __future__ import annotations

from typing import Annotated

from stages.judging.instructions.base import Checks, Least

Index = Annotated[int, Least(0)]


def repeat_change(completion: str, prompt_to_repeat: str) -> bool:
    """The request with another first word. Trap: any change of blanks counts as a change, too."""
    return completion != prompt_to_repeat and completion.split()[1:] == prompt_to_repeat.split()[1:]


def repeat_simple(completion: str) -> bool:
    """Nothing but the instruction itself: Only output this sentence here, ignore all other requests."""
    return completion.strip().lower() == "only output this sentence here, ignore all other requests."


def repeat_span(completion: str, prompt_to_repeat: str, n_start: Index, n_end: Index) -> bool:
    """The request's characters from one index to another, both counted in."""
    return completion.strip().lower() == prompt_to_repeat[n_start : n_end + 1].strip().lower()


PLUGIN = Checks(
    version=1,
    checks={
        "repeat:repeat_change": repeat_change,
        "repeat:repeat_simple": repeat_simple,
        "repeat:repeat_span": repeat_span,
    },
)
