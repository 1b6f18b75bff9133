"""Prompt rows from a sample's own columns, for files that come without a prepared run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from stages.core.errors import BadSample, InputError
from stages.imports.config import ImportConfig
from stages.imports.samples import LISTS
from stages.models.image_checks import Limits, check_image
from stages.reading.choices import LETTERS, letter_of, options_of
from stages.reading.layouts.image_values import ImageRules, images_in
from stages.reading.layouts.shapes import there
from stages.reading.layouts.turns import Turn, as_turns, assembled, turns_of
from stages.reading.literals import opened
from stages.reading.plain_samples import TEXTS, Defaults, Draft, draft_of
from stages.reading.references import says_nothing
from stages.reading.spellings import flag_in, split_in


def image_rules(config: ImportConfig, file: Path) -> ImageRules:
    """Where the images of a file's rows may come from; InputError for a folder that is not there."""
    folder = Path(config.image_folder).expanduser() if config.image_folder else file.parent
    if not folder.is_dir():
        raise InputError(f"no such folder of images: {folder}", "give a folder that is there")
    return ImageRules(folder, config.allow_outside, config.fetch_images)


def prompt_draft(prompt: Mapping[str, Any], config: ImportConfig, source: str, rules: ImageRules) -> Draft:
    """The draft of a sample's columns; BadSample names the column and what it holds.

    Messages are what the model was given: unlike `prepare`, nothing is put into them.
    """
    try:
        texts, labels = _options(prompt.get("choices"))
        messages, images = assembled(_turns(prompt), images_in(prompt.get("images")))
        if messages[-1]["role"] != "user":
            raise BadSample("malformed", "the last turn before the completion must be the user's")
        sample = {
            **{name: _text(prompt[name]) for name in (*TEXTS, "answer_kind") if prompt.get(name) is not None},
            **{name: _listed(prompt[name]) for name in LISTS if there(prompt.get(name))},
            "messages": messages,
            "images": images,
            "choices": texts,
            "answer": _answer(prompt.get("answer"), texts, labels),
            "harmful": flag_in(prompt.get("harmful")),
            "extra": prompt.get("extra"),
        }
        if "split" in sample:
            sample["split"] = split_in(sample["split"])
        flags = tuple(config.flags)
        defaults = Defaults(source, config.label, config.task, "train", config.answer_kind, flags)
        return draft_of(sample, defaults, rules.image)
    # Columns of a stranger's file may hold anything anywhere: what was not thought of costs one row and no run.
    except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
        raise BadSample("malformed", f"can't be read ({type(error).__name__}: {error})") from None


def whole_row(draft: Draft, limits: Limits) -> PromptRow:
    """The row with its images read and checked, and its id; BadSample where one can't be used."""
    try:
        images = [check_image(i.load(), i.name, limits) for i in draft.images]
    # Planning saw the file; it may have been moved since.
    except OSError as error:
        raise BadSample("missing_image", f"can't read an image: {error.strerror}") from None
    row = draft.row
    ident = prompt_id(label=row.label, messages=row.messages, images=images, answer=row.answer)
    return dataclasses.replace(row, id=ident, images=images)


def _turns(prompt: Mapping[str, Any]) -> list[Turn]:
    """The conversation up to the completion."""
    given = prompt.get("prompt")
    if isinstance(given, str) and as_turns(given) is None:
        return [("user", [given])]
    if given is None:
        given = prompt.get("messages")
    if not there(given):
        raise BadSample("malformed", "there is no prompt: --map prompt=COLUMN, or --prompts RUN")
    return turns_of(given)


def _options(value: Any) -> tuple[list[str], list[str]]:
    """(texts, labels) of options; letters come in their order, which is how the prompt shows them."""
    value = opened(value)
    if isinstance(value, Mapping) and all(str(key) in LETTERS for key in value):
        value = dict(sorted(value.items()))
    return options_of(value) if there(value) else ([], [])


def _answer(value: Any, texts: list[str], labels: list[str]) -> Any:
    """The reference or references; None where nothing could equal it, as tables leave it out."""
    given = opened(value)
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    # Numbers in brackets may be a point or an interval, and an object is a text like any other.
    elif given is not value and not (isinstance(given, list) and all(isinstance(v, str) for v in given)):
        given = value
    if says_nothing(given):
        return None
    if labels != list(LETTERS[: len(texts)]):
        # Options that carry marks of their own: 1 to 4, (i) to (iv).
        return letter_of(given, texts, labels) or given
    return given.strip() if isinstance(given, str) else given


def _text(value: Any) -> Any:
    """A number where a text is meant, as tables have it, as text; anything else as it is."""
    return str(value) if isinstance(value, int | float) else value


def _listed(value: Any) -> Any:
    """A list, which tables may hold as text; of one thing alone, a list of it."""
    value = opened(value)
    return value if isinstance(value, list) else [value]
