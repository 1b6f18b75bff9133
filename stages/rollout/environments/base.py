"""What an environment plugin is: it reads what a completion has done in its turn, and says what comes of it.

An environment is a pure function of the row, the action and what was read when it was opened (named by a digest): no
clock, no network, no memory of other completions. So a run that was killed, or is done in other batches, has the same
rows. What it says goes into the completion escaped and in a tag, as tokens that the policy did not generate.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from schemas.prompts import PromptRow
from stages.core.stage import Resources

_TAG = re.compile(r"[a-z][a-z_]*")


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is over: the policy's words, and what the environment said to them."""

    text: str
    """What the policy generated, up to the text that ended its turn."""
    observation: str
    """What the environment said, as it said it: before it was escaped, tagged or cut."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an environment is asked about."""

    text: str
    """What the policy generated in this turn."""
    earlier: tuple[Turn, ...] = ()
    """The turns before it, in order."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What an environment says to an action."""

    text: str = ""
    """Any text: `<` is written `&lt;`, so nothing in it reads as a tag of the policy's. Empty, without a tag: nothing
    is put into the completion, which goes on as if nobody had asked."""
    done: bool = False
    """The completion ends with the action; nothing is put after it."""
    tag: str = ""
    """The text stands in `<tag>` and `</tag>`, which are never cut; empty: it stands alone."""

    def __post_init__(self) -> None:
        """ValueError for a tag that is not lower-case letters and underscores."""
        if self.tag and not _TAG.fullmatch(self.tag):
            raise ValueError(f"the tag {self.tag!r} is not of a-z and _")


def escaped(text: str) -> str:
    """The text with every `<` as `&lt;`: what a document says is data, whatever it says."""
    return text.replace("<", "&lt;")


class Environment(ABC):
    """An opened environment.

    Example: a die that is thrown by `<throw></throw>`, and always falls alike for the same question::

        class Die(Environment):
            stop = ["</throw>", "</answer>"]

            def step(self, row, action):
                if action.text.endswith("</answer>"):
                    return Observation(done=True)
                return Observation(str(int(row.id[:8], 16) % 6 + 1), tag="die")
    """

    stop: list[str]
    """Texts that end the policy's turn: `</search>`. Those it writes otherwise, an end of sequence among them, end the
    completion without a step."""

    @abstractmethod
    def step(self, row: PromptRow, action: Action) -> Observation:
        """What comes of an action. Whatever it raises is that completion's error, and the others go on.

        Called from a thread of its own, and abandoned after `time_limit_s`.
        """


class EnvironmentPlugin(ABC):
    """An environment file's PLUGIN."""

    version: int = 1
    """Raised when the same action would get another answer."""
    settings: type[Any] | None = None
    """A frozen dataclass of `option`s, filled from `[rollout.environment.options]`; None where it has none."""

    def identity(self, settings: Any) -> dict[str, Any]:
        """The digests of what it reads, for the run's key; the settings that are not `affects=False` count by
        themselves. Called while planning. InputError or UsageError for what can't be."""
        return {}

    @abstractmethod
    def open(self, settings: Any, resources: Resources) -> Environment:
        """Read what it needs, or find it read in `resources`; UnavailableError where this machine lacks something."""
