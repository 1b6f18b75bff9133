"""From a record to a plain sample, by what its columns are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stages.core.errors import BadSample
from stages.reading.choices import LETTERS, letter_of, options_of
from stages.reading.layouts.columns import Columns
from stages.reading.layouts.image_values import images_in
from stages.reading.layouts.shapes import is_image, there, value_at
from stages.reading.layouts.turns import Turn, assembled, turns_of
from stages.reading.references import several_letters
from stages.reading.spellings import flag_in, split_in

_MADE = ("messages", "prompt", "input", "history", "system", "hint", "images", "choices", "answer", "response", "split")
_ANSWER_TAG = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
_HASHES = "#### "
_LONGEST_KEPT = 10_000


def plain_sample(record: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """What `reading.plain_samples.draft_of` takes; BadSample for a record that can't be one."""
    texts, labels = record_options(record, columns)
    turns = _turns(record, columns)
    response = _get(record, columns, "response")
    if response is not None and not isinstance(response, str):
        turns += turns_of(response)
        response = None
    if texts:
        turns = _with_options(turns, texts, columns.with_letters)
    messages, images = assembled(turns, _images(record, columns))
    sample: dict[str, Any] = {
        name: value
        for name, path in columns.fields.items()
        if name not in _MADE and there(value := value_at(path, record))
    }
    sample.update(messages=messages, images=images, choices=texts)
    if "harmful" in sample:
        sample["harmful"] = flag_in(sample["harmful"])
    answer = _get(record, columns, "answer")
    if isinstance(answer, str) and _HASHES in answer and not texts:
        # GSM8K: the way to the answer, then the answer.
        response = response or answer
        answer = answer.rpartition(_HASHES)[2].strip()
    if there(answer):
        sample["answer"] = _answer(answer, texts, labels, columns)
    if response:
        sample["response"] = response
    split = _get(record, columns, "split")
    if isinstance(split, str):
        sample["split"] = split_in(split)
    sample["extra"] = _rest(record, columns)
    return sample


def record_options(record: Mapping[str, Any], columns: Columns) -> tuple[list[str], list[str]]:
    """(texts, labels) of the record's options; both empty without any."""
    if columns.letters:
        present = [(c, record.get(c)) for c in columns.letters if there(record.get(c))]
        return [str(v) for _, v in present], list(LETTERS[: len(present)])
    value = _get(record, columns, "choices")
    return options_of(value) if there(value) else ([], [])


def record_images(record: Mapping[str, Any], columns: Columns) -> list[Any]:
    """The images that a record's sample will have."""
    return list(plain_sample(record, columns)["images"])


def _get(record: Mapping[str, Any], columns: Columns, name: str) -> Any:
    found = columns.fields.get(name)
    return None if found is None else value_at(found, record)


def _turns(record: Mapping[str, Any], columns: Columns) -> list[Turn]:
    """System, history and question as turns."""
    if "messages" in columns.fields:
        value = _get(record, columns, "messages")
        # In one file a prompt may be turns here and a text there.
        turns: list[Turn] = [_user(value)] if isinstance(value, str) and value[:1] != "[" else turns_of(value)
    else:
        prompt = _get(record, columns, "prompt")
        if isinstance(prompt, list):
            turns = turns_of(prompt)
        else:
            pieces = [_get(record, columns, "hint"), prompt, _get(record, columns, "input")]
            if not isinstance(prompt, str):
                raise BadSample("malformed", f"the prompt is {str(prompt)[:60]!r}, and must be text or turns")
            turns = [*_history(_get(record, columns, "history")), _user("\n".join(p for p in pieces if p))]
    system = _get(record, columns, "system")
    if isinstance(system, str) and system.strip():
        turns = [("system", [system]), *turns]
    # Nothing said is no turn, and templates differ in what they make of one.
    return [(role, parts) for role, parts in turns if role != "system" or any(p != "" for p in parts)]


def _user(text: str) -> Turn:
    return "user", [text]


