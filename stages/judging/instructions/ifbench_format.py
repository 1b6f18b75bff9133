"""IFBench's formats: brackets, quotes, lists, emoji, case, templates (arXiv:2507.02833)."""

from __future__ import annotations

import re
import string
from itertools import pairwise

import regex

from stages.judging.instructions.base import Checks
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import BLANK_OR_MARK, bare, tokens

_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
_LISTED_LETTERS = re.compile(r"\W*[aA]\W*[bB]\W*[cC]\W*")
# Unicode's emoji, but for digits and letters of flags, which are ones only beside another character.
_EMOJI = regex.compile(r"[\p{Emoji}--[0-9#*]--\p{Regional_Indicator}]", regex.V1)


def parentheses(completion: str) -> bool:
    """Five levels of brackets in each other, of any kind, of which the innermost closes."""
    opened: list[str] = []
    deepest = 0
    for letter in completion:
        if letter in _CLOSED_BY:
            opened.append(letter)
            deepest = max(deepest, len(opened))
        elif letter in _CLOSED_BY.values():
            if not opened or _CLOSED_BY[opened.pop()] != letter:
                # What does not fit ends all levels, and counting begins anew.
                opened, deepest = [], 0
            elif deepest >= 5:
                return True
    return False


def quotes(completion: str) -> bool:
    """Three levels of quotes in each other, double and single in turn. Trap: an apostrophe opens or closes one."""
    opened: list[str] = []
    deepest = 0
    for letter in completion:
        if opened and letter == opened[-1]:
            opened.pop()
            if deepest - len(opened) >= 3:
                return True
        elif letter in "\"'":
            opened.append(letter)
            deepest = max(deepest, len(opened))
    return False


def options(completion: str, options: str) -> bool:
    """One of the options, and nothing else.

    Options are parted by `/`, else by `or`, else by commas. Trap: `or` parts wherever it stands, `for` too. Lettered
    options, `a), b), c)`, must be given to the letter; of others capitals and marks around them are free.
    """
    separator = next((s for s in ("/", "or") if s in options), ",")
    known = [option.strip() for option in options.split(separator)]
    if _LISTED_LETTERS.match(options):
        return completion in known
    said = completion.strip(BLANK_OR_MARK).lower()
    return said in [option.strip(BLANK_OR_MARK).lower() for option in known]


def newline(completion: str) -> bool:
    """Each word on a line of its own."""
    text = bare(completion).strip()
    return len([line for line in text.split("\n") if line]) == len(text.split())


def emoji(completion: str) -> bool:
    """An emoji at the end of every sentence, before its full stop or behind it."""
    found = [bare(sentence).strip() for sentence in sentences(completion)]
    for at, sentence in enumerate(found):
        if not sentence:
            return False
        # Two characters: an emoji may end in a sign that says how it is drawn.
        if not _EMOJI.search(sentence[-2:]):
            following = found[at + 1] if at + 1 < len(found) else ""
            if not following or not _EMOJI.match(following):
                return False
    return True


def line_indent(completion: str) -> bool:
    """Each line is indented further than the one before it.

    Trap: of blank lines that follow each other upstream leaves every second one in, which breaks the stairs.
    """
    lines = completion.split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            # As upstream: the first line that reads the same goes, and the next one is passed over.
            lines.remove(lines[at])
        at += 1
    return all(a < b for a, b in pairwise(len(line) - len(line.lstrip(" ")) for line in lines))


def quote_unquote(completion: str) -> bool:
    """No quoted phrase right behind another, and none at the end. Trap: curly quotes are none."""
    text = "".join(completion.replace("'\"'", "").split())
    if '""' in text:
        return False
    others = string.punctuation.replace('"', "") + string.digits
    return not text.strip(others).endswith('"')


def list_separator(completion: str, sep: str) -> bool:
    """The separator at least twice. Trap: anywhere, not only at the beginning of lines."""
    return completion.count(sep) >= 2


def thesis(completion: str) -> bool:
    """Text in HTML's italics, and more behind it. Trap: one such passage is enough, whatever the sections."""
    opening = next((at for tag in ("<i>", "<em>") if (at := completion.find(tag)) >= 0), -1)
    if opening < 0:
        return False
    rest = completion[opening:]
    closing = next((at for tag in ("</i>", "</em>") if (at := rest.find(tag)) >= 0), -1)
    # As upstream: the shorter tag's length for both, so that `<em></em>` is not empty.
    return closing >= 0 and bool(rest[3:closing].strip()) and bool(rest[closing + 4 :].strip())


def sub_bullets(completion: str) -> bool:
    """A `-` behind every `*`. Trap: a text without bullets obeys, and bold text is two bullets."""
    return all("-" in part for part in completion.split("*")[1:])


def no_bullets_bullets(completion: str) -> bool:
    """At least two sentences, then at least two lines that begin with `*`, and nothing else.

    Trap: a blank line ends the sentences, and breaks it anywhere else. That they end in a full stop is not checked.
    """
    said = bullets = 0
    telling = True
    for line in completion.split("\n"):
        if line.strip().startswith("*"):
            telling = False
            bullets += 1
            if said < 2:
                return False
        elif not telling:
            return False
        else:
            found = sentences(line.strip())
            telling = bool(found)
            said += len(found)
    return bullets >= 2


def title_case(completion: str) -> bool:
    """No word begins with a small letter. Trap: neither may `of` and `the`, nor the `n't` of `Don't`."""
    return all(_is_title(word) for word in tokens(completion))


def _is_title(word: str) -> bool:
    if not word[0].isalpha() or not word[0].islower():
        return True
    # A word like `iPhone` is let through.
    return len(word) > 1 and not word[1:].isupper() and not word[1:].islower()


def output_template(completion: str) -> bool:
    """The three headings of a template, in any order."""
    return all(heading in completion for heading in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(completion: str) -> bool:
    """No blank, tab or line break."""
    return not any(letter.isspace() for letter in completion)


PLUGIN = Checks(
    version=1,
    checks={
        "format:parentheses": parentheses,
        "format:quotes": quotes,
        "format:options": options,
        "format:newline": newline,
        "format:emoji": emoji,
        "format:line_indent": line_indent,
        "format:quote_unquote": quote_unquote,
        "format:list": list_separator,
        "format:thesis": thesis,
        "format:sub-bullets": sub_bullets,
        "format:no_bullets_bullets": no_bullets_bullets,
        "format:title_case": title_case,
        "format:output_template": output_template,
        "format:no_whitespace": no_whitespace,
    },
)
