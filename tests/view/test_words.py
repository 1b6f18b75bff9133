"""What people say of completions: from the page to a file, from the file to grades, rewards and a verifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from schemas.scored import NOT_APPLICABLE, OK, UNDECIDED
from schemas.tables import SCORED, STEPS
from stages.core.runs.folder import RunFolder
from stages.judging.words import BAD, GOOD, TAKEN_BACK, WORTH, Word, completion_key, last_words, parse_words
from tests.eval.made import completion, group, scored_run
from tests.support.cli import complaint, cosmo, ok
from tests.view.made import TOKEN, client, varied
from tests.view.test_pages import seen

HOME = "http://127.0.0.1:8421"
GROUPS = [group(f"question {n}", [completion(index=i, text=f"answer {n} {i}") for i in range(2)]) for n in range(3)]


def say(reader: TestClient, run: RunFolder, row: int, index: int, verdict: str, why: str = "") -> list[list[str]]:
    body = {"row": row, "index": index, "verdict": verdict, "why": why}
    answer = reader.post(f"/{TOKEN}/run/{run.path.name}/word", json=body, headers={"origin": HOME})
    assert answer.status_code == 200, answer.text
    said: list[list[str]] = answer.json()["said"]
    return said


def test_a_word_is_a_line_that_everybody_sees(tmp_path: Path) -> None:
    run = scored_run(tmp_path, GROUPS)
    ana, ben = client(tmp_path, who="ana"), client(tmp_path, who="ben")
    assert say(ana, run, 1, 0, GOOD, "  clear  ") == [["ana", "good", "clear"]]
    assert say(ben, run, 1, 0, BAD) == [["ana", "good", "clear"], ["ben", "bad", ""]]
    # A later word takes the place of an earlier one, and an empty one takes it back.
    assert say(ana, run, 1, 0, BAD) == [["ana", "bad", ""], ["ben", "bad", ""]]
    assert say(ana, run, 1, 0, TAKEN_BACK) == [["ben", "bad", ""]]
    words = parse_words((tmp_path / "words.jsonl").read_text().splitlines())
    assert [(w.who, w.verdict) for w in words] == [("ana", "good"), ("ben", "bad"), ("ana", "bad"), ("ana", "")]
    assert {(w.id, w.completion, w.run, w.index) for w in words} == {
        (GROUPS[1].id, completion_key("answer 1 0"), run.path.name, 0)
    }
    text = seen(ana.get(f"/{TOKEN}/run/{run.path.name}/").text).words
    assert text.count("ben: bad") == 1


@pytest.mark.parametrize(
    ("body", "origin", "status"),
    [
        ({"row": 0, "index": 0, "verdict": "good", "why": ""}, "http://evil.example", 403),
        ({"row": 0, "index": 0, "verdict": "good", "why": ""}, "null", 403),
        ({"row": 0, "index": 0, "verdict": "excellent", "why": ""}, HOME, 422),
        ({"row": 0, "index": 0, "verdict": "good", "why": "x" * 2001}, HOME, 422),
        ({"row": 0, "index": 0, "verdict": "good", "why": "x" * 20_000}, HOME, 413),
        ({"row": 99, "index": 0, "verdict": "good", "why": ""}, HOME, 404),
        ({"row": 0, "index": 7, "verdict": "good", "why": ""}, HOME, 404),
        ({"row": "0", "index": 0, "verdict": "good", "why": ""}, HOME, 400),
        ({"row": 0, "index": 0, "verdict": "good"}, HOME, 400),
        ([], HOME, 400),
    ],
)
def test_what_is_no_word_of_a_reader_is_not_kept(body: object, origin: str, status: int, tmp_path: Path) -> None:
    run = scored_run(tmp_path, GROUPS)
    where = f"/{TOKEN}/run/{run.path.name}/word"
    assert client(tmp_path).post(where, json=body, headers={"origin": origin}).status_code == status
    assert not (tmp_path / "words.jsonl").exists()


def word(n: int, index: int, verdict: str, who: str, why: str = "") -> Word:
    key = completion_key(GROUPS[n].completions[index].text)
    return Word(id=GROUPS[n].id, completion=key, verdict=verdict, who=who, when="2026-01-01T00:00:00+00:00", why=why)


def test_grades_are_what_people_agree_on(tmp_path: Path) -> None:
    """Agreed, disputed, and what nobody spoke of; and another file is another run."""
    run = scored_run(tmp_path / "runs", GROUPS)
    words = [
        word(0, 0, GOOD, "ana"),
        word(0, 0, GOOD, "ben"),
        word(0, 1, BAD, "ana", "wrong town"),
        word(1, 0, GOOD, "ana"),
        word(1, 0, BAD, "ben"),
    ]
    file = tmp_path / "words.jsonl"
    file.write_text("".join(w.as_line() for w in words))
    formula = 'rewards.general={terms={person=1.0},combine="replace"}'
    asked = ["score", run.path, "--set", f"person.words={file}", "--set", formula]
    scored = ok(*asked, cwd=tmp_path)
    rows = list(RunFolder.open(scored).rows(SCORED))
    grades = [[next(g for g in c.grades if g.name == "person") for c in row.completions] for row in rows]
    assert [[g.status for g in own] for own in grades] == [[OK, OK], [UNDECIDED, NOT_APPLICABLE], [NOT_APPLICABLE] * 2]
    assert [(g.value, g.verdict, g.reason) for g in grades[0]] == [
        (1.0, "good", "ana: good; ben: good"),
        (0.0, "bad", "ana: bad (wrong town)"),
    ]
    assert grades[1][0].reason == "people disagree: ana: good; ben: bad"
    assert [[c.reward for c in row.completions] for row in rows] == [[1.0, 0.0], [None, None], [None, None]]
    assert ok(*asked, cwd=tmp_path) == scored
    file.write_text(file.read_text() + word(2, 0, GOOD, "ana").as_line())
    assert ok(*asked, cwd=tmp_path) != scored


def test_a_verifier_learns_what_people_said(tmp_path: Path) -> None:
    """From words in the page to a trained verifier, whose verdict is read."""
    run = scored_run(tmp_path / "runs", varied(12))
    reader = client(tmp_path / "runs")
    for row in range(12):
        if row % 11 != 5:  # an error, of which nobody can say anything
            say(reader, run, row, 0, (GOOD, BAD)[row % 2])
    file = tmp_path / "runs" / "words.jsonl"
    scored = ok("score", run.path, "--set", f"person.words={file}", "--set", 'also=["person"]', cwd=tmp_path)
    settings = ["--set", "objectives.verifier.name=person", "--set", "steps=2", "--set", "batch_size=4"]
    trained = ok("train", scored, "--objective", "verifier", "--policy", "tiny:llama", *settings, cwd=tmp_path)
    labels = {s.label for row in RunFolder.open(trained).rows(STEPS) for s in row.labels}
    assert labels == {GOOD, BAD}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "line 1"),
        ('\n{"id": 3}\n', "line 2"),
        (word(0, 0, "excellent", "ana").as_line(), "'excellent'"),
        (json.dumps({**json.loads(word(0, 0, GOOD, "ana").as_line()), "index": "x"}), "line 1"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(content: str, told: str, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "runs", GROUPS)
    (tmp_path / "words.jsonl").write_text(content)
    done = cosmo("score", run.path, "--set", "person.words=words.jsonl", "--set", 'also=["person"]', cwd=tmp_path)
    assert done.returncode == 3
    message, _ = complaint(done)
    assert "words.jsonl" in message
    assert told in message
    missing = cosmo("score", run.path, "--set", 'also=["person"]', cwd=tmp_path)
    assert (missing.returncode, "person.words" in complaint(missing)[1]) == (2, True)


verdicts = st.sampled_from([*WORTH, TAKEN_BACK])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
many = st.lists(
    st.builds(
        Word,
        id=st.sampled_from("ab"),
        completion=st.sampled_from("xy"),
        verdict=verdicts,
        who=st.sampled_from(["ana", "ben"]),
        when=texts,
        why=texts,
    )
)


@given(many)
def test_lines_come_back_as_they_went_and_the_last_word_counts(words: list[Word]) -> None:
    back = parse_words("".join(w.as_line() for w in words).split("\n"))
    assert back == words
    for (ident, key), said in last_words(back).items():
        for one in said:
            own = [w for w in words if (w.id, w.completion, w.who) == (ident, key, one.who)]
            assert own[-1] == one
            assert one.verdict != TAKEN_BACK
    spoken = {(w.id, w.completion, w.who) for w in words}
    last = {k: [w for w in words if (w.id, w.completion, w.who) == k][-1] for k in spoken}
    assert sum(map(len, last_words(back).values())) == sum(w.verdict != TAKEN_BACK for w in last.values())


def test_a_word_is_of_the_text_and_not_of_the_place() -> None:
    moved = replace(GROUPS[0].completions[0], index=5, policy_id="another")
    assert completion_key(moved.text) == completion_key(GROUPS[0].completions[0].text)
