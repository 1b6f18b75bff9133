"""Which options a completion chooses: one letter or text, or several where several are right.

A letter counts where the completion answers with it: at the start of what it marks as its answer, in brackets, behind
`option`, in bold on the last line. `Vitamin C` and `point B` are no letters, an echoed list of the options chooses
none, an option that is denied is not chosen, and of several none is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from schemas.prompts import PromptRow
from stages.score.answers.markers import ADVERBS, AND, BUT, EXCLUDES, NEGATED_FOLLOWS, NEGATORS, OR, RETRACTS, TURNS
from stages.score.answers.negation import CLAUSE, calls_wrong, denies, denies_in_script
from stages.score.answers.normalize import phrase, plain, signed, spaced
from stages.score.answers.numbers import abstains, equal, final_value
from stages.score.answers.numerals import as_value
from stages.score.answers.reading import Reading, emphasised, plain_markup, read

_NAMED = r"(?:option|choice|letter|answer|opción|réponse|antwort|选项|選項|選択肢|선택지|보기)"
# What may stand behind a letter: no more of a word, a degree, `C++`, `B'`.
_END = r"(?![A-Za-z0-9_'’+#°*^]|-[A-Za-z])"
_LETTER = rf"[(\[{{<]?\s*([A-Za-z])\s*[)\]}}>]?{_END}"
_LEADING = re.compile(
    rf"[\s\"'*#>:]*(?:the\s+)?(?:{_NAMED}\s*:?\s*)?(?:([(\[{{]\s*([A-Za-z])\s*[)\]}}])|([A-Z]){_END})", re.IGNORECASE
)
_JOINED = re.compile(
    rf"\s*(?:[,/、;+]|{AND}|{OR}|(?<=[)\]])\s*(?=[(\[]))\s*(?:(?:{AND}|{OR})\s*)?(?:{_NAMED}\s*)?[(\[]?([A-Z]|[a-z](?=[)\].\s]*$))[)\]]?{_END}(?!\s+(?:is|was)\b)"
)
# `A` and `I` are words before a word of lower-case letters, unless that one gives a reason.
_GOES_ON = re.compile(r"\s+(?!because|since|as\b|is\b|was\b|and\b|or\b|fits|due|would\b|for\b|which\b)[a-z]")
_JOINT = re.compile(rf"(?:^|[^A-Z]|\w[A-Z])[)\].,]*\s+(?:{AND}|{OR})\s+$")
_BUT = re.compile(rf" (?:{BUT})(?= |$)")
_LISTED = re.compile(
    rf"(?:[(\[]?(?<![A-Za-z])[A-Z][)\]]?(?:\s*[,/、]\s*(?:(?:{AND}|{OR}|nor)\s+)?|\s+(?:{AND}|{OR}|nor)\s+))+$"
)
"""Letters of an enumeration that goes on: what denies the first of them denies all."""
_CONCLUDES = re.compile(
    r"(?:\b(?:so|thus|therefore|hence|also|leaves|leaving|remains|daher|donc)|所以|因此|故)[\s,:]*$", re.IGNORECASE
)
_BRACKETED = re.compile(rf"(?<![A-Za-z0-9_])[(\[]\s*([A-Za-z])\s*[)\]]{_END}")
_BEHIND_NAME = re.compile(rf"\b{_NAMED}\s*:?\s*[(\[]?([A-Z]){_END}", re.IGNORECASE)
_ALONE = re.compile(rf"(?<![A-Za-z0-9_'’°$\\.-])([A-Z]){_END}")
_ANSWERING = (
    "is are was be say only leaves leaving choose pick select take answer option choice letter"
    " it's that's with so thus therefore hence go"
    " guess think be: to either or and not isn't 是 为 选 選 は"
)
_ANSWERS = frozenset(_ANSWERING.split())
"""Words behind which a bare letter is an option; behind a noun (`Vitamin C`, `point B`) it is part of a name."""
_RIGHT = re.compile(
    r"[)\]]?\s*(?:(?:is|are|seems?|looks?)\s+(?:(?:the|clearly|actually)\s+)*(?:correct|right|true|best|answer)\b"
    r"|remains\b|is left\b)(?!\s+(?:only\s+)?if\b)",
    re.IGNORECASE,
)
"""Behind an option that is called the right one: `C is correct`, `only D remains`."""
_ITEM = re.compile(r"^[ \t]*[(\[]?([A-Z])[)\].:、][ \t]*\S.*$", re.MULTILINE)
_LETTERS_ONLY = re.compile(r"[A-Z](?:\s*(?:[,;/&、]|and\b)?\s*[A-Z])*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[a-z0-9)%\"'$*][.!?])\s+(?=[A-Z(*])|(?<=[。！？])\s*|\n+")
_ARTICLE = re.compile(r"^ (?:a|an|the) (?=\w)")
_SETTLES = re.compile(
    r"(?:^|\b(?:is|it's|be|so|thus|therefore|hence|ist|est|es)\b|应该是|應該是|是|[选選])[\s:*]*(?:option\s*)?"
    r"[(\[]?([A-Z])[)\]]?[\s.!*。]*$"
)
"""A sentence that ends in the letter that it states: `... so it is B.`"""
_SUPPOSES = re.compile(r"\b(?:if|would|could|might|may|were)\b", re.IGNORECASE)
_ASKED = re.compile(
    r"[)\]]?\s*[?？]|[)\]]?\s*[:：][^.?!？！。\n]{1,80}[?？]\s*(?:no|nope|wrong|incorrect|不)\b", re.IGNORECASE
)
"""Behind a letter that is only asked about: `B?`, `B: a bus? No.`"""
_AFFIRMED = re.compile(
    r"[)\]]?\s*(?:[:：][^.?!？！。\n]{1,80})?[?？]\s*(?:yes|yep|correct|right|exactly|是)\b", re.IGNORECASE
)
"""Behind a letter that is asked about and chosen: `C: a van? Yes.`"""
Options = frozenset[int]


def option_index(gold: str, choices: Sequence[str]) -> int | None:
    """Which option a reference means: by its text, its letter, or its place from 0; None when it is none of them."""
    same = [i for i, c in enumerate(choices) if c.strip() == gold.strip()]
    if not same:
        same = [i for i, c in enumerate(choices) if phrase(c) == phrase(gold) and signed(c) == signed(gold)]
    if same:
        return same[0]
    letter = plain(gold).strip().strip("().").upper()
    if len(letter) == 1 and "A" <= letter <= "Z" and (not choices or ord(letter) - 65 < len(choices)):
        return ord(letter) - 65
    if choices and letter.isdigit() and int(letter) < len(choices):
        return int(letter)
    return None


def several(gold: str, choices: Sequence[str]) -> Options | None:
    """The options that a reference such as `AC` or `A, C` means; None when it is no list of letters of this row."""
    bare = plain(gold).strip().strip("()[]{}").strip()
    if any(c.strip() == gold.strip() for c in choices) or not _LETTERS_ONLY.fullmatch(bare):
        return None
    letters = [c.upper() for c in re.sub(r"\band\b", "", bare, flags=re.IGNORECASE) if c.isalpha()]
    inside = frozenset(ord(c) - 65 for c in letters)
    return inside if len(inside) == len(letters) and max(inside) < (len(choices) or 26) else None


def answered_option(row: PromptRow, answer: str) -> int | None:
    """The index of the one option that an answer settles on, or None when it names none or several."""
    gold = option_index(row.answer or "", row.choices)
    # MATH-V draws options up to E in its images, so as many letters are taken where the texts are not known.
    found = chosen(read(answer, options=True), tuple(row.choices), max(5, (gold or 0) + 1))
    return next(iter(found)) if len(found) == 1 else None


def choice_index(answer: str, choices: list[str], count: int | None = None) -> int | None:
    """`answered_option` for a list of options; `count` stands in for their number where their texts are unknown."""
    found = chosen(read(answer, options=True), tuple(choices), count or 0)
    return next(iter(found)) if len(found) == 1 else None


def chosen(reading: Reading, choices: tuple[str, ...], count: int, many: bool = False) -> Options:
    """The options that a completion chooses: one, none, or several.

    Looked at in turn: what it marks as its answer, the bold part of its last line, its last line, all of it without an
    echoed list of options; the first that chooses anything decides.
    """
    total = len(choices) or count
    # Options whose texts are letters (`A` ... `E` marked in an image) are chosen by letter; a letter that labels none
    # of them (`G` of A, B, D, F, G) can only be a text.
    lettered = all(len(c.strip()) == 1 and c.strip().isascii() and c.strip().isalpha() for c in choices)
    texts = () if lettered else choices
    bare = plain(reading.final).strip(" .()").upper()
    if lettered and len(bare) == 1 and ord(bare) - 65 >= total:
        return frozenset(i for i, c in enumerate(choices) if c.strip().upper() == bare)
    if reading.mark:
        for part in (reading.final, *reading.earlier):
            text = plain_markup(plain(part)).strip()
            # `The answer is C. But the wheels show that it is B.`
            later = [part for part in TURNS.split(text)[1:] if not _SUPPOSES.search(part)]
            settled = [m.group(1) for part in later if (m := _SETTLES.search(part))]
            if settled and not many and (found := _inside({settled[-1]}, total)):
                return found
            if found := _in_span(text, texts, total, True, many):
                return found
            # A last statement that denies or withholds is not outdone by an earlier one.
            if _denies(text) or abstains(text):
                return frozenset()
        if reading.mark != "statement":
            return frozenset()
    whole = _without_list(plain(reading.whole), total)
    if not whole:
        return frozenset(range(total))
    parts = (emphasised(whole), whole.rstrip().rpartition("\n")[2], whole) if "\n" in whole else (whole,)
    if "\n" in whole and (headline := _headline(whole, texts, total)):
        return headline
    picked = frozenset[int]()
    for shown in parts:
        if shown and (picked := _in_span(plain_markup(shown).strip(), texts, total, False, many)):
            break
    # A text that weighs several settles on what its last sentence says, or what it puts in the place of another.
    for pieces in (RETRACTS.split(whole), _SENTENCE.split(whole.strip())) if not many else ():
        if len(picked) > 1 and len(pieces) > 1:
            last = _in_span(plain_markup(pieces[-1]).strip(), texts, total, False, many)
            picked = last if len(last) == 1 else picked
    return picked


def names_letter(reading: Reading, total: int) -> bool:
    """Whether a completion answers with a letter, and not with an option's text."""
    text = plain_markup(plain(reading.final))
    return bool(_leading(text, total) or _mentioned(text, total, True))