def _history(value: Any) -> list[Turn]:
    """Pairs of question and answer before the question, as ms-swift and LLaMA-Factory keep them."""
    if not there(value):
        return []
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise BadSample("malformed", f"history is {str(value)[:60]!r}, and must be pairs of texts")
    answered: list[Turn] = []
    for question, answer in value:
        answered += [_user(str(question)), ("assistant", [str(answer)])]
    return answered


def _images(record: Mapping[str, Any], columns: Columns) -> list[Any]:
    if columns.numbered:
        return [record[c] for c in columns.numbered if there(record.get(c))]
    return images_in(_get(record, columns, "images"))


def _with_options(turns: list[Turn], texts: list[str], with_letters: bool) -> list[Turn]:
    """The options at the end of the last user's turn, unless it has them already or they are the letters alone."""
    at = next((n for n in range(len(turns) - 1, -1, -1) if turns[n][0] == "user"), None)
    if at is None:
        return turns
    role, parts = turns[at]
    asked = " ".join(" ".join(p for p in parts if isinstance(p, str)).split())
    if all(_is_asked(letter, text, asked, with_letters) for letter, text in zip(LETTERS, texts, strict=False)):
        return turns
    listed = "".join(f"\n({letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False))
    changed = [*parts[:-1], parts[-1] + listed] if parts and isinstance(parts[-1], str) else [*parts, listed.strip()]
    return [*turns[:at], (role, changed), *turns[at + 1 :]]


def _is_asked(letter: str, text: str, asked: str, with_letters: bool) -> bool:
    """Whether a question has an option as words of their own; with its letter, or where it is an image, behind that."""
    if text == letter:
        return True
    words = rf"{re.escape(' '.join(text.split()))}(?!\w)"
    behind = rf"{letter}\W{{1,3}}" if with_letters or text.startswith("<image") else ""
    return re.search(rf"(?<!\w){behind}{words}", asked, re.IGNORECASE) is not None


def _answer(answer: Any, texts: list[str], labels: list[str], columns: Columns) -> Any:
    if isinstance(answer, bool):
        answer = "true" if answer else "false"
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, str) and (tagged := _ANSWER_TAG.fullmatch(answer)):
        answer = tagged[1].strip()
    if not texts:
        return _accepted(answer)
    if isinstance(answer, list):
        return [_letter(one, texts, labels, columns) for one in answer]
    # `AC` and `A, C`: several right options.
    if isinstance(answer, str) and several_letters(answer, texts):
        return answer
    return _letter(answer, texts, labels, columns)


def _accepted(answer: Any) -> Any:
    """Several references that were written into one text, as MMMU has them; a list of numbers may be an interval."""
    if isinstance(answer, str) and answer[:2] in ("['", '["') and answer[-1:] == "]":
        texts = options_of(answer)[0]
        return texts if len(texts) > 1 else answer
    return answer


def _letter(answer: Any, texts: list[str], labels: list[str], columns: Columns) -> str:
    letter = letter_of(answer, texts, labels, columns.first)
    if letter is None:
        raise BadSample(
            "malformed", f"answer {str(answer)[:40]!r} is none of {len(texts)} options, by letter, text or number"
        )
    own = texts[LETTERS.index(letter)]
    # Options may be letters themselves, in another order: the reference is then the option's text, which is read first.
    # Of a letter that a person's file has it is not known which of both it is.
    is_known = columns.with_letters or str(answer).strip() != letter
    return own if is_known and letter in texts and own != letter and texts.count(own) == 1 else letter


def _rest(record: Mapping[str, Any], columns: Columns) -> dict[str, Any] | None:
    """What no field holds, images aside: it is kept with the row."""
    used = columns.used()
    kept = {
        name: value
        for name, value in record.items()
        if name not in used
        and there(value)
        and not isinstance(value, bytes)
        and not is_image(value)
        and not (isinstance(value, str) and len(value) > _LONGEST_KEPT)
    }
    return kept or None
