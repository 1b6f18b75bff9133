"""The child process of `math_pool`: compares mathematical answers with math-verify, one JSON line a job.

Its jobs are asked for by `stages.core.children.serve`, which loads this file by its path; imports nothing of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

MEMORY_BYTES = 3 << 30
"""Memory for all jobs: a huge power raises MemoryError here instead of filling the machine."""

KNOWN_SHAPES = 64
"""How many token sequences' decisions are kept: those of the groups in hand, and of what comes again and again."""


@lru_cache(maxsize=8)
def _reference(gold: str) -> list[Any]:
    """The parsed reference; a group's completions are compared with the same one."""
    from math_verify import parse

    # Boxed first: without a box, `parse` searches for an expression and may take only a part of the reference.
    return list(parse(f"\\boxed{{{gold}}}", parsing_timeout=None) or parse(gold, parsing_timeout=None))


def parse_quickly() -> None:
    """Make math-verify's LaTeX parser several times as fast, with the trees that it always gave.

    ANTLR has a quick mode (SLL), which by its documentation gives the tree of the full mode (LL) or a syntax error; so
    the quick one goes first, and its errors go to the full one, from the first token on. A decision of the grammar that
    the quick mode got wrong once (powers have one) is made in full from then on. And as the grammar asks for the types
    of tokens alone, an answer of the reference's shape (`x^2 + 3`, `x^5 + 7`) takes the same decisions once more.
    """
    import latex2sympy2_extended.latex2sympy2 as grammar
    from antlr4 import ParserATNSimulator, PredictionMode

    hard: set[int] = set()
    known: dict[tuple[int, ...], list[int]] = {}

    class Guided(ParserATNSimulator):
        full = False
        made: list[int]
        recorded: Iterator[int] | None = None

        # ANTLR asks this at every point where more than one alternative of the grammar may fit; by itself (LL) it looks
        # once more in full wherever the quick look meets a conflict.
        def adaptivePredict(self, input: Any, decision: int, outerContext: Any) -> int:
            if self.recorded is not None:
                return next(self.recorded)
            self.predictionMode = PredictionMode.LL if self.full or decision in hard else PredictionMode.SLL
            chosen: int = super().adaptivePredict(input, decision, outerContext)
            if self.full and decision not in hard:
                # The quick mode is asked once more: what it would have got wrong here is decided in full from now on.
                self.predictionMode = PredictionMode.SLL
                if super().adaptivePredict(input, decision, outerContext) != chosen:
                    hard.add(decision)
            self.made.append(chosen)
            return chosen

    class Quick(grammar.PSParser):
        def math(self) -> Any:
            # Tokens are read lazily otherwise, and the shape needs all of them.
            self.getTokenStream().fill()
            tokens = self.getTokenStream().tokens
            shape = tuple(token.type for token in tokens if token.channel == token.DEFAULT_CHANNEL)
            self._interp = Guided(self, self.atn, self.decisionsToDFA, self.sharedContextCache)
            # Taken out and put back below: a dict keeps its order, so the first key is the one that was not used for
            # longest.
            self._interp.made = known.pop(shape, [])
            self._interp.recorded = iter([*self._interp.made]) if self._interp.made else None
            try:
                tree = super().math()
            except Exception:
                # Whatever the quick mode or a recorded decision led to, the parser starts over at the first token.
                self.reset()
                self._interp.full, self._interp.recorded, self._interp.made = True, None, []
                tree = super().math()
            known[shape] = self._interp.made
            if len(known) > KNOWN_SHAPES:
                del known[next(iter(known))]
            return tree

    grammar.PSParser = Quick


def _far_apart(expected: list[Any], found: list[Any]) -> bool:
    """Whether it is plain that two answers differ, so that math-verify would say so, at a hundredth of its work.

    Simplifying a difference or solving an equation takes a hundred times as long as putting numbers into it.
    Everything that math-verify treats in its own way (percentages, text, unions with a function's set) is left to it.
    """
    from sympy import Eq, Expr, Tuple, UnevaluatedExpr, Union
    from sympy import FiniteSet as Finite

    a, b = expected[0], found[0]
    # Behind the first reading are others, the plain text among them; where one is common, math-verify would call them
    # equal.
    if {*expected[1:]} & {*found[1:]}:
        return False
    try:
        if a.has(UnevaluatedExpr) or b.has(UnevaluatedExpr):
            return False  # a percentage: 9 % is nine hundredths, and nine too
        if isinstance(a, Expr) and isinstance(b, Expr):
            return _values_differ(a, b)
        if (isinstance(a, Finite) and isinstance(b, Finite)) or (isinstance(a, Tuple) and isinstance(b, Tuple)):
            return _members_differ(a.args, b.args)
        if isinstance(a, Union) and isinstance(b, Union):
            return _unions_differ(a, b)
        if isinstance(a, Eq) and isinstance(b, Eq):
            return _lines_differ(a, b)
    except Exception:
        pass  # no number comes out of a function without a value, say; let math-verify look
    return False


def _clearly(x: complex, y: complex) -> bool:
    # Far more than math-verify forgives as rounding (6 digits), so that nothing it might call equal is decided here.
    return abs(x - y) > 1e-3 * max(1.0, abs(x), abs(y))


def _constants_differ(a: Any, b: Any) -> bool:
    """Numbers compared by their ratio: math-verify rounds to 6 decimals, and takes 6.63e-34 for 1.6e-19."""
    x, y = a.evalf(20), b.evalf(20)
    # sympy's own numbers have no underflow: 1 / 1998! is a number.
    larger = max(abs(x), abs(y))
    return bool(x != 0 and y != 0 and abs(x - y) > 1e-3 * larger)


