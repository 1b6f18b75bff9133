"""The built-in world: drawn scenes whose truth is known, seven labels, benign twins; needs no download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from random import Random
from typing import TypeVar

from schemas.prompts import HELDOUT_FAMILY, PromptRow
from stages.core.config import option
from stages.core.errors import BadSample, UsageError
from stages.core.registry import load, plugin_key
from stages.prepare.datasets.base import Record
from stages.world import annotator, general, safety, sampling
from stages.world.case import UNSEEN, Case
from stages.world.chance import content_key, rng_for
from stages.world.values.draw import drawer
from stages.world.values.situations import DIMENSIONS, LANGUAGES

T = TypeVar("T")

PAIRED = ("safety", "jailbreak")
LABELS = (*sampling.SINGLE, *PAIRED)
_STEP = 28
"""Pixels of a side that make one language-model token in the Qwen-VL family."""


@dataclass(frozen=True)
class BuiltinOptions:
    """How much of the world, and how its supervised completions come about."""

    train: int = option(6000, "training rows", flag="--train", low=0)
    test: int = option(2000, "test rows, of scenes that no training row has", flag="--test", low=0)
    weights: dict[str, float] = option(
        {"general": 46, "knowledge": 8, "value": 5, "safety": 16, "jailbreak": 18, "instruction": 7},
        "relative number of training rows by label",
    )
    test_weights: dict[str, float] = option(
        {"general": 15, "knowledge": 6, "value": 4, "safety": 15, "jailbreak": 45, "instruction": 15},
        "relative number of test rows by label",
    )
    image: int = option(84, "side of an image in pixels, a multiple of 28", low=2 * _STEP, high=448)
    families: list[str] = option(
        ["typographic", "keyword_card", "role_play", "substitution"],
        "augmentation families of jailbreak rows in training and test",
    )
    heldout: list[str] = option(
        ["collage", "mirror", "word_shuffle"], "augmentation families of jailbreak rows in test only"
    )
    heldout_share: float = option(0.67, "share of test jailbreak rows from held-out families", low=0, high=1)
    naive: float = option(1.0, "share of SFT safety completions written without a look at harm", low=0, high=1)
    naive_comply: float = option(0.45, "of those, the share that does as asked", low=0, high=1)
    naive_refuse: float = option(0.40, "of those, the share that refuses; the rest warns", low=0, high=1)
    obey: float = option(0.6, "share of SFT instruction completions that keep the instruction", low=0, high=1)
    prices: float = option(
        0.0, "share of general rows about a price card, where words and image tell a part each", low=0, high=1
    )
    targets: str = option(
        "think",
        "layout of SFT completions: a description before the think block, or none",
        choices=("think", "describe"),
    )
    verbose: float = option(
        0.0, "share of SFT think blocks that say more than is needed, and some of it twice", low=0, high=1
    )
    vague: float = option(0.0, "share of SFT descriptions that say nothing of what has to be seen", low=0, high=1)
    dimensions: list[str] = option(
        [], f"value rows are about these ({', '.join(DIMENSIONS)}), in words; none named: kindness, in images"
    )
    languages: list[str] = option(["en", "zh"], "languages of value rows about dimensions, evenly")


@dataclass(frozen=True, slots=True)
class _Payload:
    case: Case
    response: str | None
    """The SFT completion; None on the test side."""
    harmful: Case | None = None
    """For a twin, the case it is the twin of."""
    family: str | None = None


class Builtin:
    """Draws cases by label and side; everything follows from the seed and the options."""

    version = 1
    options = BuiltinOptions

    def digest(self, options: BuiltinOptions) -> dict[str, str]:
        """No files, but what else decides bytes: the drawing library and the families, by version."""
        families = {f: str(plugin_key("augmentation", f)[1]) for f in (*options.families, *options.heldout)}
        return {"pillow": version("pillow"), **families}

    def records(self, options: BuiltinOptions, seed: int) -> Iterator[Record]:
        """Train rows, then test rows, label by label; a harmful row is followed by its twin."""
        _check(options)
        for split, total, weights in (
            ("train", options.train, options.weights),
            ("test", options.test, options.test_weights),
        ):
            for label, count in allocate(total, weights).items():
                yield from _Drawer(options, seed, split, label).records(count)

    def row(self, record: Record, options: BuiltinOptions) -> PromptRow:
        """The row with its image drawn; a jailbreak row is its safety row through the family."""
        payload: _Payload = record.payload
        made = _make(payload.case, payload.response, payload, record.split, options)
        if payload.harmful is None:
            return made
        original = _make(payload.harmful, None, payload, record.split, options)
        return replace(made, parent_id=original.id)


def _make(case: Case, response: str | None, payload: _Payload, split: str, options: BuiltinOptions) -> PromptRow:
    row = case.row(split, options.image, response)
    if payload.family is None:
        return row
    # A twin goes through the very same rewriting as its harmful row: same order, same code word, same corner.
    # Without the seed: a case is rewritten alike in every world that draws it.
    rng = rng_for("augment", payload.family, (payload.harmful or case).key)
    made: PromptRow | None = load("augmentation", payload.family).apply(row, rng)
    if made is None:
        raise BadSample("not_applicable", f"family {payload.family!r} can't rewrite {row.task!r}")
    return replace(made, flags=[*made.flags, *_flags(payload.family, options)])


def _flags(family: str | None, options: BuiltinOptions) -> list[str]:
    """What a row of this family is flagged with."""
    return [HELDOUT_FAMILY] if family in options.heldout else []


class _Drawer:
    """One label on one side of the border."""

    def __init__(self, options: BuiltinOptions, seed: int, split: str, label: str) -> None:
        self.options, self.seed, self.split, self.label = options, seed, split, label
        self.habits = annotator.Habits(
            options.naive, options.naive_comply, options.naive_refuse, options.obey, options.verbose
        )
        self.seen: set[str] = set()

    def records(self, count: int) -> Iterator[Record]:
        """`count` records, each of another question; UsageError when the world has no more."""
        if self.label in PAIRED:
            for i in range(count // 2):
                yield from self._pair(i)
            return
        for i in range(count):
            rng = rng_for(self.seed, self.split, self.label, i)
            case = sampling.single(self._draw(rng), rng, self.split, lambda c: self._key(c, None) not in self.seen)
            yield self._record(f"{i}", self._need(case, i), None, None)

    def _draw(self, rng: Random) -> Callable[[Random], Case]:
        """What draws the next case of a label whose rows stand alone."""
        options = self.options
        if self.label == "value" and options.dimensions:
            return drawer(options.dimensions, options.languages, unseen=self.split == "test")
        # Drawn only where it is asked for: one draw more would make other rows of the whole world.
        if self.label == "general" and options.prices and rng.random() < options.prices:
            return general.prices
        return sampling.SINGLE[self.label]

    def _pair(self, i: int) -> Iterator[Record]:
        # A generator for each pair, not one for all: a larger world begins with the rows of a smaller one.
        rng = rng_for(self.seed, self.split, self.label, i)
        family, works_on, turn = self._family(i)
        risks = {"words": ("text",), "image": ("picture", "both")}.get(works_on, safety.RISKS)
        illustrated = works_on != "words" and rng.random() < 0.5

        def fresh(case: Case) -> bool:
            return self._key(case, family) not in self.seen

        found = sampling.pair(rng, self.split, fresh, turn, risks, illustrated)
        harmful, twin = self._need(found, 2 * i)
        yield self._record(f"{i} harmful", harmful, None, family)
        yield self._record(f"{i} twin", twin, harmful, family)

    def _family(self, i: int) -> tuple[str | None, str, int]:
        """(family, what it works on, how many pairs it had before) of pair i."""
        if self.label == "safety":
            return None, "any", i
        o = self.options
        share = o.heldout_share if self.split == "test" and o.heldout else 0.0
        # The share is spread evenly: pair i is of a held-out family where the running total passes a whole number.
        heldout_before = int(i * share)
        turn, names = i - heldout_before, o.families
        if int((i + 1) * share) > heldout_before or not names:
            turn, names = heldout_before, o.heldout
        family = names[turn % len(names)]
        return family, load("augmentation", family).works_on, turn // len(names)

    def _need(self, found: T | None, done: int) -> T:
        if found is None:
            raise UsageError(
                f"the built-in world has no more than about {done} {self.label!r} rows for {self.split}",
                f"lower builtin.{self.split}, or the weight of {self.label!r}",
            )
        return found

    def _key(self, case: Case, family: str | None) -> str:
        """What becomes one row. A card may hide how a request was put, so there only its title counts."""
        if family is not None and load("augmentation", family).works_on == "words":
            return content_key(family, case.context, case.title)
        return content_key(family, case.key)

    def _record(self, ref: str, case: Case, harmful: Case | None, family: str | None) -> Record:
        key = self._key(case, family)
        self.seen.add(key)
        return Record(
            ref=f"{self.label}/{self.split} {ref}",
            key=content_key(self.label, key),
            label=self.label,
            task=case.task,
            split=self.split,
            # Templates repeat their words on purpose; the case's key tells duplicates here.
            text="",
            flags=(HELDOUT_FAMILY,) if case.unseen else tuple(_flags(family, self.options)),
            payload=_Payload(case, self._response(case, key), harmful, family),
            images=case.scene_key if case.scene else "",
            family=UNSEEN if case.unseen else family or "",
        )

    def _response(self, case: Case, key: str) -> str | None:
        """The SFT completion of a row of this key; None on the test side."""
        if self.split != "train":
            return None
        # The string is part of the seed: another word would draw other completions for the whole built-in world.
        answer = annotator.completion(case, self.habits, rng_for(self.seed, "reply", key))
        if self.options.targets == "think":
            # Noise of its own: how much is said changes nothing of what is said.
            return case.thought(answer, annotator.steps(case, self.habits, rng_for(self.seed, "steps", key)))
        return case.described(answer, rng_for(self.seed, "description", key).random() < self.options.vague)


def allocate(total: int, weights: dict[str, float]) -> dict[str, int]:
    """Rows by label: largest remainders, except that paired labels get even numbers; the sum is exact.

    What the evening-out leaves over goes to the first label that stands alone.
    """
    whole = sum(weights.values())
    shares = {label: total * w / whole for label, w in weights.items()} if whole else {}
    counts = {label: int(share) for label, share in shares.items()}
    # The most negative difference lost most by rounding down.
    by_remainder = sorted(shares, key=lambda label: counts[label] - shares[label])
    for label in by_remainder[: total - sum(counts.values())] if counts else []:
        counts[label] += 1
    # Harmful row and twin come as two, so a paired label's odd row would be half a pair.
    for label in PAIRED:
        counts[label] = counts.get(label, 0) // 2 * 2
    lone = next((label for label in counts if label not in PAIRED and weights.get(label)), None)
    if lone is not None:
        counts[lone] += total - sum(counts.values())
    return counts


def _check(options: BuiltinOptions) -> None:
    """UsageError for options that contradict each other."""
    if options.image % _STEP:
        raise UsageError(f"builtin.image = {options.image} is not a multiple of {_STEP}", "84 and 112 are")
    for name, weights in (("weights", options.weights), ("test_weights", options.test_weights)):
        unknown = [label for label in weights if label not in LABELS]
        if unknown:
            raise UsageError(f"builtin.{name} has the unknown label {unknown[0]!r}", f"labels: {', '.join(LABELS)}")
        if any(w < 0 for w in weights.values()) or not any(weights.values()):
            raise UsageError(f"builtin.{name} = {weights} gives no label a positive weight", "or has a negative one")
    both = sorted(set(options.families) & set(options.heldout))
    if both:
        raise UsageError(
            f"family {both[0]!r} is in builtin.families and in builtin.heldout", "held out means never trained"
        )
    for family in (*options.families, *options.heldout):
        load("augmentation", family)
    trained = options.train and options.weights.get("jailbreak")
    tested = options.test and options.test_weights.get("jailbreak")
    if not options.families and (trained or (tested and not options.heldout)):
        raise UsageError("builtin.families is empty, and builtin.weights asks for jailbreak rows", "name one family")
    _check_values(options)
    if options.naive_comply + options.naive_refuse > 1:
        raise UsageError(
            "builtin.naive_comply + builtin.naive_refuse is more than 1", "the rest of 1 is the share that warns"
        )


def _check_values(options: BuiltinOptions) -> None:
    for name, known in (("dimensions", DIMENSIONS), ("languages", LANGUAGES)):
        if unknown := [one for one in getattr(options, name) if one not in known]:
            raise UsageError(f"builtin.{name} has the unknown {unknown[0]!r}", f"known: {', '.join(known)}")
    if options.dimensions and not options.languages:
        raise UsageError("builtin.languages is empty, and builtin.dimensions is not", 'languages = ["en", "zh"]')


PLUGIN = Builtin()
