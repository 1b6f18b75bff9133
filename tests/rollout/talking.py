"""Environments for tests, as somebody would write them in a file of their own."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.stage import Resources
from stages.rollout.environments.base import Action, Environment, EnvironmentPlugin, Observation


@dataclass(frozen=True)
class Settings:
    stop: list[str] = option([], "Ends of turns")
    says: str = option("", "What it says")
    tag: str = option("", "Its tag")
    fails: str = option("", "raise, sleep, nothing: at prompts whose id begins with an even digit")
    done_after: int = option(0, "Turns after which it is done")


class Talking(Environment):
    """Says the same to everything, with the number of the turn."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.stop = settings, settings.stop

    def step(self, row: PromptRow, action: Action) -> Observation:
        _die()
        own = self.settings
        if own.fails and int(row.id[0], 16) % 2 == 0:
            if own.fails == "raise":
                raise LookupError("no such document")
            if own.fails == "sleep":
                time.sleep(60)
            return None  # type: ignore[return-value]
        if own.done_after and len(action.earlier) + 1 >= own.done_after:
            return Observation(done=True)
        return Observation(own.says and f"{own.says} {len(action.earlier)}{action.text[-1]}", tag=own.tag)


def _die() -> None:
    """After so many steps as KILL_AT says the process is gone."""
    left = int(os.environ.get("KILL_AT", "0"))
    os.environ["KILL_AT"] = str(max(0, left - 1))
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)


class Plugin(EnvironmentPlugin):
    settings = Settings

    def open(self, settings: Any, resources: Resources) -> Environment:
        return Talking(settings)


talking = Plugin()
