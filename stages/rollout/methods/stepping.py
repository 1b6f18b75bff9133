"""One step of an environment within its bounds: its time, its errors, and its words as token ids."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread

from schemas.prompts import PromptRow
from stages.core.errors import what_failed
from stages.engines.base import TIMED_OUT, Engine
from stages.rollout.environments.base import Action, Environment, Observation, escaped

_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class StepFailed(Exception):
    """A step that gave no observation; the message is the completion's error."""


def step_in_time(environment: Environment, row: PromptRow, action: Action, seconds: float) -> Observation:
    """What the environment says; StepFailed for what it raises, for what is no Observation, and when time is up.

    A step that does not come back is left to itself: nothing can end a thread.
    """
    came: SimpleQueue[Observation | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            came.put(environment.step(row, action))
        # Whatever somebody's environment raises, it costs this completion alone.
        except BaseException as error:
            came.put(error)

    Thread(target=run, daemon=True).start()
    try:
        found = came.get(timeout=seconds)
    except Empty:
        raise StepFailed(f"the environment {TIMED_OUT} after {seconds:g} s") from None
    if isinstance(found, BaseException):
        raise StepFailed(f"the environment: {what_failed(found)}")
    if not isinstance(found, Observation):
        raise StepFailed(f"the environment gave a {type(found).__name__} and no Observation")
    return found


def observation_ids(engine: Engine, observation: Observation, most: int) -> list[int]:
    """The observation as at most `most` token ids: its tags whole, its words escaped and cut between characters.

    Empty for an observation without words and tag. StepFailed where an id is a control token, or tags alone are more.
    """
    opened, closed = (engine.text_ids(f"<{mark}{observation.tag}>") if observation.tag else [] for mark in ("", "/"))
    room = most - len(opened) - len(closed)
    if room < 0:
        raise StepFailed(f"the tags <{observation.tag}></{observation.tag}> are more than {most} tokens")
    body = engine.text_ids(escaped(observation.text))
    kept = body[:room]
    # A tokenizer of bytes may have been cut within a character, which would then stand there as none.
    while len(kept) < len(body) and kept and engine.decode(kept).endswith(_CUT_CHARACTER):
        kept.pop()
    ids = [*opened, *kept, *closed]
    if banned := set(ids).intersection(engine.banned_token_ids):
        raise StepFailed(f"the environment's words hold the control token {min(banned)}")
    return ids
