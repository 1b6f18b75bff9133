"""IFEval's 25 kinds by their own ids (arXiv:2311.07911).

Two differ from upstream. Where no language can be told (`123`) upstream calls the instruction obeyed, and a reward for
it could be hacked. A `letter` that is none, `!` for one, is counted here as the prompt asks; upstream draws another.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from stages.judging.instructions.base import Checks, Count
from stages.judging.instructions.language import language_of
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import tokens

Words = list[str]
Relation = Literal["less than", "at least"]


def _holds(count: int, relation: Relation, limit: int) -> bool:
    return count < limit if relation == "less than" else count >= limit


def _existence(answer: str, keywords: Words) -> bool:
    """Every keyword is there, in words too."""
    # As upstream: any occurrence counts here, `cat` in `concatenate` too, while forbidden words are whole words.
    return all(re.search(re.escape(k), answer, re.IGNORECASE) for k in keywords)


def _frequency(answer: str, keyword: str, frequency: Count, relation: Relation) -> bool:
    """A keyword so often."""
    found = re.findall(re.escape(keyword.strip()), answer, re.IGNORECASE)
    return _holds(len(found), relation, frequency)


def _forbidden_words(answer: str, forbidden_words: Words) -> bool:
    """None of these words."""
    return not any(re.search(rf"\b{re.escape(w)}\b", answer, re.IGNORECASE) for w in forbidden_words)


def _letter_frequency(answer: str, letter: str, let_frequency: Count, let_relation: Relation) -> bool:
    """A letter so often."""
    return _holds(answer.lower().count(letter.lower()), let_relation, let_frequency)


def _number_sentences(answer: str, num_sentences: Count, relation: Relation) -> bool:
    """So many sentences, or fewer."""
    return _holds(len(sentences(answer)), relation, num_sentences)


def _number_words(answer: str, num_words: Count, relation: Relation) -> bool:
    """So many words, or fewer."""
    return _holds(len(re.findall(r"\w+", answer)), relation, num_words)


def _number_paragraphs(answer: str, num_paragraphs: Count) -> bool:
    """So many paragraphs, parted by three stars."""
    # Upstream's separator, which its prompts ask for by name: three stars.
    parts = re.split(r"\s?\*\*\*\s?", answer)
    inner_empty = any(not p.strip() for p in parts[1:-1])
    return not inner_empty and sum(bool(p.strip()) for p in parts) == num_paragraphs


def _nth_paragraph(answer: str, num_paragraphs: Count, nth_paragraph: Count, first_word: str) -> bool:
    """The nth of so many paragraphs begins with a word."""
    # Here the prompt asks for blank lines instead.
    parts = answer.split("\n\n")
    count = sum(bool(p.strip()) for p in parts)
    if count != num_paragraphs or nth_paragraph > count or not (nth := parts[nth_paragraph - 1].split()):
        return False
    word = re.match(r"[^.,?!'\"]*", nth[0].lstrip("'\""))
    return word is not None and word.group().lower() == first_word.lower()


def _placeholders(answer: str, num_placeholders: Count) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def _postscript(answer: str, postscript_marker: str) -> bool:
    """A postscript with its marker."""
    marker = postscript_marker.strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, answer.lower()) is not None


def _bullets(answer: str, num_bullets: Count) -> bool:
    """Exactly so many items of a list."""
    # `[^*]` keeps `**bold**` at the start of a line from counting as an item.
    stars = re.findall(r"^\s*\*[^*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _constrained(answer: str) -> bool:
    """One of three answers: My answer is yes, no or maybe."""
    return any(f"My answer is {x}." in answer for x in ("yes", "no", "maybe"))


def _highlights(answer: str, num_highlights: Count) -> bool:
    """At least so many highlighted parts between asterisks."""
    single = re.findall(r"\*[^\n*]*\*", answer)
    double = re.findall(r"\*\*[^\n*]*\*\*", answer)
    filled = [h for h in single + double if h.strip("*").strip()]
    return len(filled) >= num_highlights


def _sections(answer: str, section_spliter: str, num_sections: Count) -> bool:
    """At least so many numbered sections."""
    marks = re.findall(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", answer)
    return len(marks) >= num_sections


def _json_format(answer: str) -> bool:
    """The whole is JSON, in a fence or without."""
    # A fence around the document is taken off, as upstream does: models put one there unasked.
    text = re.sub(r"^```(?:json)?|```$", "", answer.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _title(answer: str) -> bool:
    """A title between double angle brackets."""
    return any(t.lstrip("<").rstrip(">").strip() for t in re.findall(r"<<[^\n]+>>", answer))


def _two_responses(answer: str) -> bool:
    """Two different responses, parted by six stars."""
    parts = answer.split("******")
    whole = [p.strip() for p in parts if p.strip()]
    inner_empty = any(not p.strip() for p in parts[1:-1])
    return not inner_empty and len(whole) == 2 and whole[0] != whole[1]


def _repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The request comes first, word for word."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(answer: str, end_phrase: str) -> bool:
    """Ends with a phrase."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quotation(answer: str) -> bool:
    """The whole is between double quotation marks."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(answer: str, capital_frequency: Count, capital_relation: Relation) -> bool:
    """So many words in capitals."""
    words = [w for w in tokens(answer) if w.isupper()]
    return _holds(len(words), capital_relation, capital_frequency)


def _english_capital(answer: str) -> bool:
    """English, all in capitals."""
    return answer.isupper() and language_of(answer) == "en"


def _english_lowercase(answer: str) -> bool:
    """English, all in small letters."""
    return answer.islower() and language_of(answer) == "en"


def _response_language(answer: str, language: str) -> bool:
    """The whole is in a language."""
    return language_of(answer) == language


def _no_comma(answer: str) -> bool:
    """No comma in all of it."""
    return "," not in answer


PLUGIN = Checks(
    version=2,
    checks={
        "language:response_language": _response_language,
        "keywords:existence": _existence,
        "keywords:frequency": _frequency,
        "keywords:forbidden_words": _forbidden_words,
        "keywords:letter_frequency": _letter_frequency,
        "length_constraints:number_sentences": _number_sentences,
        "length_constraints:number_words": _number_words,
        "length_constraints:number_paragraphs": _number_paragraphs,
        "length_constraints:nth_paragraph_first_word": _nth_paragraph,
        "detectable_content:number_placeholders": _placeholders,
        "detectable_content:postscript": _postscript,
        "detectable_format:number_bullet_lists": _bullets,
        "detectable_format:constrained_response": _constrained,
        "detectable_format:number_highlighted_sections": _highlights,
        "detectable_format:multiple_sections": _sections,
        "detectable_format:json_format": _json_format,
        "detectable_format:title": _title,
        "combination:two_responses": _two_responses,
        "combination:repeat_prompt": _repeat_prompt,
        "startend:end_checker": _ends_with,
        "startend:quotation": _quotation,
        "change_case:capital_word_frequency": _capital_words,
        "change_case:english_capital": _english_capital,
        "change_case:english_lowercase": _english_lowercase,
        "punctuation:no_comma": _no_comma,
    },
)
