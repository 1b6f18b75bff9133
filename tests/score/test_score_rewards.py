"""Labels to rewards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.scored import Grade
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.score.config import RewardTable, ScoreConfig
from stages.score.rewards import formula_for, resolve, reward_of, verifiers_named

METHODS = {
    "general": "sum: format*1 + answer*1",
    "general_rule": "sum: format*1 + answer*1",
    "instruction": "sum: format*1 + instruction*1 + helpful*1",
    "jailbreak": "sum: format*1 + safety*1",
    "knowledge": "sum: format*1 + knowledge*1 + helpful*0.5",
    "knowledge_rule": "sum: format*1 + answer*1 + helpful*0.5",
    "math": "replace: answer*0.9 + format*0.1",
    "safety": "sum: format*1 + safety*1",
    "value": "sum: format*1 + value*1",
}


def configured(values: dict[str, Any]) -> ScoreConfig:
    config: ScoreConfig = build(ScoreConfig, values, "score")
    return config


def grade(name: str, value: float | None, status: str = "ok") -> Grade:
    return Grade(name=name, version=1, value=value, status=status)


def test_the_default_table_is_the_one_of_methods() -> None:
    assert {label: formula.text for label, formula in resolve(ScoreConfig()).items()} == METHODS


def test_one_label_is_overridden_and_a_new_one_added() -> None:
    config = configured(
        {
            "rewards": {
                "safety": {"terms": {"safety": 2, "refusal": -0.5}},
                "ocr": {"terms": {"answer": 1.0}, "combine": "replace"},
            },
            "format_weight": 0.5,
        }
    )
    found = {label: formula.text for label, formula in resolve(config).items()}
    expected = {label: text.replace("format*1", "format*0.5") for label, text in METHODS.items()}
    expected["safety"] = "sum: format*0.5 + safety*2 + refusal*-0.5"
    expected["ocr"] = "replace: answer*1"
    assert found == expected


def test_an_unknown_label_names_itself_and_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        formula_for(resolve(ScoreConfig()), "poetry")
    assert caught.value.code == 3
    assert "'poetry'" in caught.value.message
    assert "knowledge_rule" in caught.value.hint
    assert "rewards.poetry.terms" in caught.value.hint


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"terms": {"saftey": 1.0}}, "unknown verifier 'saftey'", "did you mean 'safety'?"),
        ({"terms": {}}, "has no terms", "terms ="),
    ],
)
def test_a_formula_that_cannot_be(table: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(configured({"rewards": {"safety": table}}))
    assert message in caught.value.message
    assert "[score.rewards.safety]" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"rewards": {"safety": {"term": {}}}},
        {"rewards": {"safety": {"terms": {"safety": 1.0}, "combine": "product"}}},
        {"rewards": {"safety": {"terms": {"safety": "much"}}}},
    ],
)
def test_formula_tables_are_strict(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"score\.rewards\.safety"):
        configured(values)


@pytest.mark.parametrize("also", [["./a.py:good", "./b.py:good"], ["./a.py:answer"], ["answer", "./a.py:answer"]])
def test_two_verifiers_of_one_name_are_refused(also: list[str]) -> None:
    """Their grades could not be told apart, and the formula would be paid with either."""
    with pytest.raises(UsageError, match="are both called") as caught:
        verifiers_named(ScoreConfig(also=also, rewards={"general": RewardTable(terms={"answer": 1.0})}))
    assert "a.py" in caught.value.message


def test_one_verifier_may_be_named_twice() -> None:
    twice = ScoreConfig(also=["./a.py:good"], rewards={"general": RewardTable(terms={"./a.py:good": 1.0})})
    assert verifiers_named(twice)["good"] == "./a.py:good"


def test_the_old_name_of_the_key_says_the_new_one() -> None:
    with pytest.raises(UsageError) as caught:
        configured({"recipes": {"safety": {"terms": {"safety": 1.0}}}})
    assert caught.value.message == "'recipes' in [score] is now 'rewards' in [score]"


def formula(label: str) -> Any:
    return resolve(ScoreConfig())[label]


def test_rewards_by_hand() -> None:
    grades = {
        "format": grade("format", 1.0),
        "knowledge": grade("knowledge", 1.0),
        "helpful": grade("helpful", 0.01),
    }
    terms, reward = reward_of(formula("knowledge"), grades)
    assert reward == pytest.approx(1 + 1 + 0.005)
    assert [(t.name, t.weight, t.value) for t in terms] == [
        ("format", 1.0, 1.0),
        ("knowledge", 1.0, 1.0),
        ("helpful", 0.5, 0.01),
    ]
    math = {"format": grade("format", 1.0), "answer": grade("answer", 0.0)}
    assert reward_of(formula("math"), math)[1] == pytest.approx(0.1)


VALUES = st.one_of(st.tuples(st.floats(0, 1), st.just("ok")), st.sampled_from([
    (None, "not_applicable"), (None, "timeout"), (None, "error"),
]))  # fmt: skip


@given(VALUES, VALUES, VALUES)
def test_a_failure_is_never_a_number(form: Any, knows: Any, helps: Any) -> None:
    """None if a needed grade failed, or the task's own term has no value; otherwise the sum over what applied."""
    given_ = {"format": form, "knowledge": knows, "helpful": helps}
    terms, reward = reward_of(formula("knowledge"), {n: grade(n, v, s) for n, (v, s) in given_.items()})
    failed = any(status in ("timeout", "error") for _, status in given_.values())
    applied = [t for t in terms if t.value is not None]
    task = [t for t in applied if t.name == "knowledge"]
    if failed or not task:
        assert reward is None
    else:
        assert reward == pytest.approx(sum(t.weight * t.value for t in applied if t.value is not None))