def _values_differ(a: Any, b: Any) -> bool:
    """Expressions in the same variables that differ at some point are not equal."""
    from sympy import Float

    names = a.free_symbols
    if names != b.free_symbols:
        return False
    if not names:
        return _constants_differ(a, b)
    # One value for a name in both expressions, and none at which different expressions happen to agree, as at 0 and 1.
    point = {name: Float(0.37 + 0.11 * i) for i, name in enumerate(sorted(names, key=str))}
    return _clearly(complex(a.subs(point).evalf()), complex(b.subs(point).evalf()))


def _members_differ(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """A number of the reference that is far from all of the completion's has no partner there."""
    xs, ys = [complex(x) for x in a], [complex(y) for y in b]
    return any(all(_clearly(x, y) for y in ys) for x in xs)


def _unions_differ(a: Any, b: Any) -> bool:
    """Unions of intervals: a stretch between neighbouring ends that is inside one of them only."""
    spans = [[(float(part.start), float(part.end)) for part in union.args] for union in (a, b)]
    ends = sorted({end for part in spans[0] + spans[1] for end in part})
    inside = [[(x, y) for x, y in pairwise(ends) if any(lo <= x and y <= hi for lo, hi in of)] for of in spans]
    return any(_clearly(x, y) for x, y in {*inside[0]} ^ {*inside[1]})


def _lines_differ(a: Any, b: Any) -> bool:
    """Linear equations in the same variables whose coefficients are not in one proportion have other solutions."""
    from sympy import Poly

    names = sorted(a.free_symbols, key=str)
    if not names or a.free_symbols != b.free_symbols:
        return False
    rows = []
    for equation in (a, b):
        poly = Poly(equation.lhs - equation.rhs, *names)
        if poly.total_degree() != 1:
            return False
        row = [float(poly.coeff_monomial(name)) for name in [*names, 1]]
        if not all(row[:-1]):
            return False
        rows.append([c / row[0] for c in row])
    return any(_clearly(x, y) for x, y in zip(*rows, strict=True))


def _agree_where_real(expected: list[Any], found: list[Any]) -> bool:
    """Whether two expressions with roots or logarithms of letters agree wherever both are real numbers.

    `sqrt(1/m)` is `1/sqrt(m)` for every m > 0, and `ln(xy)` is `ln x + ln y`; sympy takes letters for complex numbers,
    and tells them apart. `sqrt(x^2)` and `x` differ at a negative x, where both are real.
    """
    from sympy import Expr, Float, Pow, log

    a, b = expected[0], found[0]
    if not (isinstance(a, Expr) and isinstance(b, Expr)) or not a.free_symbols or a.free_symbols != b.free_symbols:
        return False
    if not any(e.has(log) or any(not p.exp.is_integer for p in e.atoms(Pow)) for e in (a, b)):
        return False
    names = sorted(a.free_symbols, key=str)
    agreed = 0
    for k, sign in enumerate((1, 1, 1, 1, -1, -1, -1)):
        # Some letters negative, some not, at points where different expressions don't happen to agree.
        point = {name: Float((-1) ** (i * k) * sign * (0.37 + 0.61 * k + 0.29 * i), 30) for i, name in enumerate(names)}
        if not all(_defined(e, point) for e in (a, b)):
            continue
        x, y = a.subs(point).evalf(25), b.subs(point).evalf(25)
        if x.is_real and y.is_real:
            if abs(x - y) > 1e-15 * max(1, abs(x), abs(y)):
                return False
            agreed += 1
    return agreed >= 2


def _defined(expression: Any, point: dict[Any, Any]) -> bool:
    """Whether no root or logarithm in an expression is of a negative number at a point."""
    from sympy import Pow, log

    inside = [p.base for p in expression.atoms(Pow) if not p.exp.is_integer]
    inside += [call.args[0] for call in expression.atoms(log)]
    return all((value := part.subs(point).evalf(20)).is_real and value >= 0 for part in inside)


def compare(gold: str, candidate: str) -> dict[str, object]:
    """Whether a completion's mathematical expression equals the reference, and what was read from the completion."""
    from math_verify import parse, verify

    # math-verify's own timeouts are Python signal handlers, which C code outlasts; ours are outside.
    expected = _reference(gold)
    found = parse(candidate, parsing_timeout=None)
    if not expected:
        return {"error": f"math-verify can't read the reference {gold!r}"}
    if not found:
        return {"correct": False, "seen": None}
    correct = not _far_apart(expected, found) and bool(
        # An interval and the inequality that says the same are one answer, whichever of them is the reference.
        verify(expected, found, timeout_seconds=None, allow_set_relation_comp=True)
    )
    if not correct:
        with contextlib.suppress(Exception):
            correct = _agree_where_real(expected, found)
    return {"correct": correct, "seen": str(found[-1])[:200]}


def start() -> None:
    """Load the algebra system; ImportError where it is not installed."""
    with contextlib.suppress(ImportError, AttributeError):
        parse_quickly()  # a parser of another version is slower, and as right
    # The first job loads the parser too; a warm-up keeps that out of a real job's time.
    compare("\\frac{1}{2}", "$0.5$")


def answer(job: dict[str, Any]) -> dict[str, object]:
    """The comparison that a job asks for."""
    return compare(job["gold"], job["candidate"])
