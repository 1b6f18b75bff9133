"""From a change of a text to token ids: what was sampled stays as it was sampled, new words are encoded behind it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from os.path import commonprefix
from typing import Protocol

from schemas.identity import digest
from schemas.prompts import Edit, PromptRow
from schemas.rollouts import Completion
from stages.core.errors import BadSample
from stages.edit.changes import Cut
from stages.edit.config import Change


class Words(Protocol):
    """The policy's tokenizer; see `stages.models.processor.PromptProcessor`."""

    def decode(self, token_ids: list[int]) -> str:
        """The words, without control tokens."""

    def encode_completion(self, text: str) -> list[int]:
        """A completion's ids, the closing one last; BadSample for words that would be read as control."""


def edit_of(row: PromptRow, completion: Completion, change: Change, cut: Cut, words: Words) -> Edit:
    """The change as ids that completions begin with. BadSample where this tokenizer can't have made the completion."""
    ids = list(completion.token_ids)
    if words.decode(ids) != completion.text:
        raise BadSample("other_tokenizer", f"completion {completion.index} of {row.id} decodes to another text")
    same = commonprefix([completion.text, cut.text])  # noqa: RUF071  # characters are meant
    count = _kept(ids, same, words.decode)
    # New words go on, whatever had ended the completion before.
    while len(cut.text) > len(same) and count and words.decode(ids[: count - 1]) == words.decode(ids[:count]):
        count -= 1
    kept = words.decode(ids[:count])
    new = _encoded(kept, ids[:count], cut.text[len(kept) :], words)
    own = completion.generated or [True] * len(ids)
    earlier = row.edit.written if row.edit is not None else []
    noise_id, noise_index = (row.edit.noise_id, row.edit.noise_index) if row.edit is not None else (row.id, 0)
    sampling = completion.sampling
    return Edit(
        by=change.by,
        why=change.why or None,
        index=completion.index,
        policy_id=completion.policy_id,
        seed=sampling.seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        noise_id=noise_id,
        noise_index=noise_index + completion.index,
        at_token=count,
        token_ids=[*ids[:count], *new],
        logprobs=[*list(completion.logprobs)[:count], *(0.0 for _ in new)],
        generated=[*own[:count], *(False for _ in new)],
        written=[*(at < len(earlier) and earlier[at] for at in range(count)), *(True for _ in new)],
        before=completion.text[len(kept) : cut.end],
        after=cut.text[len(kept) :],
        guided=completion.guided and count > 0,
        text=cut.text,
    )


def edit_id(row: PromptRow, edit: Edit) -> str:
    """16 hex digits over the parent, which completion it was, and the ids to go on from."""
    return digest(["edit", row.id, edit.index, edit.policy_id, edit.seed, list(edit.token_ids)])[:16]


def _kept(ids: list[int], same: str, decode: Callable[[list[int]], str]) -> int:
    """How many ids lie wholly in what both texts begin with, a closing id with it where that is all of the text."""
    count = bisect_right(range(len(ids) + 1), len(same), key=lambda n: len(decode(ids[:n]))) - 1
    # An id may end inside a character, which is another one then.
    while not same.startswith(decode(ids[:count])):
        count -= 1
    return count


def _encoded(kept: str, kept_ids: list[int], new: str, words: Words) -> list[int]:
    """The ids of the new words behind the kept ones."""
    if not new:
        return []
    behind = words.encode_completion(new)[:-1]
    if words.decode([*kept_ids, *behind]) == kept + new:
        return behind
    # A tokenizer that puts a blank before every text it is given: the whole text has to begin with the kept ids then.
    whole = words.encode_completion(kept + new)[:-1]
    if whole[: len(kept_ids)] == kept_ids and words.decode(whole) == kept + new:
        return whole[len(kept_ids) :]
    raise BadSample("tokens", f"this tokenizer has no ids for {new[:60]!r} behind the kept ones")
