"""Where the sentences of an English text end, in the way of Punkt, which benchmarks ask for (Kiss and Strunk 2006).

`?` and `!` end a sentence before a blank, and so does a full stop that is no abbreviation's, whatever follows it; a
line break alone ends none. Punkt's trained tables are not here: its abbreviations and openers are, as word lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.judging.instructions.word_lists import listed

ABBREVIATIONS = frozenset(
    listed(
        """
    adm ala ariz aug ave bros calif chg cie co col colo conn corp cos ct dec dr feb fla fri ft ga gen ill inc jan jr
    kan ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa prof rep reps sen sep sept sr st sw
    tenn tues va vs vt wash wed wis yr a.a a.c a.d a.g a.h a.m a.m.e a.s a.t b.f b.v c.i.t c.o.m.b c.v d.c d.h d.w
    e.f e.h e.l e.m f.g f.j g.d g.f g.k h.c h.f h.m i.m.s j.b j.c j.j j.k j.p j.r l.a l.f l.p m.b.a m.d.c m.j n.c
    n.d n.h n.j n.m n.v n.y p.a.m p.m ph.d r.a r.h r.i r.j r.k r.t s.a s.a.y s.c s.g s.p.a s.s t.j u.k u.n u.s u.s.a
    u.s.s.r w.c w.r w.va w.w c d e f g h k l m n p r s t v w
    """
    )
)
"""What a full stop may belong to; a letter is an initial. `e.g`, `i.e` and `etc` end sentences for Punkt."""
_OPENERS = frozenset(
    listed(
        """
    according although among both but despite even he however i if in indeed instead it many meanwhile moreover most
    nevertheless nonetheless nor sales separately similarly since so some the there these they this though thus
    under when while yet
    """
    )
)
"""Words that open a sentence where they stand in capitals behind an abbreviation."""
_BEHIND_NUMBERS = frozenset(
    listed(
        """
    business commodities corrections credit dividend financing insider international leisure letters notable review
    who
    """
    )
)
"""Words before which a number's full stop ends no sentence."""
_MARK = re.compile(r"[.!?](?=[)\";}\]*:@'({\[!?‘’“”«»]|\s+(?P<after>\S+))")
"""A mark that may end a sentence: what is behind it is a blank, a bracket, a quote or another mark."""
_CLOSERS = re.compile(r"[\"')\]}‘’“”«»]+?(?:\s+|(?=--)|$)", re.MULTILINE)
"""Quotes and brackets that belong to the sentence before them: `He said "no."`"""
_ENDS_INSIDE = re.compile(r"[.!?][)\";}\]*:@'({\[!?‘’“”«»]")
_OPENING = '("`{[:;&#*@)}]-,'
_INITIAL = re.compile(r"[^\W\d]\.")
_AFTER_INITIAL = re.compile(r"(?<!\S)[^\W\d]\.\s+\Z")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the blanks between them; what is behind the last end is one, too."""
    text = text.rstrip()
    found = []
    start = 0
    for end in _ends(text):
        behind = _blanks_end(text, end)
        closed = _CLOSERS.match(text, behind)
        if closed:
            end, behind = closed.start() + len(closed.group().rstrip()), closed.end()
        # Closers may have taken what lies before the next mark.
        if end > start and text[start:end].strip():
            found.append(text[start:end])
            start = behind
    if text[start:].strip():
        found.append(text[start:])
    return found


def _blanks_end(text: str, at: int) -> int:
    # By index: a copy of the rest for each sentence would cost a long text its square.
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _ends(text: str) -> Iterator[int]:
    """The positions behind the marks that end a sentence."""
    waiting: tuple[re.Match[str], int] | None = None
    for mark in _MARK.finditer(text):
        word = _word_start(text, mark.start(), waiting)
        # Of several marks in one word the last decides, but a mark that begins the word decides for itself.
        if waiting and waiting[0].start() <= word and _is_end(text, *waiting):
            yield waiting[0].end()
        waiting = mark, word
    if waiting and _is_end(text, *waiting):
        yield waiting[0].end()


def _word_start(text: str, mark: int, before: tuple[re.Match[str], int] | None) -> int:
    """Where the word before a mark begins."""
    at = mark
    lowest = before[0].start() if before else 0
    while at > lowest and not text[at - 1].isspace():
        at -= 1
    return before[1] if before and at == lowest else at


def _is_end(text: str, mark: re.Match[str], start: int) -> bool:
    """Whether a mark ends its sentence, by its word and the one that follows."""
    if mark.group() != ".":
        return True
    word = text[start : mark.end()].lstrip(_OPENING).lower()
    after = mark["after"] or ""
    # The word that follows ends a sentence itself, before a quote or bracket: Punkt then ends one here, too.
    if _ENDS_INSIDE.search(after):
        return True
    plain = re.sub(r"\W.*$", "", after)
    opens = plain[:1].isupper() and plain.lower() in _OPENERS
    stem = word[:-1]
    if len(stem) == 1 and stem.isalpha():
        # `J. W. Smith` is a name; `A. Option` opens a list.
        name = bool(_INITIAL.match(after)) or after.lower().rstrip(".") in ABBREVIATIONS
        name = name or bool(plain and _AFTER_INITIAL.search(text[max(0, start - 8) : start]))
        return stem not in ABBREVIATIONS and not after[:1].islower() and not name
    if word.endswith("..") or stem in ABBREVIATIONS or stem.rpartition("-")[2] in ABBREVIATIONS:
        return opens
    if _NUMBER.fullmatch(word):
        return not after[:1].islower() and plain.lower() not in _BEHIND_NUMBERS
    return True
