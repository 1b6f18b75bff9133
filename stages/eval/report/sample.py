"""The report's browsable sample: which prompts, and what a reader sees of them."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.identity import digest
from schemas.prompts import PromptRow
from schemas.scored import NOT_APPLICABLE, OK, Grade
from schemas.values import Image
from schemas.verdicts import SAFE_WITH_REFUSAL, UNNECESSARY_REFUSAL, UNSAFE
from stages.eval.config import EvalConfig
from stages.eval.measure import Measured, Namer
from stages.eval.views import CompletionView, GroupView, read_views, rows_of

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

MOST_CHARACTERS, TEST = 4000, "test"
TOLD_APART = 0.1
"""Policies earn differently on a prompt where their mean rewards lie further apart: ours, a tenth of a task's term."""
# A refusal of a harmful row is safe, if nearly worthless: neither praised nor blamed by its colour.
_SAFETY_TONES = {UNSAFE: "bad", UNNECESSARY_REFUSAL: "bad", SAFE_WITH_REFUSAL: "plain"}


@dataclass(frozen=True, slots=True)
class Chip:
    """One grade as a reader sees it."""

    name: str
    text: str
    tone: str
    """good, bad, plain or failed."""
    detail: str
    """Value, status and reason, for the tooltip."""


@dataclass(frozen=True, slots=True)
class CompletionCard:
    """One completion as a reader sees it."""

    thinking: str
    answer: str
    note: str
    """Length, and how it ended where that was not by itself."""
    reward: float | None
    chips: list[Chip]
    steps: list[tuple[str, list[Chip]]]
    """Of each grade that has grades of steps: its name, and a chip a step with the step's words."""
    edit: str = ""
    """The command that opens it in a person's editor; empty where it can't be edited."""


@dataclass(slots=True)
class Card:
    """One prompt with the completions of every policy."""

    id: str
    label: str
    task: str
    family: str | None
    kind: str
    """harmful, benign twin, or nothing."""
    turns: list[tuple[str, str]]
    images: list[str]
    answer: str | None
    trainable: bool = False
    """Not of the test split, which edits never enter."""
    completions: dict[str, list[CompletionCard]] = field(default_factory=dict)
    verdicts_by_policy: dict[str, set[str]] = field(default_factory=dict)

    @property
    def verdicts(self) -> set[str]:
        """`VERIFIER: VERDICT` of all that was given."""
        return set().union(*self.verdicts_by_policy.values())

    @property
    def rewards(self) -> list[float]:
        """Each policy's mean reward here, of those that have one."""
        known = ([c.reward for c in own if c.reward is not None] for own in self.completions.values())
        return [sum(values) / len(values) for values in known if values]

    @property
    def differ(self) -> bool:
        """Whether the policies earn differently on it, or get other verdicts."""
        apart = max(self.rewards, default=0.0) - min(self.rewards, default=0.0) > TOLD_APART
        return apart or len({frozenset(v) for v in self.verdicts_by_policy.values()}) > 1

    def size(self) -> int:
        """About how many characters it adds to the page."""
        words = sum(len(text) for _, text in self.turns)
        answers = sum(
            len(r.thinking)
            + len(r.answer)
            + len(r.edit)
            + 250
            + sum(120 + len(c.detail) for c in r.chips)
            + sum(80 + len(c.text) + len(c.detail) for _, steps in r.steps for c in steps)
            for completions in self.completions.values()
            for r in completions
        )
        return 1500 + words + answers + sum(len(p) for p in self.images)


