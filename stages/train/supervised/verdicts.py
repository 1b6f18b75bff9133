"""What a verifier learns from: completions whose verdict is known, each shown as a judge sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from schemas.prompts import PromptRow
from schemas.scored import OK, ScoredGroup
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry
from stages.core.seeded import seeded_order
from stages.judging.parsed import parse_completion
from stages.judging.prompt import JudgePrompt, conversation, prompt_names, verdict_line
from stages.train.config import TrainConfig
from stages.train.rl.batches import Reject
from stages.train.supervised.examples import completions_by_shard, permutations, rows_to_take, trainable_entries


@dataclass(frozen=True, slots=True)
class Judged(Entry):
    """Where one completion with a known verdict lies."""

    completion: int
    """Its place in the group."""
    verdict: str

    @property
    def ref(self) -> str:
        """A name for it, as rejected samples have it."""
        return f"{self.id}#{self.completion}"


def judged_entries(inputs: list[RunFolder], config: TrainConfig, prompt: JudgePrompt, reject: Reject) -> list[Judged]:
    """The completions that carry a verdict the prompt knows, in order; the others are rejected with their reason.

    A prompt without any is one rejected sample. InputError when there is nothing to learn from.
    """
    name = config.objective_settings().name
    completions = completions_by_shard(inputs, ["grades"])
    kept: list[Judged] = []
    strange: Counter[str] = Counter()
    for entry in trainable_entries(inputs, config, reject):
        source = inputs[entry.folder].path.name
        grades = [_grade(c["grades"] or [], name) for c in completions[entry.folder, entry.shard][entry.row]]
        if all(verdict is None for _, verdict in grades):
            reject(source, entry.id, "no_verdict", _why([status for status, _ in grades], name))
            continue
        values: dict[str, Any] = {f.name: getattr(entry, f.name) for f in fields(Entry)}
        for place, (status, verdict) in enumerate(grades):
            found = Judged(**values, completion=place, verdict=verdict or "")
            if verdict is None:
                reject(source, found.ref, "no_verdict", f"{name}: {status}")
            elif verdict not in prompt.verdicts:
                strange[verdict] += 1
                reject(source, found.ref, "unknown_verdict", f"{verdict!r} is no answer to the prompt {prompt.name}")
            else:
                kept.append(found)
    if not kept:
        raise _nothing(name, prompt, strange, completions)
    return kept


def _grade(grades: list[dict[str, Any]], name: str) -> tuple[str, str | None]:
    """(status, verdict) of the grade of that name; a failed grade has no verdict."""
    found = next((g for g in grades if g["name"] == name), None)
    if found is None:
        return "no such grade", None
    if found["status"] != OK:
        return found["status"], None
    return ("ok" if found["verdict"] else "a grade without a verdict"), found["verdict"]


def _why(statuses: list[str], name: str) -> str:
    return f"{name}: {', '.join(sorted(set(statuses)))}" if statuses else "the group has no completion"


def _nothing(name: str, prompt: JudgePrompt, strange: Counter[str], completions: dict[Any, Any]) -> InputError:
    if strange:
        verdicts = ", ".join(sorted(strange))
        known = ", ".join(prompt_names())
        return InputError(
            f"the prompt {prompt.name!r} knows none of the verdicts of {name!r}: {verdicts}",
            f"--set objectives.verifier.prompt=NAME, one of {known}, or a .toml file",
        )
    graded = (c for rows in completions.values() for row in rows for c in row)
    there = {g["name"] for c in graded for g in c["grades"] or [] if g["verdict"]}
    return InputError(
        f"no trainable completion carries a verdict by {name!r}",
        f"grades with verdicts there: {', '.join(sorted(there)) or 'none'}; --set objectives.verifier.name=NAME",
    )


def verdict_order(entries: list[Judged], config: TrainConfig) -> list[Judged]:
    """Every example the run will see, in order: one verdict after the other, rare ones repeated.

    Unbalanced, or with a single verdict, it is one permutation an epoch. A resumed run is a slice of this.
    """
    options, seed = config.objective_settings(), config.seed
    if options.max_examples:
        entries = _fewer(entries, options.max_examples, options.balance, seed)
    classes: dict[str, list[Judged]] = {}
    for entry in entries:
        classes.setdefault(entry.verdict if options.balance else "", []).append(entry)
    turns = [permutations(classes[verdict], seed, lambda e: e.ref) for verdict in sorted(classes)]
    count = rows_to_take(config, len(entries))
    # One of each in turn: every step is balanced, and not only the whole.
    return list(islice((next(turn) for _ in range(count) for turn in turns), count))


def _fewer(entries: list[Judged], most: int, balance: bool, seed: int) -> list[Judged]:
    """A seeded draw of at most so many; balanced, equally many of each verdict while they last."""
    drawn = seeded_order(entries, seed, name=lambda e: e.ref)
    seen: Counter[str] = Counter()
    ranks = {}
    for entry in drawn:
        ranks[entry] = seen[entry.verdict] if balance else 0
        seen[entry.verdict] += 1
    return sorted(drawn, key=ranks.__getitem__)[:most]


def as_example(prompt: JudgePrompt, entry: Judged, row: ScoredGroup) -> PromptRow:
    """The conversation a judge is shown for the completion, with the verdict line as the completion to imitate."""
    text = row.completions[entry.completion].text
    messages, images = conversation(prompt, row, parse_completion(text).answer)
    return PromptRow(
        id=entry.ref,
        label=entry.verdict,
        source=row.source,
        task=row.task,
        messages=messages,
        images=images,
        reference_response=verdict_line(entry.verdict),
    )