def test_a_formula_of_format_alone_is_its_own_task() -> None:
    only = resolve(ScoreConfig(rewards={"form": RewardTable(terms={"format": 1.0}, combine="replace")}))["form"]
    assert reward_of(only, {"format": grade("format", 0.0)})[1] == 0.0


def test_cosmos_four_terms_need_no_label_to_be_written_out() -> None:
    """format, visual focus, helpful and the task's own, in every formula that adds up and in no other."""
    found = {k: r.text for k, r in resolve(configured({"visual_weight": 0.5, "helpful_weight": 0.25})).items()}
    assert found["safety"] == "sum: format*1 + safety*1 + visual_focus*0.5 + helpful*0.25"
    assert found["knowledge"] == "sum: format*1 + knowledge*1 + helpful*0.5 + visual_focus*0.5"
    assert found["math"] == METHODS["math"]


def test_seeing_well_alone_earns_nothing() -> None:
    """visual_focus is no task term: where safety can't be judged there is no reward, whatever was seen."""
    four = resolve(ScoreConfig(visual_weight=1.0))["safety"]
    seen = {"format": grade("format", 1.0), "visual_focus": grade("visual_focus", 1.0)}
    assert reward_of(four, {**seen, "safety": grade("safety", None, "not_applicable")})[1] is None
    assert reward_of(four, {**seen, "safety": grade("safety", 0.1)})[1] == pytest.approx(2.1)
    blind = {**seen, "visual_focus": grade("visual_focus", None, "not_applicable"), "safety": grade("safety", 1.0)}
    assert reward_of(four, blind)[1] == pytest.approx(2.0)


@pytest.mark.parametrize("status", ["not_applicable", "undecided", "timeout", "error"])
def test_no_secondary_term_stands_in_for_the_task(status: str) -> None:
    """`helpful` paid 1.0 for rows whose instructions, answers or safety nobody had looked at."""
    rest = {"format": grade("format", 1.0), "helpful": grade("helpful", 1.0)}
    for label in ("instruction", "knowledge"):
        assert reward_of(formula(label), rest | {label: grade(label, None, status)})[1] is None
        assert reward_of(formula(label), rest | {label: grade(label, 0.0)})[1] is not None


def test_an_undecided_term_that_is_not_the_tasks_is_left_out() -> None:
    grades = {"format": grade("format", 1.0), "knowledge": grade("knowledge", 1.0)}
    assert reward_of(formula("knowledge"), grades | {"helpful": grade("helpful", None, "undecided")})[1] == 2.0


def test_a_table_may_mark_its_principal_term() -> None:
    table = {"terms": {"answer": 1.0, "safety": 1.0}, "principal": "safety"}
    found = resolve(configured({"rewards": {"safety": table}}))["safety"]
    assert found.principal == "safety"
    assert found.text == "sum: format*1 + answer*1 + safety*1; principal safety"
    grades = {"format": grade("format", 1.0), "answer": grade("answer", 1.0)}
    assert reward_of(found, grades | {"safety": grade("safety", None, "undecided")})[1] is None
    absent = grades | {"answer": grade("answer", None, "not_applicable"), "safety": grade("safety", 1.0)}
    assert reward_of(found, absent)[1] == 2.0
    with pytest.raises(UsageError, match="principal = 'value' is none of its terms"):
        resolve(configured({"rewards": {"safety": table | {"principal": "value"}}}))


def test_form_may_be_all_that_a_formula_asks_for() -> None:
    found = resolve(configured({"rewards": {"form": {"terms": {"format": 1.0}, "combine": "replace"}}}))["form"]
    assert reward_of(found, {"format": grade("format", 1.0)})[1] == 1.0