def choose(found: Measured, size: int, seed: int) -> list[str]:
    """Prompt ids: a seeded draw with the same number from each label, family and kind while they last.

    Prompts that every policy answered come first, for they can be compared.
    """
    # Each policy may have been asked other prompts.
    common = set.intersection(*found.seen.values())
    strata: dict[tuple[str, ...], list[str]] = {}
    for prompt, info in found.prompts.items():
        stratum = (info.label, info.family or "", str(info.harmful))
        strata.setdefault(stratum, []).append(prompt)
    # `pop` takes from the end, hence the reverse; a digest draws, so that the same prompts come whatever the files'
    # order.
    queues = [
        sorted(strata[s], key=lambda i: (i not in common, digest([seed, i])), reverse=True) for s in sorted(strata)
    ]
    chosen: list[str] = []
    while len(chosen) < size and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return chosen[:size]


def cards(folders: list[RunFolder], chosen: list[str], namer: Namer, config: EvalConfig) -> list[Card]:
    """Cards in the order chosen, as many as fit into the size the report may take."""
    from stages.core.runs.shards import read_columns

    prompt_ids = set(chosen)
    made: dict[str, Card] = {}
    for number, folder in enumerate(folders):
        for shard in folder.shard_paths():
            # Of a hundred thousand rows a page shows a few dozen: most shards have none of them.
            if prompt_ids.isdisjoint(read_columns(shard, ["id"]).column("id").to_pylist()):
                continue
            for row in _prompts(shard, prompt_ids - made.keys()):
                made.setdefault(row.id, _card(row, config.image_pixels))
            for group in read_views(shard, prompt_ids):
                _add_completions(made[group.id], group, folder, number, namer, config.sample_completions)
    budget = config.sample_megabytes * 1e6
    kept = []
    for prompt in chosen:
        # Images are most of a page's size; a report of any run has to open in a browser.
        budget -= made[prompt].size()
        if budget < 0:
            break
        kept.append(made[prompt])
    return kept


def _prompts(shard: Path, prompt_ids: Collection[str]) -> Iterator[PromptRow]:
    """Those prompts of a shard, without their completions."""
    from schemas.arrow import hints, rows_from
    from schemas.tables import PROMPTS, SCORED
    from stages.core.runs.shards import open_shard

    with open_shard(shard, SCORED) as file:
        for number in range(file.num_row_groups):
            if rows := rows_of(file, number, prompt_ids):
                yield from rows_from(PROMPTS, file.read_row_group(number, columns=list(hints(PROMPTS.row))).take(rows))


def _card(group: PromptRow, pixels: int) -> Card:
    kinds = {True: "harmful", False: "benign", None: ""}
    turns = []
    for message in group.messages:
        text = "\n".join(p.text for p in message.content if p.text)
        turns.append((message.role, _cut(text)))
    images = [_image(image, pixels) for image in group.images]
    kind, trainable = kinds[group.harmful], group.split != TEST
    return Card(group.id, group.label, group.task, group.family, kind, turns, images, group.answer, trainable)


def _add_completions(card: Card, group: GroupView, folder: RunFolder, number: int, namer: Namer, most: int) -> None:
    for completion in group.completions:
        policy = namer.name(number, completion.policy_id)
        completions = card.completions.setdefault(policy, [])
        if len(completions) < most:
            edit = _edit_command(folder, group.id, completion) if card.trainable else ""
            completions.append(_completion_card(completion, benign=group.harmful is False, edit=edit))
            card.verdicts_by_policy.setdefault(policy, set()).update(
                f"{g.name}: {g.verdict}" for g in completion.grades.values() if g.status == OK and g.verdict
            )


def _edit_command(folder: RunFolder, ident: str, completion: CompletionView) -> str:
    """What opens the completion in an editor, as a shell reads it; empty for one without ids to go on from."""
    if completion.finish_reason == "error" or not completion.tokens:
        return ""
    words = ["cosmo", "edit", folder.where, "--id", ident, "--index", str(completion.index)]
    return shlex.join(words)


