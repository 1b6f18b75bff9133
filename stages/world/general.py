"""General questions: counting, colours, comparison, reading, arithmetic on drawn digits and in words."""

from __future__ import annotations

from random import Random

from stages.world import hazards
from stages.world.case import Case
from stages.world.chance import percent
from stages.world.lexicon import COLOUR_WORDS, NAMES, PLACES, SHAPES
from stages.world.scene import Mark, Scene

TINTS = 8
# Centres of thirds and of quarters, in percent: what stands there keeps clear of its neighbours and of the edge.
_CELLS = (17, 50, 83)
_CORNERS = (27, 73)
WORD_SIZE = 26
"""Height of a word's letters in percent. Words are black and sit still in one of three rows: a tiny vision tower,
which has no notion of shift, then reads them after a hundred steps, and not at all when place and ink wander."""
_MOST = 6


def shape_scene(rng: Random, shapes: list[tuple[str, str]]) -> Scene:
    """The given (shape, colour) pairs, each in a cell of its own of a 3 x 3 grid, slightly off its centre."""
    cells = rng.sample([(x, y) for y in _CELLS for x in _CELLS], len(shapes))
    marks = [
        Mark("shape", shape, colour, x + percent(rng, -4, 4), y + percent(rng, -4, 4), percent(rng, 22, 28))
        for (shape, colour), (x, y) in zip(shapes, cells, strict=True)
    ]
    return Scene(rng.randrange(TINTS), tuple(marks))


def large_scene(rng: Random, shapes: list[tuple[str, str]]) -> Scene:
    """At most four (shape, colour) pairs, large, each in a quarter of its own."""
    cells = rng.sample([(x, y) for y in _CORNERS for x in _CORNERS], len(shapes))
    marks = [
        Mark("shape", shape, colour, x + percent(rng, -4, 4), y + percent(rng, -4, 4), percent(rng, 36, 44))
        for (shape, colour), (x, y) in zip(shapes, cells, strict=True)
    ]
    return Scene(rng.randrange(TINTS), tuple(marks))


