"""A scene: what an image shows, known before it is drawn, and the side of the train/test border it is on."""

from __future__ import annotations

from dataclasses import dataclass

from stages.world.chance import content_key

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


def scene_key(scene: Scene) -> str:
    """Content key of an image."""
    return content_key(scene.tint, [(m.kind, m.name, m.colour, m.x, m.y, m.size) for m in scene.marks])


def side(key: str) -> str:
    """`train` or `test`: where a scene belongs, whatever the seed, so that no two runs disagree."""
    return "test" if int(key, 16) % TEST_ONE_IN == 0 else "train"
