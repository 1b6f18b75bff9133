"""A conversation as its model's chat template writes it, by a program that nobody here has read.

Jinja's sandbox keeps a template from files and modules, and neither from looping for ever nor from making gigabytes. So
it is rendered in a child process with limits on memory and processor time, and on the characters that come out. An
honest template takes a millisecond, so the limit of time is thousands of times what one needs: no result depends on
how fast a machine is.
"""

from __future__ import annotations

import atexit
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.children.pool import Child, JobFailed, Pool, TimedOut
from stages.models.tiny.chat_templates import OWN_TEMPLATES

LIMIT_S = 5.0
"""Seconds of processor time for one conversation."""
SPARE_CHARACTERS, MOST_TIMES = 1_000_000, 8
"""A rendered text may have so many characters, and so many for each that the conversation has."""
_SHORTEST = [{"role": "user", "content": "a"}]
_HINT = "look at the model's chat_template.jinja"


class TemplateError(Exception):
    """A template that refused a conversation, failed on it, or took more than it may; one line says which."""


class _Spent(TemplateError):
    """A template that took more time, memory or characters than it may."""


def _start() -> Child:
    return Child(Path(__file__).with_name("worker.py"), "transformers")


_POOL = Pool(_start)
atexit.register(_POOL.close)


def render(renderer: Any, turns: list[dict[str, Any]]) -> str:
    """The conversation as text, ready for the completion, by the chat template of a tokenizer or a processor.

    Raises TemplateError, and whatever a renderer with code of its own raises.
    """
    template = renderer.chat_template
    if isinstance(template, dict):
        # What transformers takes where a model has several.
        template = template.get("default")
    if not isinstance(template, str):
        raise TemplateError("the model has several chat templates, and none is called default")
    if template not in OWN_TEMPLATES:
        tokens = dict(getattr(renderer, "tokenizer", renderer).special_tokens_map)
        try:
            text = _limited(template, turns, tokens)
        except _Spent:
            raise
        except TemplateError:
            if not _renders_itself(renderer):
                raise
        else:
            if not _renders_itself(renderer):
                return text
    return str(renderer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _renders_itself(renderer: Any) -> bool:
    """Whether a class has a rendering of its own: what its template costs is known, and then its code is asked."""
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    usual = (PreTrainedTokenizerBase.apply_chat_template, ProcessorMixin.apply_chat_template)
    return type(renderer).apply_chat_template not in usual


def _limited(template: str, turns: list[dict[str, Any]], tokens: dict[str, Any]) -> str:
    """A rendered conversation; TemplateError where there is none."""
    # One that takes too long over a single letter would do so for every row of a run.
    if (spent := _always_spent(template, json.dumps(tokens, default=str))) is not None:
        raise _Spent(spent)
    return _by_child(template, turns, tokens)


@lru_cache(maxsize=64)
def _always_spent(template: str, tokens: str) -> str | None:
    """What a template takes too much of for the shortest conversation; None for one that does not, or fails."""
    try:
        _by_child(template, _SHORTEST, json.loads(tokens))
    except _Spent as spent:
        return str(spent)
    except TemplateError:
        return None
    return None


def _by_child(template: str, turns: list[dict[str, Any]], tokens: dict[str, Any]) -> str:
    given = json.dumps(turns)
    job = {"template": template, "turns": turns, "most": SPARE_CHARACTERS + MOST_TIMES * len(given)}
    # Added tokens are objects to the tokenizer, and strings to a template.
    job["tokens"] = json.loads(json.dumps(tokens, default=str))
    try:
        found = _POOL.run(job, LIMIT_S)
    except TimedOut:
        raise _Spent(f"the chat template took more than {LIMIT_S:g} s of processor time: {_HINT}") from None
    except JobFailed as error:
        raise _Spent(f"the chat template failed: {error}: {_HINT}") from None
    if "spent" in found:
        raise _Spent(f"the chat template took {found['spent']}: {_HINT}")
    if "failed" in found:
        raise TemplateError(found["failed"])
    return str(found["text"])
