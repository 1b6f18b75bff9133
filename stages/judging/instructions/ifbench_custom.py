"""IFBench's tasks of their own: lists, CSV, reversed sentences, questions (arXiv:2507.02833).

Each belongs to one prompt, which says what is to be written.
"""

from __future__ import annotations

import csv
import io
import re
import string
import unicodedata
from itertools import pairwise

from stages.judging.instructions.base import Checks
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import BLANK_OR_MARK, bare
from stages.judging.instructions.word_lists import listed

_CAPITALS = listed(
    """
    Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw
    London Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb
    """
)
"""Europe's capitals north of 45 degrees from north to south, as upstream has them: without Kyiv."""
_QUESTION = re.compile(r"\n*Question \d+[.|):;]?\s*")
_OPTION = re.compile(r"[A-Ea-e][.|)]\s*\w+")
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SPECIAL = re.compile(r'".*[^\d\w\s].*"')


def multiples(completion: str) -> bool:
    """The multiples of 7 from 14 to 49, in order, and no other number."""
    return re.findall(r"\d+", completion) == [str(n) for n in range(14, 50, 7)]


def mcq_count_length(completion: str) -> bool:
    """Four questions, each longer than the one before it, with five options each, and nothing before the first.

    Only lines like `A. text` or `a) text` are options; a line that is none, between or behind them, is let through.
    """
    if not completion.startswith("Question"):
        return False
    lengths = []
    for question in _QUESTION.split(completion):
        lines = [line.strip() for line in question.strip().split("\n")]
        if question.strip():
            marked = [bool(_OPTION.match(line)) for line in lines]
            if sum(marked) != 5:
                return False
            lengths.append(len(" ".join(lines[: marked.index(True)]).strip()))
    return len(lengths) == 4 and all(a < b for a, b in pairwise(lengths))


def reverse_newline(completion: str) -> bool:
    """At least 52 lines from the one with Zimbabwe on, in reverse alphabetical order. Trap: any lines will do."""
    lines = [kept for line in completion.split("\n") if (kept := line.strip(BLANK_OR_MARK))]
    start = next((at for at, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    names = [_ascii(line) for line in lines[start:]]
    return len(names) >= 52 and names == sorted(names, reverse=True)


def _ascii(text: str) -> str:
    """Letters without their accents; what has no such letter is dropped."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def word_reverse(completion: str) -> bool:
    """`eagle bald`: the words in reverse order name the bald eagle. Trap: the rest may be in any order."""
    return "bald eagle" in " ".join(reversed(bare(completion.lower()).split()))


def character_reverse(completion: str) -> bool:
    """`elgae dlab`: the letters in reverse order. Trap: these two words are enough."""
    return "elgae dlab" in completion.lower()


def sentence_alphabet(completion: str) -> bool:
    """26 sentences, the first begins with A, the last with Z. Trap: a quote before the letter breaks it."""
    initials = [sentence.strip()[0].lower() for sentence in sentences(completion)]
    return initials == list(string.ascii_lowercase)


def european_capitals_sort(completion: str) -> bool:
    """27 capitals from north to south, parted by commas. Trap: in upstream's order, each as upstream spells it."""
    return [name.strip() for name in _ascii(completion).split(",") if name.strip()] == list(_CAPITALS)


def csv_city(completion: str) -> bool:
    """A header of ID, Country, City, Year, Count and seven rows of five fields."""
    rows = _rows(completion, ",")
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and _are_wide(rows)


def csv_special_character(completion: str) -> bool:
    """A header of five columns and fourteen rows, one field of which is quoted and has a special character.

    Trap: rows behind that field may have any number of fields.
    """
    rows = _quoted_rows(completion, ",")
    if not _is_header(completion, r",[ \t]*", "ProductID Category Brand Price Stock") or len(rows) != 15:
        return False
    at = next((n for n, row in enumerate(rows) if n and any(_SPECIAL.match(field) for field in row)), None)
    return at is not None and _are_wide(rows[: at + 1])


def csv_quotes(completion: str) -> bool:
    """A header of five columns and three rows, parted by tabs, each field between double quotes."""
    rows = _quoted_rows(completion, "\t")
    fields = [field.strip() for row in rows for field in row]
    return (
        _is_header(completion, r"\t *", "StudentID Subject Grade Semester Score")
        and len(rows) == 4
        and all(len(row) == 5 for row in rows)
        and all(field[:1] == field[-1:] == '"' for field in fields)
    )


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The records of a CSV text; none where it is not one."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    # A carriage return in the middle of a line, a field of more than 128 KiB.
    except csv.Error:
        return []


def _quoted_rows(text: str, delimiter: str) -> list[list[str]]:
    """The records, fields with the quotes that they were written in: each one is escaped for the reader first."""
    return _rows(text.replace('"', '"""'), delimiter)


def _is_header(text: str, between: str, names: str) -> bool:
    """Whether the first line has these names, each between quotes or bare."""
    columns = [f'(?:{name}|"{name}")' for name in names.split()]
    return re.fullmatch(between.join(columns), text.partition("\n")[0].strip()) is not None


def _are_wide(rows: list[list[str]]) -> bool:
    """Whether all rows behind the header have five fields."""
    return all(len(row) == 5 for row in rows[1:])


def date_format_list(completion: str) -> bool:
    """Dates of 1769 to 1821 as YYYY-MM-DD, parted by commas. Trap: of what is not checked, nor month or day 00."""
    return all(_is_date(part.strip()) for part in completion.split(","))


def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if not found:
        return False
    year, month, day = map(int, found.groups())
    return 1769 <= year <= 1821 and month <= 12 and day <= (_DAYS[month - 1] if month else 99)


PLUGIN = Checks(
    version=1,
    checks={
        "custom:multiples": multiples,
        "custom:mcq_count_length": mcq_count_length,
        "custom:reverse_newline": reverse_newline,
        "custom:word_reverse": word_reverse,
        "custom:character_reverse": character_reverse,
        "custom:sentence_alphabet": sentence_alphabet,
        "custom:european_capitals_sort": european_capitals_sort,
        "custom:csv_city": csv_city,
        "custom:csv_special_character": csv_special_character,
        "custom:csv_quotes": csv_quotes,
        "custom:date_format_list": date_format_list,
    },
)