def _without_list(text: str, total: int) -> str:
    """A text without an echoed list of the options: lines that begin with A, B, ... in order; empty for just that."""
    items = list(_ITEM.finditer(text)) if "\n" in text else []
    letters = [m.group(1) for m in items]
    if len(items) < 2 or letters != [chr(65 + i) for i in range(len(items))] or len(items) < min(total, 3):
        return text
    rest = text[: items[0].start()] + text[items[-1].end() :]
    return rest if rest.strip() else ""


def _headline(text: str, choices: tuple[str, ...], total: int) -> Options:
    """The option whose letter and text are the first line, where what follows only explains it; else empty."""
    first, _, rest = plain_markup(text).strip().partition("\n")
    found = _leading(first, total)
    if len(found) != 1 or not choices or (own := phrase(choices[next(iter(found))])) not in spaced(first):
        return frozenset()
    explains = not _ITEM.search(rest) and not _mentioned(rest.rstrip().rpartition("\n")[2], total, True)
    return found if explains and len(own) > 2 else frozenset()


def _in_span(text: str, choices: tuple[str, ...], total: int, marked: bool, many: bool) -> Options:
    """What one part of a completion chooses; empty where it chooses nothing."""
    if not text:
        return frozenset()
    exact = [i for i, c in enumerate(choices) if _form(c) == _form(text)]
    if exact:
        return frozenset(exact[:1])
    if many and _LETTERS_ONLY.fullmatch(text.strip(" .()[]")) and (named := several(text.strip(" .()[]"), choices)):
        return named
    if found := _called_right(text, total, many) or _leading(text, total) or _opening(text, choices):
        return found
    if found := _mentioned(text, total, bool(choices) and not marked):
        return found
    # `10 + 2 = 12` settles on what it gives, though it holds the text of another option.
    if "=" in text and (found := _by_value(text, choices)):
        return found
    return _by_text(text, choices) or _by_value(text, choices)


