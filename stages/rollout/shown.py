"""How far a rollout is, as a person sees it: groups of all its shards, completions, and tokens a second."""

from __future__ import annotations

import time

from stages.core.stage import Context
from stages.rollout.methods.base import DrawnGroup

_EVERY = 0.5
"""Seconds between two looks at a batch that is being drawn: it takes a token a few milliseconds."""


class Shown:
    """Counts what is drawn: what an engine says of a batch under way, and the groups that came of it."""

    def __init__(self, ctx: Context) -> None:
        self._progress = ctx.progress
        # Nobody knows what other workers leave to this one: then each shard is counted by itself.
        self._groups = sum(len(shard["entries"]) for shard in ctx.shards) or None
        self._expected = (self._groups or 0) * ctx.config.samples
        self._completions = self._tokens = self._finished = self._finished_tokens = 0
        self._began = self._last = 0.0

    def begin(self) -> None:
        """A shard is begun: the first one starts the count."""
        self._progress.start("rollout", self._groups, "groups")
        self._began = self._began or time.monotonic()

    def heard(self, completions: int, tokens: int) -> None:
        """The engine drew so much since it was last heard (`Engine.heard`)."""
        self._completions += completions
        self._tokens += tokens
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            self._advance(0)

    def group(self, group: DrawnGroup) -> None:
        """A group is whole."""
        self._finished += len(group.completions)
        self._finished_tokens += sum(len(one.token_ids) for one in group.completions)
        # An engine that says nothing on the way, or draws what is not kept.
        self._completions, self._tokens = (
            max(self._completions, self._finished),
            max(self._tokens, self._finished_tokens),
        )
        self._advance(1)

    def _advance(self, groups: int) -> None:
        drawn = f"{self._completions:,}" + (f"/{self._expected:,}" if self._expected else "")
        speed = self._tokens / max(time.monotonic() - self._began, 1e-9)
        self._progress.advance(groups, completions=drawn, tokens_per_second=round(speed))
