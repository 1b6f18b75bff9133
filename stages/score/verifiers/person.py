"""Person: what people said of the completion in `cosmo view`, or in a file of the same lines.

`[score.person] words` names the file. A completion is known by its prompt's id and its own text, so what was said of it
holds wherever the same completion turns up. Each person's last word counts.

    all say the same       that verdict, with its worth: good 1, bad 0, safety's verdicts as the rule `safety` has them
    they disagree          undecided, with who said what: no reward; a judge may be asked for just those
    nobody said anything   does not apply

As a term it makes rewards of what people said; as `gold` of a verifier's training, what that verifier learns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from stages.core.errors import InputError, UsageError
from stages.judging.words import WORTH, Word, completion_key, last_words, parse_words
from stages.score.config import ScoreConfig
from stages.score.verifiers.base import (
    BoundVerifier,
    Judgement,
    ModelVerifier,
    Ungraded,
    does_not_apply,
    judged,
    undecided,
)

NAME = "person"
_LONGEST_REASON = 300


class _People:
    """What is known of each completion."""

    def __init__(self, words: dict[tuple[str, str], list[Word]]) -> None:
        self._words = words

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        """A judgement for every completion."""
        return [[self._judgement(u.group.id, c.text) for c in u.completions] for u in window]

    def _judgement(self, ident: str, text: str) -> Judgement:
        said = self._words.get((ident, completion_key(text)), [])
        if not said:
            return does_not_apply("nobody said anything")
        told = "; ".join(f"{w.who}: {w.verdict}{f' ({w.why})' if w.why else ''}" for w in said)[:_LONGEST_REASON]
        if len({w.verdict for w in said}) > 1:
            return undecided(f"people disagree: {told}")
        return judged(WORTH[said[0].verdict], said[0].verdict, told)


def bind(config: ScoreConfig) -> ModelVerifier:
    """The verifier under a run's config. UsageError where no file is named, InputError for one that can't be read."""
    if not config.person.words:
        raise UsageError(
            f"the verifier {NAME!r} needs a file", "add --set person.words=runs/words.jsonl: cosmo view writes it"
        )
    path = Path(config.person.words).expanduser()
    try:
        content = path.read_bytes()
        words = last_words(parse_words(content.decode("utf-8").split("\n")))
    except OSError as error:
        raise InputError(f"words of people {path}: {error.strerror}", "cosmo view RUNS writes such a file") from None
    except ValueError as error:
        raise InputError(f"words of people {path}: {error}", "cosmo view RUNS writes such a file") from None
    identity = {"rule": VERSION, "words": hashlib.sha256(content).hexdigest()}

    # Whole: a completion is known by all of its text, what an environment wrote included.
    return ModelVerifier(NAME, identity, lambda ctx: _People(words).grade_groups, whole=True)


VERSION = 1
PLUGIN = BoundVerifier(version=VERSION, bind=bind)