def _completion_card(completion: CompletionView, benign: bool, edit: str = "") -> CompletionCard:
    text = completion.error or "" if completion.finish_reason == "error" else completion.text
    thinking, closed, answer = text.partition("</think>")
    # Some templates open the block in the prompt, so the closing tag alone tells where the answer begins.
    if not closed:
        thinking, answer = "", text
    ended = {"length": ", cut off", "error": ", no completion"}.get(completion.finish_reason, "")
    chips = [grade_chip(g, benign) for g in completion.grades.values() if g.status != NOT_APPLICABLE]
    return CompletionCard(
        _cut(thinking.replace("<think>", "").strip()),
        _cut(answer.strip()),
        f"{completion.tokens} tokens{ended}",
        completion.reward,
        chips,
        [(g.name, _step_chips(g, completion)) for g in completion.grades.values() if g.steps],
        edit,
    )


def _step_chips(grade: Grade, completion: CompletionView) -> list[Chip]:
    """A chip a step: its words, and what was said of it."""
    whole = completion.text if completion.whole is None else completion.whole
    chips = []
    for step in grade.steps or []:
        tone = "plain" if step.value is None else "good" if step.value >= 0.75 else "bad"
        detail = "; ".join(filter(None, (step.verdict, step.reason)))
        chips.append(Chip("", _cut(" ".join(whole[step.start : step.stop].split()), 300), tone, _cut(detail, 300)))
    return chips


def grade_chip(grade: Grade, benign: bool) -> Chip:
    """What a reader sees of a grade; `benign`: a refusal of the row is a fault."""
    detail = "; ".join(
        part
        for part in (
            f"value {grade.value:.3g}" if grade.value is not None else "",
            "" if grade.status == OK else grade.status,
            f"left to {grade.left_to}" if grade.left_to else "",
            grade.reason or "",
            f"judged: {grade.seen}" if grade.seen else "",
        )
        if part
    )
    shown = (grade.verdict or "").replace("_", " ") or ("" if grade.value is None else f"{grade.value:.3g}")
    shown = "" if shown == grade.name else shown
    return Chip(grade.name, shown if grade.status == OK else grade.status, _tone(grade, benign), _cut(detail, 300))


def _tone(grade: Grade, benign: bool) -> str:
    if grade.status != OK or grade.value is None:
        return "failed"
    if grade.name == "format" and grade.value:
        return "plain"
    if grade.name == "refusal":
        # Its value is whether the completion refuses: a fault where the request is harmless, else neither.
        return "bad" if benign and grade.value else "plain"
    if grade.name == "safety" and grade.verdict in _SAFETY_TONES:
        return _SAFETY_TONES[grade.verdict]
    if grade.value >= 0.75:
        return "good"
    return "bad" if grade.value <= 0.25 else "plain"


def _cut(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"


def _image(image: Image, pixels: int) -> str:
    """A data URL of the image, scaled down; empty where it can't be decoded."""
    if (found := scaled_image(image, pixels)) is None:
        return ""
    kind, data = found
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def scaled_image(image: Image, pixels: int) -> tuple[str, bytes] | None:
    """(png or jpeg, its bytes): the image upright and no larger than so many pixels; None where it can't be decoded."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    from stages.models.image_checks import UNDECODABLE

    try:
        with Pillow.open(io.BytesIO(image.bytes)) as opened:
            # Lets a JPEG be decoded at a fraction of its size; other formats pass over it.
            opened.draft("RGB", (pixels, pixels))
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
            upright.thumbnail((pixels, pixels))
            small = Pillow.new("RGB", upright.size, "white")
            small.paste(upright, mask=upright.getchannel("A"))
    # A row's images were checked by prepare, but shards may come from elsewhere, and one image must not cost a report.
    except (Pillow.DecompressionBombError, *UNDECODABLE):
        return None
    encoded = []
    # Drawings are smaller as PNG, photographs as JPEG, so both are tried.
    for kind, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 82})):
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        encoded.append((len(buffer.getvalue()), kind.lower(), buffer.getvalue()))
    _, kind, data = min(encoded)
    return kind, data
