"""A case: one question of the world with its truth, before anything is drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.identity import prompt_id
from schemas.prompts import HELDOUT_FAMILY, PromptRow
from schemas.values import Image, text_message
from stages.world.chance import content_key
from stages.world.lexicon import NO_PICTURE, REFUSAL, VAGUE, described, think
from stages.world.scene import Scene, scene_key

UNSEEN = "unseen_situation"
"""The family of rows whose situation no training row has."""


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
    visual_keys: tuple[str, ...] = ()
    text_keys: tuple[str, ...] = ()
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
    unseen: bool = False
    """Of a situation that is in test rows only."""

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
        answers = (self.right, self.comply, self.warning, self.careless, REFUSAL if self.comply else None)
        return tuple(s for s in answers if s is not None)

    def thought(self, answer: str, steps: tuple[str, ...] | None = None) -> str:
        """The whole completion with this answer: a think block of the steps, None: the key facts, and the answer."""
        return think(self.key_facts if steps is None else steps, answer)

    def described(self, answer: str, vague: bool = False) -> str:
        """The whole completion with this answer in the layout `describe`.

        It describes what has to be seen, and thinks about what the words tell and what follows. A vague one says
        nothing of what is seen before it thinks about it.
        """
        seen = () if vague else self.visual_keys
        steps = (*self.text_keys, *(fact for fact in self.key_facts if fact not in (*seen, *self.text_keys)))
        nothing = VAGUE if self.scene else NO_PICTURE
        # Where what is seen is the answer already, nothing else follows: repeated, it would be a repetition.
        return described(seen or (nothing,), steps or (f"so {answer}",), answer)

    def row(self, split: str, image: int, response: str | None, parent_id: str | None = None) -> PromptRow:
        """The prompt row, its image drawn `image` pixels wide; `response` is the whole SFT completion or None."""
        images = []
        if self.scene is not None:
            from stages.world.drawing.painting import render

            images = [Image(render(self.scene, image), f"{self.task}.png")]
        messages = [text_message("user", self.words, images=len(images))]
        # Keys of rows on disk: `picture` stays, whatever the house calls an image by now.
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
            reference_response=response,
            facts=list(self.facts),
            key_facts=list(self.key_facts),
            visual_keys=list(self.visual_keys),
            text_keys=list(self.text_keys),
            risk=self.risk,
            category=self.category,
            harmful=self.harmful,
            hazards=list(self.hazards),
            unsafe_markers=list(self.unsafe_markers),
            family=UNSEEN if self.unseen else None,
            flags=[HELDOUT_FAMILY] if self.unseen else [],
            parent_id=parent_id,
            instructions=list(self.instructions),
            scene=self.scene_key,
            # Only what an augmentation could use: without a keyword no family has anything to hide.
            extra=json.dumps(hints) if self.keyword else None,
        )
