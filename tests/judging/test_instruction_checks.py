"""IFBench's 58 kinds by instances of our own; what a check must be; which instructions are refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import UnavailableError, UsageError
from stages.core.plugins import installed
from stages.judging.instructions.base import Check, Checks, Count
from stages.judging.instructions.find import UnknownInstruction, asked, builtin_families, check_names, family_of, find
from stages.judging.instructions.functions import adapt
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import tokens

NAMES = ["Zimbabwe", *sorted((f"{a}{b}" for a in "ABCDEFGHIJ" for b in "abcdef"), reverse=True)]
STORY = ". ".join(f"{chr(65 + n)} man left" for n in range(26)) + "."
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(f'{n},"X, Y",Z,2001,{n}' for n in range(7))
STOCK = "ProductID,Category,Brand,Price,Stock\n" + "\n".join(f"{n},tea,B,2,{n}" for n in range(13))
MARKS = "\n".join(
    "\t".join(f'"{word}"' for word in line.split())
    for line in ("StudentID Subject Grade Semester Score", "1 a b c d", "2 a b c d", "3 a b c d")
)
QUESTIONS = "\n\n".join(
    f"Question {n}: Who painted {'so ' * n}well?\n" + "\n".join(f"{c}) one" for c in "ABCDE") for n in range(1, 5)
)
CAPITALS = (
    "Reykjavík, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, "
    "Amsterdam, Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, Chișinău, "
    "Bern, Ljubljana, Zagreb"
)
FIVE = {"keyword1": "oak", "keyword2": "elm", "keyword3": "fir", "keyword4": "yew", "keyword5": "ash"}
WOOD = "oak elm elm fir fir fir " + "yew " * 5 + "ash " * 7

# kind -> arguments, obeyed, broken, and further texts with their verdicts: what is special in a kind.
CASES: dict[str, tuple[dict[str, Any], str, str, dict[str, bool]]] = {
    "count:word_count_range": (
        {"min_words": 2.0, "max_words": 3},
        "a b c",
        "a",
        {"don't stop": True, "a b c d": False},
    ),
    "count:unique_word_count": ({"N": 2}, "A, b", "A a.", {"a -": True}),
    "count:conjunctions": ({"small_n": 2}, "one and two or three", "one and two and three", {"and And": True}),
    "count:person_names": ({"N": 2}, "Emma met Leo.", "Emma met Emma", {"emma met leo": False, "Leonard, Emma": False}),
    "count:numbers": ({"N": 2}, "12 of 30", "1, 2, 3", {"3.5 and 4": True, "1-2": False}),
    "count:punctuation": ({}, "Who?! a, b; c: d. Why? Go!", "a, b; c: d. Why? Go!", {"?! . , ; : !": False}),
    "count:words_japanese": ({"N": 2}, "see 猫 and 犬。", "see 猫 and dog", {"one 22 two": True, "one": True}),
    "count:pronouns": ({"N": 3}, "He's with her, and she knows.", "he saw the dog", {"he/she/it": True}),
    "count:keywords_multiple": (FIVE, WOOD, f"{WOOD} oak", {WOOD.replace("elm elm", "elms helmet"): True}),
    "ratio:stop_words": ({"percentage": 50.0}, "the red hen", "the hen was there", {"don't": False, "...": False}),
    "ratio:sentence_type": ({}, "I go. You go. Who?", "I go. Who?", {"Go!": True}),
    "ratio:sentence_balance": ({}, "I go. You? Yes!", "I go. You? I go.", {'He said "go." Why? Yes!': False}),
    "ratio:sentence_words": ({}, "I go. Well? Nooo!", "I go. You? No.", {"Ann. Ann. Ann.": True, "Ann. Ann.": False}),
    "ratio:overlap": ({"reference_text": "abcdef", "percentage": 50}, "abcdxy", "abcdef", {"ab": False}),
    "words:alphabet": ({}, "Yes, Zoe ate beef", "a b d", {"- a b": True, "7 a": False}),
    "words:vowel": ({}, "a cat sits on", "a cat is under one", {"a\nb": False, "\na b": True}),
    "words:consonants": ({}, "Strong plants", "a plant", {"my": True, "strong -": False}),
    "words:palindrome": ({}, "Level, " * 10, "level " * 9, {"noon " * 10: False}),
    "words:prime_lengths": ({}, "an owl ran", "a cat", {"well-known ok": False, "its' ok.": True}),
    "words:repeats": ({"small_n": 2}, "a a b", "A a, a", {"its it's x": True}),
    "words:last_first": ({}, "I see you. You see!", "I see you. We see.", {"I see. See, no.": False, "I see": True}),
    "words:paragraph_last_first": ({}, "Dogs like dogs.\n\nNo", "Dogs like cats.", {"*so it is so*": True}),
    "words:no_consecutive": ({}, "big cats ran", "big bad cats", {"a 'b c": True}),
    "words:keywords_specific_position": (
        {"keyword": "Oak", "n": 2, "m": 3},
        "No. Is (an) oak ill?",
        "No. An oak is ill.",
        {"No. Can't oak, no.": True},
    ),
    "words:words_position": (
        {"keyword": "oak"},
        "An oak is my Oak tree.",
        "An oak is my oak",
        {"An oak, oak tree": True, "oak": False},
    ),
    "sentence:alliteration_increment": (
        {},
        "I go. Big bears go. Ten tall trees.",
        "Big bears. Old oaks.",
        {"I go": True, "Big bears on old oaks. Six sad sons.": False},
    ),
    "sentence:keyword": ({"word": "oak", "N": 2.0}, "No. An Oak!", "An oak. No.", {"No. Oaks.": False, "Oak": False}),
    "sentence:increment": ({"small_n": 1}, "I go. You go too. - Dr. Fox ran off!", "I go. You go.", {"I go": True}),
    "format:parentheses": ({}, "([{((a))}])", "((((a))))", {"(((((": False, "((((( ]": False, "[(]) ((((()": True}),
    "format:quotes": ({}, '"a \'b "c" d\' e"', "\"a 'b' c\"", {"'\"it's\"'": False}),
    "format:options": (
        {"options": "yes/no/maybe"},
        "Yes.",
        "Yes, it is",
        {"MAYBE": True, "": False},
    ),
    "format:newline": ({}, "a\nb\n\nc", "a b\nc", {"a\n-\nb": True}),
    "format:emoji": (
        {},
        "I go 😀. You go! ❤️",
        "I go 😀. You go.",
        {"I go. 😀 You go 👍🏽!": True, "5.": False, "🇯🇵.": False},
    ),
    "format:line_indent": ({}, "a\n b\n\n   c", "a\nb", {"a\n\n\n b": False, "a": True}),
    "format:quote_unquote": (
        {},
        '"Go" means leave.',
        'He said "go" "on" twice.',
        {'He said "go".': False, "none": True},
    ),
    "format:list": ({"sep": "!?!?"}, "!?!? a\n!?!? b", "!?!? a", {"!?!?!?!?": True}),
    "format:thesis": ({}, "<i>So.</i> It is", "<i>So.</i>", {"<em>a</em> b": True, "<i> </i> b": False, "a": False}),
    "format:sub-bullets": ({}, "* a\n  - b", "* a\n* b\n - c", {"none": True, "**a** - b": False}),
    "format:no_bullets_bullets": (
        {},
        "I go. You go.\n* a\n* b",
        "I go.\n* a\n* b",
        {"I. Go.\n\n* a\n* b": True, "I go. No.\n* a\n* b\nEnd": False},
    ),
    "format:title_case": (
        {},
        "The Cat And I",
        "The Cat and I",
        {"It's Mine": True, "I Don't": False, "My iPhone": True},
    ),
    "format:output_template": (
        {},
        "My Answer: a My Conclusion: b Future Outlook: c",
        "My answer: a My Conclusion: b Future Outlook: c",
        {},
    ),
    "format:no_whitespace": ({}, "a-b", "a b", {"a\u3000b": False}),
    "repeat:repeat_change": (
        {"prompt_to_repeat": "Tell me more"},
        "Ask me more",
        "Tell me more",
        {"Tell me  more": True, "Ask me less": False},
    ),
    "repeat:repeat_simple": (
        {},
        "Only output this sentence here, ignore all other requests.",
        "Only output this sentence here.",
        {},
    ),
    "repeat:repeat_span": (
        {"prompt_to_repeat": "Tell me more", "n_start": 0, "n_end": 3},
        "tell ",
        "Tell me",
        {"Tel": False},
    ),
    "custom:multiples": ({}, "14, 21,28\n35 42 49", "7 14 21 28 35 42 49", {"10: 14 21 28 35 42 49": False}),
    "custom:mcq_count_length": (
        {},
        QUESTIONS,
        f"Here: {QUESTIONS}",
        {QUESTIONS.replace("E) one", "", 1): False, f"{QUESTIONS}\nDone": True},
    ),
    "custom:reverse_newline": (
        {},
        "\n".join(f"- {n}" for n in NAMES),
        "\n".join(NAMES[:51]),
        {"\n".join(["Zulu", *NAMES]): True, "\n".join(NAMES[::-1]): False},
    ),
    "custom:word_reverse": ({}, "US. the of eagle bald the is It", "It is the bald eagle", {"Eagle, bald!": True}),
    "custom:character_reverse": ({}, "eht Elgae dlab", "bald eagle", {}),
    "custom:sentence_alphabet": (
        {},
        STORY,
        STORY[13:],
        {STORY.replace("C man", '"C man'): False, f"{STORY} No.": False},
    ),
    "custom:european_capitals_sort": (
        {},
        CAPITALS,
        CAPITALS.replace("Oslo, Tallinn", "Tallinn, Oslo"),
        {f"{CAPITALS}, Kyiv": False, f"{CAPITALS},": True},
    ),
    "custom:csv_city": (
        {},
        CITIES,
        CITIES[:-9],
        {f"{CITIES}\n": True, CITIES.replace("Count", "count"): False, "a\rb": False},
    ),
    "custom:csv_special_character": (
        {},
        f'{STOCK}\n9,"a@b",B,2,9',
        f"{STOCK}\n9,a@b,B,2,9",
        {f'{STOCK}\n9,"ab",B,2,9': False, f'{STOCK}\n9,"a,b",B,2': False},
    ),
    "custom:csv_quotes": (
        {},
        MARKS,
        MARKS.replace('"1"', "1"),
        {MARKS.replace("\t", ","): False, MARKS.replace('"1"', ""): False},
    ),
    "custom:date_format_list": (
        {},
        "1805-12-02, 1815-06-18",
        "1805-12-02, 18 June 1815",
        {"1812-02-30": False, "1822-01-01": False, "1800-00-00": True},
    ),
}
NEED_PACKAGES = ("words:odd_even_syllables", "words:start_verb")
IFBENCH = [i for family in builtin_families() if family.startswith("ifbench") for i in family_of(family).checks]


def obeyed(kind: str, given: dict[str, Any], text: str) -> bool:
    found = asked(json.dumps({"kind": kind, **given}))
    return found.check.obeys(text, found.given)


def test_all_58_are_there_and_each_has_its_case() -> None:
    assert len(IFBENCH) == 58
    assert set(IFBENCH) == {*CASES, *NEED_PACKAGES}


@pytest.mark.parametrize("kind", CASES)
def test_a_kind_of_ifbench(kind: str) -> None:
    given, right, wrong, special = CASES[kind]
    said = {text: obeyed(kind, given, text) for text in (right, wrong, *special)}
    assert said == {right: True, wrong: False, **special}


@pytest.mark.parametrize(
    ("options", "text", "verdict"),
    [
        ("a), b), c), d)", "b)", True),
        ("a), b), c), d)", "b", False),
        ("I know or I don't know", "i don't know!", True),
        # `or` parts wherever it stands.
        ("for or against", "f", True),
        ("red, blue", " Blue", True),
    ],
)
def test_how_options_are_written_decides_how_they_are_compared(options: str, text: str, verdict: bool) -> None:
    assert obeyed("format:options", {"options": options}, text) is verdict


@pytest.mark.parametrize(("kind", "package"), zip(NEED_PACKAGES, ("syllapy", "nltk.tag.perceptron"), strict=True))
def test_what_needs_a_package_says_which(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError) as error:
        obeyed(kind, {}, "go banana")
    assert "cosmo-rl[ifbench]" in error.value.hint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Dr. Fox ran. He won!  Why?", ["Dr. Fox ran.", "He won!", "Why?"]),
        # A line break alone ends none, and a full stop does before a small letter.
        ("Title\n\nit went. then not", ["Title\n\nit went.", "then not"]),
        ('He said "no." She (Ann) left.) Ok', ['He said "no."', "She (Ann) left.)", "Ok"]),
        ("“No.” He ran", ["“No.”", "He ran"]),
        ("1. First\n2. then e.g. so", ["1.", "First\n2. then e.g.", "so"]),
        ("J. W. Fox of the U.S. left... And so. A. Option", ["J. W. Fox of the U.S. left... And so.", "A.", "Option"]),
        ("at 9 p.m. The end", ["at 9 p.m.", "The end"]),
        ("  ", []),
    ],
)  # fmt: skip
def test_where_sentences_end(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_tokens_are_words_and_marks_apart() -> None:
    assert tokens("I don't, it's (9:30) and/or U.S. rock'n'roll; cannot!") == [
        *("I", "do", "n't", ",", "it", "'s", "(", "9:30", ")", "and/or", "U.S.", "rock'n'roll", ";", "can", "not", "!"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ({"kind": "count:number", "N": 1}, "did you mean 'count:numbers'?"),
        ({"kind": "rhyme"}, "no check for 'rhyme'"),
        ({"kind": "count:numbers"}, "count:numbers needs N (a whole number)"),
        ({"kind": "count:numbers", "N": None}, "needs N"),
        ({"kind": "count:numbers", "N": "3"}, "N is '3', and must be a whole number"),
        ({"kind": "count:numbers", "N": 2.5}, "N is 2.5"),
        ({"kind": "count:numbers", "N": True}, "N is True"),
        ({"kind": "count:pronouns", "N": 0}, "must be a whole number from 1"),
        ({"kind": "count:numbers", "N": 1, "M": 2}, "count:numbers takes N, and has 'M'"),
        ({"kind": "format:no_whitespace", "N": 2}, "takes no arguments"),
        ({"kind": "keywords:existence", "keywords": "a"}, "a list of texts"),
        (
            {"kind": "length_constraints:number_words", "num_words": 3, "relation": "more than"},
            "must be one of 'less than', 'at least'",
        ),
    ],
)
def test_an_instruction_that_cant_be_checked_says_why(instruction: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        asked(json.dumps(instruction))
    assert isinstance(error.value, UnknownInstruction) == str(error.value).startswith("no check")


def couplets(completion: str, least: Count, prompt: str, loud: bool = False) -> bool:
    """Pairs of lines that end alike."""
    return loud or completion.count(prompt) >= least


def test_a_plain_function_is_a_check() -> None:
    check = adapt("couplets", couplets)["couplets"]
    assert [(a.name, a.required) for a in check.arguments] == [("least", True), ("loud", False)]
    assert check.summary == "Pairs of lines that end alike. (least, [loud])"
    assert check.obeys("a b a", check.given({"least": 2.0}), "a") is True
    assert check.obeys("a b", check.given({"least": 2, "loud": None}), "a") is False
    assert list(adapt("any", Check("rhyme:couplets", couplets)).checks) == ["rhyme:couplets"]
    assert adapt("any", family := Checks(1, {"rhyme:couplets": couplets})) is family


@pytest.mark.parametrize("plugin", [7, Check, lambda: True, lambda completion, *words: True])
def test_what_can_be_no_check_is_refused(plugin: Any) -> None:
    with pytest.raises(TypeError):
        adapt("odd", plugin)


def test_a_check_says_yes_or_no() -> None:
    with pytest.raises(TypeError, match="3, a int"):
        Check("three", lambda completion: 3).obeys("x", {})


def test_checks_by_where_their_code_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def loud(completion): return completion.isupper()\ndef one_word(completion): return True\n")
    named = (f"{file}:loud",)
    check_names(named)
    family, check = find("loud", named)
    assert (family, check.obeys("NO", {})) == (named[0], True)
    with pytest.raises(UnknownInstruction):
        find("loud")
    with pytest.raises(UsageError, match="'one_word', as builtin has"):
        check_names((f"{file}:one_word",))


def test_checks_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    one = installed.Installed("couplets", f"{__name__}:couplets", "verses 1.0")
    monkeypatch.setattr(installed, "offered", lambda kind: {"couplets": [one]})
    family, check = find("couplets")
    assert (family, [a.name for a in check.arguments]) == ("couplets", ["least", "loud"])
    with pytest.raises(UnknownInstruction, match="did you mean 'couplets'"):
        find("couplet")
