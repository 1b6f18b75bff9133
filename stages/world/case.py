"""A case: one question of the world with its truth, before anything is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Image, text_message
from stages.world.lexicon import REFUSAL, think

T = TypeVar("T")

TEST_ONE_IN = 4
"""One scene in four belongs to the test side."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing in an image. Positions and sizes are in percent of the image's side."""

    kind: str
    """`shape`, `icon` or `word`."""
    name: str
    """Which shape or icon; for a word, the word itself."""
    colour: str
    """Fill of a shape, ink of a word; icons bring their own."""
    x: int
    """Centre, from the left."""
    y: int
    """Centre, from the top."""
    size: int
    """Full width; for a word, the height of its font."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What an image shows; drawing it needs nothing else."""

    tint: int
    """Which background."""
    marks: tuple[Mark, ...]
    """Drawn in order, later over earlier."""


def content_key(*parts: Any) -> str:
    """16 hex digits over plain values: the world's scene keys, record keys and seeds."""
    text = json.dumps(parts, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def scene_key(scene: Scene) -> str:
    """Content key of an image."""
    return content_key(scene.tint, [(m.kind, m.name, m.colour, m.x, m.y, m.size) for m in scene.marks])


def side(key: str) -> str:
    """`train` or `test`: where a scene belongs, whatever the seed, so that no two runs disagree."""
    return "test" if int(key, 16) % TEST_ONE_IN == 0 else "train"


def rng_for(*parts: Any) -> Random:
    """A generator of its own for anything that can be named."""
    return Random(int(content_key(*parts), 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question, its truth, and what may be said to it. Fields are named as in PromptRow."""

    label: str
    task: str
    words: str
    """The user's words."""
    scene: Scene | None = None
    """The image; None for words alone."""
    setting: str = ""
    """Who and where, for a case without an image: its scene, in words."""
    facts: tuple[str, ...] = ()
    key_facts: tuple[str, ...] = ()
    answer: str | None = None
    answer_kind: str | None = None
    choices: tuple[str, ...] = ()
    right: str
    """The completion (after the think block) that a good speaker gives."""
    comply: str | None = None
    """Safety cases: what one who looks at no harm says. Instruction cases: None."""
    warning: str | None = None
    """Safety cases: a warning, wise or not."""
    careless: str | None = None
    """Instruction cases: a true completion that does not obey."""
    risk: str | None = None
    category: str | None = None
    harmful: bool | None = None
    hazards: tuple[str, ...] = ()
    unsafe_markers: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    keyword: str = ""
    """The word that names the thing: what keyword cards and codes put elsewhere."""
    title: str = ""
    """The request in a few words, for a typographic card."""
    context: str = ""
    """Words before the request that set the scene."""

    @property
    def scene_key(self) -> str:
        """What keeps train and test apart: the image, or else the setting."""
        return scene_key(self.scene) if self.scene else content_key("setting", self.setting)

    @property
    def key(self) -> str:
        """Content key of the whole question."""
        return content_key(self.label, self.words, self.scene_key, self.answer)

    def possible_completions(self) -> tuple[str, ...]:
        """Every answer that some speaker of the world may give to it."""
        said = (self.right, self.comply, self.warning, self.careless, REFUSAL if self.comply else None)
        return tuple(s for s in said if s is not None)

    def row(self, split: str, image: int, completion: str | None, parent_id: str | None = None) -> PromptRow:
        """The prompt row, its image drawn `image` pixels wide; `completion` is the SFT answer or None."""
        images = []
        if self.scene is not None:
            from stages.world.draw import render

            images = [Image(render(self.scene, image), f"{self.task}.png")]
        messages = [text_message("user", self.words, images=len(images))]
        hints = {"keyword": self.keyword, "title": self.title, "context": self.context, "picture": image}
        return PromptRow(
            id=prompt_id(label=self.label, messages=messages, images=images, answer=self.answer),
            label=self.label,
            source="builtin",
            task=self.task,
            messages=messages,
            images=images,
            split=split,
            answer=self.answer,
            answer_kind=self.answer_kind,
            choices=list(self.choices),
            reference_response=None if completion is None else think(self.key_facts, completion),
            facts=list(self.facts),
            key_facts=list(self.key_facts),
            risk=self.risk,
            category=self.category,
            harmful=self.harmful,
            hazards=list(self.hazards),
            unsafe_markers=list(self.unsafe_markers),
            parent_id=parent_id,
            instructions=list(self.instructions),
            scene=self.scene_key,
            extra=json.dumps(hints) if self.keyword else None,
        )


def place(rng: Random, low: int, high: int) -> int:
    """A position or size in percent, in steps of 2: enough for two scenes to differ in their pixels too."""
    return rng.randrange(low, high + 1, 2)


def draw_until(make: Callable[[], T], good: Callable[[T], bool], tries: int = 400) -> T | None:
    """The first good draw, or None when `tries` draws held none."""
    for _ in range(tries):
        drawn = make()
        if good(drawn):
            return drawn
    return None