def shape_facts(scene: Scene) -> tuple[str, ...]:
    """One statement a shape, left to right and top to bottom."""
    # 34 percent is a little more than a third: marks that sway by 4 percent stay in their row.
    marks = sorted((m for m in scene.marks if m.kind == "shape"), key=lambda m: (m.y // 34, m.x))
    return tuple(f"{'an' if m.colour == 'orange' else 'a'} {m.colour} {m.name}" for m in marks)


def quantity(n: int, shape: str) -> str:
    """`1 star`, `4 stars`."""
    return f"{n} {shape if n == 1 else SHAPES[shape]}"


def there(n: int, shape: str) -> str:
    """`there is 1 star`, `there are 4 stars`."""
    return f"there {'is' if n == 1 else 'are'} {quantity(n, shape)}"


def counting(rng: Random) -> Case:
    """How many of one shape; two kinds of shape are for comparison."""
    shape, n = rng.choice(list(SHAPES)), rng.randint(1, _MOST)
    scene = shape_scene(rng, [(shape, rng.choice(COLOUR_WORDS))] * n)
    many = SHAPES[shape]
    asked = (f"how many {many} are there ?", f"count the {many} .", f"how many {many} do you see ?")
    return Case(
        label="general",
        task="counting",
        words=rng.choice(asked),
        scene=scene,
        facts=shape_facts(scene),
        key_facts=(there(n, shape),),
        visual_keys=(there(n, shape),),
        answer=str(n),
        answer_kind="number",
        right=str(n),
    )


def colours(rng: Random) -> Case:
    """The colour of one shape, alone or beside another."""
    shapes = rng.sample(list(SHAPES), rng.choice((1, 2)))
    tones = rng.sample(COLOUR_WORDS, len(shapes))
    scene = large_scene(rng, list(zip(shapes, tones, strict=True)))
    shape, colour = shapes[0], tones[0]
    asked = ("what colour is the {} ?", "name the colour of the {} .", "which colour has the {} ?")
    return Case(
        label="general",
        task="colours",
        words=rng.choice(asked).format(shape),
        scene=scene,
        facts=shape_facts(scene),
        key_facts=(f"the {shape} is {colour}",),
        visual_keys=(f"the {shape} is {colour}",),
        answer=colour,
        answer_kind="text",
        right=colour,
    )


def comparison(rng: Random) -> Case:
    """Of which of two shapes there are more."""
    first, second = rng.sample(list(SHAPES), 2)
    # Never equal, as the question has no word for that.
    few, many = sorted(rng.sample(range(1, 6), 2))
    colour, other_colour = rng.sample(COLOUR_WORDS, 2)
    counts = {first: few, second: many} if rng.random() < 0.5 else {first: many, second: few}
    scene = shape_scene(rng, [(first, colour)] * counts[first] + [(second, other_colour)] * counts[second])
    a, b = SHAPES[first], SHAPES[second]
    words = rng.choice((f"are there more {a} or {b} ?", f"which are more , {a} or {b} ?"))
    answer = a if counts[first] == many else b
    return Case(
        label="general",
        task="comparison",
        words=words,
        scene=scene,
        facts=shape_facts(scene),
        key_facts=(there(counts[first], first), there(counts[second], second)),
        visual_keys=(there(counts[first], first), there(counts[second], second)),
        answer=answer,
        answer_kind="text",
        right=answer,
    )


def reading(rng: Random) -> Case:
    """A word in the image, one of those that name things."""
    word = rng.choice((*hazards.HAZARDS, *hazards.USES))
    row, other = rng.sample(_CELLS, 2)
    beside = Mark("shape", rng.choice(list(SHAPES)), rng.choice(COLOUR_WORDS), rng.choice(_CELLS), other, 24)
    marks = (Mark("word", word, "black", 50, row, WORD_SIZE), *((beside,) if rng.random() < 0.5 else ()))
    scene = Scene(rng.randrange(TINTS), marks)
    return Case(
        label="general",
        task="reading",
        words=rng.choice(("what is written here ?", "read the word .", "which word do you see ?")),
        scene=scene,
        facts=(f"the word {word}", *shape_facts(scene)),
        key_facts=(f"the word is {word}",),
        visual_keys=(f"the word is {word}",),
        answer=word,
        answer_kind="text",
        right=word,
    )


def _sum(rng: Random) -> tuple[int, str, int, int]:
    a, b = rng.randint(1, _MOST), rng.randint(1, _MOST)
    # Never below 0: the world's numbers have no sign, and its tokenizer no word for one.
    if rng.random() < 0.5:
        return a, "plus", b, a + b
    return max(a, b), "minus", min(a, b), abs(a - b)


def drawn_arithmetic(rng: Random) -> Case:
    """A sum or difference of two drawn digits."""
    a, sign, b, result = _sum(rng)
    glyphs = (str(a), "+" if sign == "plus" else "-", str(b))
    y, size = percent(rng, 46, 54), percent(rng, 40, 46)
    marks = tuple(
        Mark("word", glyph, "black", x + percent(rng, -2, 2), y, size) for glyph, x in zip(glyphs, _CELLS, strict=True)
    )
    words = rng.choice(("what is the result ?", "work this out .", "what does this make ?"))
    seen = (f"{a} {sign} {b}",)
    return _arithmetic("arithmetic", words, a, sign, b, result, scene=Scene(rng.randrange(TINTS), marks), seen=seen)


def word_arithmetic(rng: Random) -> Case:
    """The same in words alone."""
    a, sign, b, result = _sum(rng)
    name, where = rng.choice(NAMES), rng.choice(PLACES)
    things = rng.choice(("nuts", "coins", "books", "shells"))
    event = "finds" if sign == "plus" else "loses"
    words = f"{name} has {a} {things} and {event} {b} at the {where} . how many {things} are left ?"
    told = (f"{name} has {a} {things}", f"{name} {event} {b}")
    return _arithmetic("told_arithmetic", words, a, sign, b, result, setting=f"{name} {where}", told=told)


def _arithmetic(
    task: str,
    words: str,
    a: int,
    sign: str,
    b: int,
    result: int,
    scene: Scene | None = None,
    setting: str = "",
    seen: tuple[str, ...] = (),
    told: tuple[str, ...] = (),
) -> Case:
    return Case(
        label="general",
        task=task,
        words=words,
        scene=scene,
        setting=setting,
        facts=(f"the numbers {a} and {b}", f"{a} {sign} {b}"),
        key_facts=(f"{a} {sign} {b} is {result}",),
        visual_keys=seen,
        text_keys=told,
        answer=str(result),
        answer_kind="number",
        right=str(result),
    )


def prices(rng: Random) -> Case:
    """What several things cost: their price is on a card, alone or under another, and the words say how many they are.

    Neither the card nor the words tell the answer alone.
    """
    shapes = rng.sample(list(SHAPES), rng.choice((1, 2)))
    costs = rng.sample(range(1, _MOST + 1), len(shapes))
    rows = rng.sample(_CORNERS, len(shapes))
    marks: list[Mark] = []
    for shape, cost, y in zip(shapes, costs, rows, strict=True):
        marks.append(Mark("shape", shape, rng.choice(COLOUR_WORDS), 20 + percent(rng, -4, 4), y, percent(rng, 30, 34)))
        marks += [Mark("word", "=", "black", 50, y, 30), Mark("word", str(cost), "black", 80, y, 40)]
    shape, cost, n = shapes[0], costs[0], rng.randint(2, 5)
    bought, result = quantity(n, shape), str(n * cost)
    asked = ("{name} buys {bought} . how many coins is that ?", "what do {bought} cost ?", "how much are {bought} ?")
    card = tuple(f"a {s} costs {c}" for s, c in zip(shapes, costs, strict=True))
    return Case(
        label="general",
        task="prices",
        words=rng.choice(asked).format(name=rng.choice(NAMES), bought=bought),
        scene=Scene(rng.randrange(TINTS), tuple(marks)),
        facts=card,
        key_facts=(card[0], f"{bought} cost {result}"),
        visual_keys=card[:1],
        text_keys=(bought,),
        answer=result,
        answer_kind="number",
        right=result,
    )


_TASKS = (counting, colours, comparison, reading, drawn_arithmetic, word_arithmetic)
_WEIGHTS = (32, 18, 12, 24, 8, 6)


def draw(rng: Random) -> Case:
    """One general question, of a kind drawn by the weights above; counting is the most frequent."""
    return rng.choices(_TASKS, _WEIGHTS)[0](rng)