def _called_right(text: str, total: int, many: bool) -> Options:
    """The one letter that a text calls right, wherever it stands: `D is tempting, but C is right`; else empty."""
    found = {
        m.group(1)
        for m in _ALONE.finditer(text)
        if _RIGHT.match(text, m.end()) and not _denied(text[: m.start()]) and not _SUPPOSES.search(text[: m.start()])
    }
    return _inside(found, total) if len(found) == 1 and not many else frozenset()


def _leading(text: str, total: int) -> Options:
    """The letter that a text opens with, and those joined to it by a comma, `and`, `or`."""
    lead = _LEADING.match(text)
    if lead is None:
        return frozenset()
    letter, end = lead.group(2) or lead.group(3), lead.end()
    bracketed = bool(lead.group(1)) or end == len(text.rstrip(" ."))
    # Lower-case letters count in brackets, alone, or behind `option`.
    if letter.islower() and not bracketed and not re.match(r"\s*(?:the\s+)?" + _NAMED, text, re.IGNORECASE):
        return frozenset()
    if not bracketed and letter in "AIai" and _GOES_ON.match(text, end):
        return frozenset()
    if calls_wrong(text[end:]) or denies_in_script("", text[end:]) or _asked(text, end):
        return frozenset()
    found = {letter.upper()}
    while more := _JOINED.match(text, end):
        found.add(more.group(1).upper())
        end = more.end()
    return _inside(found, total)


