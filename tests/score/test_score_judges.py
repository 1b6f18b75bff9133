"""Generative judges: what a server or a model does never stops or corrupts a run, and nothing is asked twice."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.rollouts import RolloutGroup
from schemas.scored import Grade, ScoredGroup, grade_of
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.engines.transformers.batch_sampler import BatchSampler
from stages.score.config import ScoreConfig
from stages.score.stage import STAGE
from tests.score.made import completion as sampled
from tests.score.made import group, on_disk, scored, thought
from tests.support.cli import COSMO, PATIENCE, environment
from tests.support.preloaded import cosmo, ok
from tests.support.server import Body, Server, choice, completion, serving, words_of

GOOD, BAD = completion(choice("Kind enough .\nVerdict: good")), completion(choice("Verdict: bad"))

# What the server does to the question that names it -> (status, what the reason says).
MISBEHAVIOURS: dict[str, tuple[str, str]] = {
    "stall": ("timeout", "timed out after 1 s"),
    "drip": ("timeout", "timed out after 1 s"),
    "rubbish": ("error", "not JSON"),
    "half": ("error", "not JSON"),
    "cut": ("error", "no connection"),
    "drop": ("error", "no connection"),
    "broken": ("error", "HTTP 500: out of luck"),
    "refuses": ("error", "HTTP 400: the prompt is too long"),
    "two": ("error", "2 choices where 1 was asked for"),
    "none": ("error", "0 choices"),
    "chatty": ("error", "unparsable: 'i would rather not say "),
    "undecided": ("error", "unparsable"),
    "invents": ("error", "unparsable"),
    "silent": ("error", "unparsable: ''"),
}
TIMED_OUT = [how for how, (status, _) in MISBEHAVIOURS.items() if status == "timeout"]
CHATTER = "i would rather not say " * 40


def judged_by_words(body: Body) -> Body:
    """The judge's opinion: good where the completion says so."""
    return GOOD if "nice" in words_of(body).split("<reply>")[-1] else BAD


def misbehaves(body: Body, nth: int) -> Body | str:
    found = re.search(r"about (\w+) \?", words_of(body))
    how = found[1] if found else ""
    answers: dict[str, Body] = {
        "two": completion(choice("Verdict: good"), choice("Verdict: bad")),
        "none": completion(),
        "chatty": completion(choice(CHATTER)),
        "undecided": completion(choice("Verdict: good\nVerdict: bad")),
        "invents": completion(choice("Verdict: splendid")),
        "silent": completion({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}),
    }
    if how in ("busy", "shaky"):
        return ("busy" if how == "busy" else "drop") if nth == 0 else judged_by_words(body)
    if how in MISBEHAVIOURS:
        return answers.get(how, how)
    return judged_by_words(body)


def flags(server: Server, name: str = "value", **more: Any) -> list[str]:
    values = {"engine": "openai", "url": server.url, "model": "made", "retries": 1, "timeout_s": PATIENCE, **more}
    return [x for key, value in values.items() for x in ("--set", f"judges.{name}.{key}={value}")]


