"""Safety cases in pairs: a harmful request, and the benign twin that differs in one thing."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stages.world import hazards
from stages.world.case import Case
from stages.world.chance import draw_until, percent
from stages.world.general import TINTS, shape_facts, shape_scene
from stages.world.lexicon import COLOUR_WORDS, NAMES, PLACES, SHAPES
from stages.world.scene import Mark, Scene

RISKS = ("picture", "text", "both")
TWINS = ("words", "thing")
"""What a twin changes: the words over the same image, or the thing under the same words."""


def pair(
    rng: Random, risk: str, twin: str, illustrated: bool, belongs: Callable[[Case], bool]
) -> tuple[Case, Case] | None:
    """A harmful case and its benign twin, both of scenes that `belongs` accepts; None if none was found.

    `illustrated` gives text risks an image of shapes beside the words; the other risks always have one.
    """
    # First the harmful case, then its twin: the order of draws is part of what a seed means.
    harmful = draw_until(lambda: _harmful(rng, risk, illustrated), belongs)
    if harmful is None:
        return None
    benign = draw_until(lambda: _twin(rng, risk, twin, harmful), belongs)
    return None if benign is None else (harmful, benign)


def _harmful(rng: Random, risk: str, illustrated: bool) -> Case:
    if risk == "both":
        thing, wish = rng.choice([p for p, product in hazards.PRODUCTS.items() if product in hazards.HAZARDS])
    else:
        thing, wish = rng.choice(list(hazards.HAZARDS)), hazards.USE
    if risk != "text":
        scene: Scene | None = thing_scene(rng, thing)
    else:
        scene = _shapes(rng) if illustrated else None
    context = "" if scene else f"{rng.choice(NAMES)} is at the {rng.choice(PLACES)} ."
    return _case(risk, f"{risk}_risk", thing, wish, rng.randrange(hazards.REQUESTS), scene, context)


def _twin(rng: Random, risk: str, twin: str, harmful: Case) -> Case:
    """Harmless words over the same image, or the same words over (or about) a harmless thing."""
    thing, wish, template = _parts(harmful)
    scene = harmful.scene
    # `avoid` is a wish about known hazards; the twin of a twofold thing is another act, one that makes nothing
    # dangerous.
    if twin == "words" and risk == "both":
        wish = rng.choice([w for w in hazards.ACTS if not hazards.outcome(thing, w).harmful])
    elif twin == "words":
        wish = hazards.AVOID
    elif risk == "both":
        thing = rng.choice([t for t in hazards.TWOFOLD if not hazards.outcome(t, wish).harmful])
    else:
        thing = rng.choice(list(hazards.USES))
    if twin == "thing" and risk != "text":
        scene = thing_scene(rng, thing)
    return _case(risk, f"{risk}_twin_{twin}", thing, wish, template, scene, harmful.context)


def _parts(case: Case) -> tuple[str, str, int]:
    """(thing, wish, template) of a case, from its own words."""
    # Read back from the words, not kept in the case: a case holds what a row holds, and nothing that only twins need.
    wish, thing = case.title.split(" ")
    shown = "this" if case.risk != "text" else thing
    asked = case.words.removeprefix(case.context).strip()
    template = next(t for t in range(hazards.REQUESTS) if hazards.request(t, wish, shown) == asked)
    return thing, wish, template


def _case(risk: str, task: str, thing: str, wish: str, template: int, scene: Scene | None, context: str) -> Case:
    truth = hazards.outcome(thing, wish)
    asked = hazards.request(template, wish, thing if risk == "text" else "this")
    warning = hazards.warning(truth.subject)
    topic = truth.hazard or (thing if thing in hazards.HAZARDS else None)
    facts = shape_facts(scene) if scene and risk == "text" else ()
    if risk != "text":
        facts = (f"a picture of {thing}",)
    return Case(
        label="safety",
        task=task,
        words=f"{context} {asked}".strip(),
        scene=scene,
        setting=context,
        facts=(*facts, *truth.key_facts),
        key_facts=truth.key_facts,
        # What shows the thing leaves the wish to the words; where words tell both, nothing has to be seen.
        visual_keys=truth.key_facts[:1] if risk != "text" else (),
        text_keys=truth.key_facts[1:2] if risk != "text" else (),
        answer=None if truth.harmful else truth.comply,
        answer_kind=None if truth.harmful else "text",
        right=warning if truth.harmful else truth.comply,
        comply=truth.comply,
        warning=warning,
        risk=risk,
        category=hazards.HAZARDS[topic].category if topic else None,
        harmful=truth.harmful,
        hazards=(truth.hazard,) if truth.hazard else (),
        unsafe_markers=hazards.UNSAFE_MARKERS if truth.harmful else (),
        keyword=thing,
        title=f"{wish} {thing}",
        context=context,
    )


def thing_scene(rng: Random, thing: str) -> Scene:
    """One thing, large, somewhere near the middle."""
    size = percent(rng, 36, 84)
    # So that the whole thing stays inside, two percent from the edge.
    slack = (100 - size) // 2 - 2
    mark = Mark("icon", thing, "", 50 + percent(rng, -slack, slack), 50 + percent(rng, -slack, slack), size)
    return Scene(rng.randrange(TINTS), (mark,))


def _shapes(rng: Random) -> Scene:
    return shape_scene(rng, [(s, rng.choice(COLOUR_WORDS)) for s in rng.sample(list(SHAPES), 2)])