def _asked(text: str, end: int) -> bool:
    """Whether the letter that a text opens with is only asked about; `B?` alone is a hesitant answer."""
    asked = _ASKED.match(text, end)
    return bool(asked and not _AFFIRMED.match(text, end) and text[asked.end() :].strip())


@lru_cache(maxsize=4096)
def _form(choice: str) -> str:
    """A text's words and signs, however it is set: `$\\sqrt{2}$` and `\\sqrt 2`, `5 cm` and `5cm`."""
    return "".join(signed(plain_markup(choice).strip(" .").replace("{", "").replace("}", "")))


def _opening(text: str, choices: tuple[str, ...]) -> Options:
    """The option whose text a completion opens with: `False. We can see ...`; the longest of several."""
    words = _ARTICLE.sub(" ", phrase(text[:200]))
    found = [
        i
        for i, c in enumerate(choices)
        if _words(c) and words.startswith(_ARTICLE.sub(" ", phrase(c))) and _stands(c, words, text)
    ]
    if not found:
        return frozenset()
    best = max(found, key=lambda i: len(phrase(choices[i])))
    rest = words.removeprefix(_ARTICLE.sub(" ", phrase(choices[best])))
    # `red or blue`, `red, blue`: an opening item of a list is left to the search for texts.
    others = any(_words(c) and phrase(c) in f" {rest}" for c in choices if _form(c) != _form(choices[best]))
    return frozenset() if others else frozenset([best])


def _inside(letters: set[str], total: int) -> Options:
    # Letters behind the last option are no choice: `(E)` of four options is most likely part of something else.
    return frozenset(ord(c) - 65 for c in letters if ord(c) - 65 < total)