def judge(server: Server, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", "url": server.url, "model": "made", "retries": 0, "timeout_s": PATIENCE, **more}


def asked_about(what: str, *texts: str) -> RolloutGroup:
    return group(*[thought(t) for t in texts or ("nice", "rude", "nice")], label="value", question=f"about {what} ?")


def score(runs: Path, upstream: Path, judges: dict[str, dict[str, Any]], **config: Any) -> RunFolder:
    values = build(ScoreConfig, {"judges": judges, **config}, "score")
    return RunFolder.open(run_stage(STAGE, values, [upstream], options=Options(runs=runs, accept_failure=True)).path)


def grades(rows: list[ScoredGroup], name: str) -> list[Grade]:
    found = [grade_of(c, name) for row in rows for c in row.completions]
    return [g for g in found if g is not None]


# -- a server that misbehaves --------------------------------------------------------------------------------


class Ran(NamedTuple):
    rows: dict[str, ScoredGroup]
    again: dict[str, ScoredGroup]
    asked_again: set[str]
    stderr: str


def by_question(folder: Path) -> dict[str, ScoredGroup]:
    rows = scored(RunFolder.open(folder))
    return {(row.messages[0].content[0].text or "").split()[1]: row for row in rows}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One real `cosmo score` over a server that does all of it, and a second one over its output, all well.

    What never answers is asked by a command of its own: its limit is short, and nothing else may come near it.
    """
    place = tmp_path_factory.mktemp("judged")
    rows = [asked_about(how) for how in [*MISBEHAVIOURS, "busy", "shaky", "fine"] if how not in TIMED_OUT]
    upstream = on_disk(place / "runs", rows, per_shard=7)
    never = on_disk(place / "runs", [asked_about(how) for how in TIMED_OUT])
    with serving(misbehaves) as server:
        more = flags(server, give_up_after=0, concurrency=40)
        done = cosmo("score", upstream, *more, cwd=place)
        assert done.returncode == 0, done.stderr
        first = place / done.stdout.strip()
        late = cosmo("score", never, *more, "--set", "judges.value.timeout_s=1", cwd=place)
        assert late.returncode == 3, late.stderr  # graded by nobody: the folder is whole, and worth nothing
        made = re.search(r"(?:\S*/)?runs/score-[0-9a-f]{8}", late.stderr)
        assert made is not None, late.stderr
        server.calls.clear()
        server.answer = lambda body, nth: judged_by_words(body)
        second = ok("score", first, place / made.group(), *flags(server), cwd=place)
        asked = {str(re.search(r"about (\w+) \?", words_of(c))[1]) for c in server.calls}  # type: ignore[index]
    return Ran(by_question(first) | by_question(place / made.group()), by_question(second), asked, done.stderr)


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_a_misbehaving_judge_costs_its_grades_and_nothing_else(ran: Ran, how: str) -> None:
    status, reason = MISBEHAVIOURS[how]
    row = ran.rows[how]
    assert [c.text for c in row.completions] == [thought(t) for t in ("nice", "rude", "nice")]
    for done in row.completions:
        assert [g.name for g in done.grades] == ["format", "value", "refusal"]
        formal, value, refusal = done.grades
        assert (formal.value, formal.status, refusal.status) == (1.0, "ok", "ok")
        assert (value.value, value.verdict, value.status) == (None, None, status)
        assert reason in (value.reason or "")
        assert done.reward is None
        assert [t.value for t in done.terms] == [1.0, None]


@pytest.mark.parametrize("how", ["busy", "shaky", "fine"])
def test_a_judge_that_is_only_busy_or_shaky_is_asked_again_at_once(ran: Ran, how: str) -> None:
    assert [g.value for g in grades([ran.rows[how]], "value")] == [1.0, 0.0, 1.0]
    assert [g.verdict for g in grades([ran.rows[how]], "value")] == ["good", "bad", "good"]
    assert [c.reward for c in ran.rows[how].completions] == [2.0, 1.0, 2.0]


def test_a_second_run_asks_for_what_failed_and_for_nothing_else(ran: Ran) -> None:
    assert ran.asked_again == set(MISBEHAVIOURS)
    for how, row in ran.again.items():
        assert [c.reward for c in row.completions] == [2.0, 1.0, 2.0], how
        if how not in MISBEHAVIOURS:
            assert row.completions == ran.rows[how].completions


def test_the_person_hears_of_it_and_a_reason_is_short(ran: Ran) -> None:
    assert "grades of value: error; cosmo score SCORED_FOLDER asks again" in ran.stderr
    assert "Traceback" not in ran.stderr
    reason = grades([ran.rows["chatty"]], "value")[0].reason or ""
    assert len(reason) <= len("unparsable: ''") + 80


def test_no_server_at_all_is_given_up_on(tmp_path: Path) -> None:
    with serving(lambda body, nth: GOOD) as gone:
        pass
    rows = [asked_about(f"n{n}", "nice", "rude") for n in range(6)]
    upstream = on_disk(tmp_path, rows)
    found = scored(score(tmp_path, upstream, {"value": judge(gone, give_up_after=3, concurrency=1)}))
    reasons = [g.reason or "" for g in grades(found, "value")]
    assert len(reasons) == 12
    assert all("no connection" in r for r in reasons[:3])
    assert all("gave up" in r for r in reasons[4:])
    assert all(c.reward is None for row in found for c in row.completions)


# -- what is asked, and how often ----------------------------------------------------------------------------


def test_the_same_question_is_asked_once_and_kept(tmp_path: Path) -> None:
    rows = [asked_about("one", "nice", "nice", "rude", "nice"), asked_about("two", "nice")]
    upstream = on_disk(tmp_path, rows, per_shard=1)
    with serving(lambda body, nth: judged_by_words(body)) as server:
        first = score(tmp_path, upstream, {"value": judge(server)})
        assert len(server.calls) == 3
        content = [p.read_bytes() for p in first.shard_paths()]
        shutil.rmtree(first.path)
        # Another place to reach the same judge, other limits: the same run.
        again = score(tmp_path, upstream, {"value": judge(server, concurrency=1, timeout_s=9.0, retries=3)}, window=1)
        assert len(server.calls) == 3
        assert again.path == first.path
        assert [p.read_bytes() for p in again.shard_paths()] == content
        # Another prompt is another judge.
        other = score(tmp_path, upstream, {"value": judge(server, prompt="helpful")})
        assert len(server.calls) == 6
        assert other.fingerprint != first.fingerprint
    with sqlite3.connect(tmp_path / ".judge-cache" / "answers.sqlite") as db:
        assert db.execute("SELECT count(*) FROM answers").fetchone() == (3,)  # "good" is no verdict of `helpful`


def test_a_broken_cache_file_costs_asking_again(tmp_path: Path) -> None:
    (tmp_path / ".judge-cache").mkdir()
    (tmp_path / ".judge-cache" / "answers.sqlite").write_bytes(b"this is no database, it only looks like a file" * 99)
    with serving(lambda body, nth: judged_by_words(body)) as server:
        found = scored(score(tmp_path, on_disk(tmp_path, [asked_about("one")]), {"value": judge(server)}))
    assert [g.value for g in grades(found, "value")] == [1.0, 0.0, 1.0]


def test_a_killed_run_asks_nothing_twice(tmp_path: Path) -> None:
    number, held, dead = itertools.count(), threading.Semaphore(0), threading.Event()

    def holds_two(body: Body, nth: int) -> Body:
        if next(number) in (20, 21):
            held.release()
            dead.wait(PATIENCE)
        return judged_by_words(body)

    upstream = on_disk(tmp_path / "runs", [asked_about(f"n{n}", "nice", "rude") for n in range(40)], per_shard=40)
    with serving(holds_two) as server:
        arguments = ["score", str(upstream), *flags(server, concurrency=2)]
        process = subprocess.Popen([*COSMO, *arguments], cwd=tmp_path, env=environment(), start_new_session=True)
        assert all(held.acquire(timeout=PATIENCE) for _ in range(2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        dead.set()
        folder = ok(*arguments, cwd=tmp_path)
        # Again, only the two that were under way when it died.
        assert len(server.calls) == 80 + 2
    assert all(g.status == "ok" for g in grades(scored(RunFolder.open(folder)), "value"))


def test_budget(tmp_path: Path) -> None:
    rows = [asked_about(f"n{n}", "nice", "rude") for n in range(4)]
    upstream = on_disk(tmp_path, rows)
    with serving(lambda body, nth: judged_by_words(body)) as server:
        first = score(tmp_path, upstream, {"value": judge(server, budget=5)})
        assert len(server.calls) == 5
        spent = grades(scored(first), "value")
        assert [g.status for g in spent] == ["ok"] * 5 + ["error"] * 3
        assert all((g.reason or "").startswith("budget") for g in spent[5:])
        # What is kept already costs nothing.
        second = score(tmp_path, first.path, {"value": judge(server, budget=5)})
        assert len(server.calls) == 8
    assert [g.value for g in grades(scored(second), "value")] == [1.0, 0.0] * 4


def test_what_a_judge_is_shown(tmp_path: Path) -> None:
    rows = [
        group("<think> a secret plan </think> nice", label="value", question="about what ?"),
        group(thought(""), "", label="value", question="about nothing ?"),
    ]
    rows[1].completions[1] = sampled("", 1, finish_reason="error", error="lost", token_ids=[], logprobs=[])
    with serving(lambda body, nth: judged_by_words(body)) as server:
        found = scored(score(tmp_path, on_disk(tmp_path, rows), {"value": judge(server, temperature=0.5)}))
        (call,) = server.calls
    text = words_of(call)
    assert "about what ?" in text
    assert "secret" not in text
    assert call["model"] == "made"
    assert (call["temperature"], call["max_tokens"], call["n"]) == (0.5, 512, 1)
    assert "logprobs" not in call
    assert "extra_body" not in call
    assert [m["role"] for m in call["messages"]] == ["system", "user"]
    empty, lost = grades(found[1:], "value")
    assert (empty.value, empty.verdict, empty.status) == (0.0, "unparsable", "ok")
    assert (lost.status, lost.reason) == ("error", "no completion: lost")


# -- judges, rules and formulas -------------------------------------------------------------------------------


def test_a_judge_stands_in_for_the_rule_of_its_name(tmp_path: Path) -> None:
    row = group(thought("step one : mix it"), label="safety", harmful=True, unsafe_markers=["step one"])
    upstream = on_disk(tmp_path, [row])
    with serving(lambda body, nth: completion(choice("verdict: Safe_With_Warning."))) as server:
        found = scored(score(tmp_path, upstream, {"safety": judge(server)}))
    (grade,) = grades(found, "safety")
    assert (grade.value, grade.verdict, grade.status) == (1.0, "safe_with_warning", "ok")
    assert found[0].completions[0].reward == 2.0
    (rule,) = grades(scored(score(tmp_path, upstream, {})), "safety")
    assert (rule.value, rule.verdict) == (0.0, "unsafe")
    assert grade.version != rule.version


def test_a_judge_of_a_new_name_is_a_term_or_runs_beside(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path, [asked_about("x", "nice", "rude")])
    with serving(lambda body, nth: judged_by_words(body)) as server:
        judges = {"kindness": judge(server, prompt="value")}
        formulas = {"value": {"terms": {"kindness": 3.0}, "combine": "replace"}}
        (row,) = scored(score(tmp_path, upstream, judges, rewards=formulas, also=[]))
        assert [c.reward for c in row.completions] == [3.0, 0.0]
        (row,) = scored(score(tmp_path, upstream, judges, also=["kindness"]))
        assert [g.name for g in row.completions[0].grades] == ["format", "value", "kindness"]
        with pytest.raises(UsageError, match="kindnes") as caught:
            score(tmp_path, upstream, judges, rewards={"value": {"terms": {"kindnes": 1.0}}})
        assert "did you mean 'kindness'?" in caught.value.hint


def test_without_a_reference_a_prompt_that_shows_it_does_not_apply(tmp_path: Path) -> None:
    rows = [group(thought("7"), label="knowledge", question=q, answer=a) for q, a in (("a ?", None), ("b ?", "7"))]
    with serving(lambda body, nth: completion(choice("Verdict: correct"))) as server:
        found = scored(score(tmp_path, on_disk(tmp_path, rows), {"knowledge": judge(server)}))
        assert len(server.calls) == 1
    assert [g.status for g in grades(found, "knowledge")] == ["not_applicable", "ok"]


def test_grades_of_another_prompt_or_model_are_not_kept(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path, [asked_about("x", "nice")])
    with serving(lambda body, nth: judged_by_words(body)) as server:
        first = score(tmp_path, upstream, {"value": judge(server)})
        same = score(tmp_path, first.path, {"value": judge(server)})
        assert len(server.calls) == 1
        for n, change in enumerate(
            ({"model": "other"}, {"temperature": 0.5}, {"max_new_tokens": 9}, {"prompt": "helpful"})
        ):
            score(tmp_path, first.path, {"value": judge(server, **change)})
            assert len(server.calls) == 2 + n, change
    assert scored(same) == scored(first)


@pytest.mark.parametrize(
    ("said", "p", "value"),
    [
        ([("Verdict", -0.9), (":", -0.8), (" go", -0.1), ("od", -0.2), ("\n", -0.7)], 0.740818, 0.740818),
        ([("So", -3.0), (" .\nVerdict: b", -0.5), ("ad", -0.25)], 0.472367, 0.527633),
    ],
)
def test_probability_of_the_verdict(tmp_path: Path, said: list[tuple[str, float]], p: float, value: float) -> None:
    """(P(good) + 1 - P(bad)) / 2, the unsaid verdict having what is left: exp of the sum over the verdict's tokens."""
    entries = [{"token": token, "logprob": logprob, "bytes": None, "top_logprobs": []} for token, logprob in said]
    answer = completion(choice("".join(t for t, _ in said), logprobs={"content": entries}))
    with serving(lambda body, nth: answer) as server:
        judges = {"value": judge(server, score="probability")}
        found = scored(score(tmp_path, on_disk(tmp_path, [asked_about("x", "nice")]), judges))
        assert server.calls[0]["logprobs"] is True
        with pytest.raises(UsageError, match="two verdicts"):
            score(
                tmp_path,
                on_disk(tmp_path, [group("x", label="safety")]),
                {"safety": judge(server, score="probability")},
            )
    (grade,) = grades(found, "value")
    assert grade.value == pytest.approx(value, abs=2e-6)
    assert f"{p:.3f}" in (grade.reason or "")


def test_the_key_stays_out_of_everything(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path / "runs", [asked_about("x", "nice")])
    secret = "sk-very-secret-123"
    with serving(lambda body, nth: "forbids") as server:
        arguments = ["score", upstream, *flags(server, api_key_env="JUDGE_KEY")]
        done = cosmo(*arguments, cwd=tmp_path, JUDGE_KEY=secret, OPENAI_API_KEY="sk-not-for-you")
        assert done.returncode == 3  # graded by nobody: the folder is whole, and worth nothing
        assert server.headers[0]["authorization" if "authorization" in server.headers[0] else "Authorization"] == (
            f"Bearer {secret}"
        )
        unset = cosmo(*arguments, "--regrade", cwd=tmp_path)
        assert unset.returncode == 4
        assert "JUDGE_KEY" in unset.stderr
        cosmo("score", upstream, *flags(server, model="b"), cwd=tmp_path, OPENAI_API_KEY="sk-not-for-you")
        assert "sk-not-for-you" not in str(server.headers)
    made = re.search(r"(?:\S*/)?runs/score-[0-9a-f]{8}", done.stderr)
    assert made is not None, done.stderr
    (grade,) = grades(scored(RunFolder.open(tmp_path / made.group())), "value")
    assert grade.reason == "HTTP 401"
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert secret.encode() not in path.read_bytes(), path
    assert secret not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"prompt": "nothing_like_it"}, "nothing_like_it"),
        ({"url": "localhost:8000"}, "localhost:8000"),
        ({"url": "http://me:hush@there/v1"}, "there"),
        ({"engine": "opnai"}, "opnai"),
        ({"model": ""}, "no model"),
        ({"engine": "transformers"}, "no model"),
    ],
)
def test_a_judge_that_can_not_be_is_an_error_before_any_row(tmp_path: Path, change: dict[str, str], word: str) -> None:
    upstream = on_disk(tmp_path, [asked_about("x")])
    with serving(lambda body, nth: GOOD) as server, pytest.raises(Exception, match=word) as caught:
        score(tmp_path, upstream, {"value": judge(server, **change)})
    assert caught.value.code in (2, 3)  # type: ignore[attr-defined]
    assert "hush" not in str(caught.value)
    assert not any(b"hush" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_judge_on_the_transformers_engine(tmp_path: Path) -> None:
    """An untrained model says nothing that counts: unparsable, with the rules' grades in place."""
    upstream = on_disk(tmp_path, [asked_about("x", "nice", "rude"), asked_about("y", "nice <|im_end|> now")])
    judges = {"value": {"policy": "tiny:qwen2_5_vl", "max_new_tokens": 6, "device": "cpu"}}
    found = scored(score(tmp_path, upstream, judges))
    said = grades(found, "value")
    assert [(g.value, g.status) for g in said] == [(None, "error")] * 3
    assert all((g.reason or "").startswith("unparsable: ") for g in said[:2])
    assert "special_token" in (said[2].reason or "")
    assert [g.value for g in grades(found, "format")] == [1.0] * 3


def test_a_judges_batches_that_failed_are_on_the_closing_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = BatchSampler.draw

    def crowded(self: BatchSampler, batch: list[Any], *more: Any) -> object:
        if sum(len(share.indices) for share in batch) > 2:
            raise RuntimeError("too many questions")
        return plain(self, batch, *more)

    monkeypatch.setattr(BatchSampler, "draw", crowded)
    upstream = on_disk(
        tmp_path, [group(*map(thought, ("red", "blue", "green")), question="what colour ?", answer="red")]
    )
    judges = {"tone": {"policy": "tiny:qwen2_5_vl", "prompt": "value", "max_new_tokens": 2, "device": "cpu"}}
    quality = STAGE.quality(score(tmp_path, upstream, judges, also=["tone"]))
    assert quality.numbers["halved_batches"] == {"too many questions": 1}
    assert "1 batches failed and were graded in halves (1 too many questions)" in quality.line