def _mentioned(text: str, total: int, strict: bool) -> Options:
    """The letters named in a text and not denied, the most explicit sort first: `(B)`, `option B`, `B`."""
    for pattern in (_BRACKETED, _BEHIND_NAME, _ALONE):
        named: set[str] = set()
        best: set[str] = set()
        left: set[str] = set()
        denied: set[str] = set()
        for m in pattern.finditer(text):
            letter, before, after = m.group(1).upper(), text[: m.start()], text[m.end() :]
            affirmed = _AFFIRMED.match(after)
            if (_ASKED.match(after) and not affirmed) or (
                pattern is _ALONE and letter in "AI" and _GOES_ON.match(after)
            ):
                continue
            if _denied(before, after) or calls_wrong(after):
                denied.add(letter)
                continue
            if pattern is _ALONE:
                if strict and not _answers(before):
                    left.add(letter)
                    continue
                # `A and C`; of `the notes A in the horn and C in the violin` neither is an answer.
                if strict and _JOINT.search(before) and _GOES_ON.match(after):
                    continue
            named.add(letter)
            if affirmed or _RIGHT.match(after) or (_CONCLUDES.search(before) and not _JOINED.match(after)):
                best.add(letter)
        # `It can't be A, C or D, which leaves B`: all others are denied.
        if not named and len(left) == 1 and len(_inside(denied, total)) == total - 1:
            named = left
        if found := _inside(best if len(best) == 1 else named, total):
            return found
    return frozenset()


def _answers(before: str) -> bool:
    """Whether a bare letter stands where an answer stands: first, behind a mark, or behind a word such as `is`."""
    bare = before.rstrip(" *\"'")
    if not bare or not (bare[-1].isalnum()):
        return True
    word = bare.rpartition(" ")[2].rpartition("\n")[2].lower()
    return word in _ANSWERS or word in ADVERBS or not bare[-1].isascii()


def _denied(before: str, after: str = "") -> bool:
    clause = CLAUSE.split(_LISTED.sub("", before))[-1]
    words = clause.lower().split()
    return denies(words) or bool(EXCLUDES & {*words[-3:]}) or denies_in_script(clause[-6:], after)


def _denies(text: str) -> bool:
    return any(w in NEGATORS for w in text.lower().split()[:3]) or text.startswith(("不是", "非"))


def _by_text(text: str, choices: tuple[str, ...]) -> Options:
    """The options whose words stand in a text, but for those that are part of another one and those denied."""
    words = spaced(text)
    named = [i for i, c in enumerate(choices) if _stands(choices[i], words, text) and _words(c)]
    # An option that is part of another named one (`red` in `dark red`) is not named on its own.
    whole = [
        i
        for i in named
        if not any(
            i != j and phrase(choices[i]) != phrase(choices[j]) and phrase(choices[i]) in phrase(choices[j])
            for j in named
        )
    ]
    kept = [i for i in whole if not _text_denied(choices[i], words)]
    called = [i for i in kept if _RIGHT.match(words.partition(phrase(choices[i]))[2])]
    kept = called if len(called) == 1 else kept
    # Options of one text can't be told apart by it: the first stands for all.
    return frozenset(kept if len({signed(choices[i]) for i in kept}) > 1 else kept[:1])


@lru_cache(maxsize=4096)
def _words(choice: str) -> bool:
    # `phrase` puts a space on each side, so a length of 2 means that there are no words at all.
    return len(phrase(choice)) > 2


def _stands(choice: str, words: str, text: str) -> bool:
    # `Brunelleschi's style` names Brunelleschi.
    if phrase(choice) not in words and f"{phrase(choice)[:-1]}'s " not in words:
        return False
    signs = [t for t in signed(choice) if not t[0].isalnum() and t not in ".,;:!?\"'()"]
    # Of options with signs, `-5` and `x + 1`, the signs must be there too.
    return not signs or " ".join(signed(choice)) in " ".join(signed(text))


def _text_denied(choice: str, words: str) -> bool:
    at = words.find(phrase(choice))
    return (
        any(w in NEGATORS or w in NEGATED_FOLLOWS for w in _BUT.split(words[:at])[-1].split()[-6:])
        and words.count(phrase(choice)) == 1
    )


def _by_value(text: str, choices: tuple[str, ...]) -> Options:
    """The one option whose number a text settles on: `7` of `5 cm`, `7 cm`."""
    values = [final_value(Reading(c, c, "box", c)) for c in choices]
    if not any(values) or (found := as_value(text) or final_value(Reading(text, text, "box", text))) is None:
        return frozenset()
    same = [i for i, value in enumerate(values) if value is not None and equal(value, found)]
    return frozenset(same) if len({signed(choices[i]) for i in same}) > 1 else frozenset(same[:1])
