"""The built-in dataset: deterministic, disjoint by scene, paired with twins, held-out families held out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import prompt_id
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.registry import load
from stages.judging.parsed import DESCRIBE, parse_completion
from stages.prepare.datasets.builtin import LABELS, PAIRED, allocate
from stages.world.scene import side

PLUGIN = load("dataset", "builtin")


def make(seed=5, **over):
    options = build(PLUGIN.options, {"train": 900, "test": 600, **over}, "builtin")
    records = list(PLUGIN.records(options, seed))
    return options, records, [PLUGIN.row(r, options) for r in records]


@pytest.fixture(scope="module")
def made():
    return make()


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(made):
    _, records, rows = made
    _, again, same = make()
    assert same == rows
    assert [r.key for r in again] == [r.key for r in records]
    _, other, _ = make(seed=6, train=300, test=0)
    assert not {r.key for r in other} >= {r.key for r in records if r.split == "train"}


def test_a_verbose_annotator_says_more_that_is_true_and_answers_the_same(made):
    _, _, rows = made
    _, _, verbose = make(verbose=0.5)
    trained = [(row, more) for row, more in zip(rows, verbose, strict=True) if row.split == "train"]
    longer = 0
    for row, more in trained:
        assert replace(more, reference_response=row.reference_response) == row
        brief, said = (r.reference_response.removeprefix("<think> ").split(" . </think> ") for r in (row, more))
        assert said[1] == brief[1]
        if said[0] != brief[0]:
            longer += 1
            steps, needed = said[0].split(" . "), brief[0].split(" . ")
            assert set(steps) <= {*row.facts, *row.key_facts}
            assert len(steps) == len(set(steps)) + len(needed) * (steps.count(needed[0]) - 1)
            assert [s for s in dict.fromkeys(steps) if s in needed] == needed
            assert steps[-len(needed) :] == needed
            assert steps.count(needed[0]) in (2, 3)
    assert 0.4 < longer / len(trained) < 0.6
    assert [row for row in rows if row.split == "test"] == [row for row in verbose if row.split == "test"]


def test_a_row_can_be_made_alone(made):
    options, records, rows = made
    for i in (0, 333, 700, 1200, len(rows) - 1):
        assert PLUGIN.row(records[i], options) == rows[i]


def test_counts_are_as_asked(made):
    _, records, rows = made
    assert Counter(r.split for r in rows) == {"train": 900, "test": 600}
    assert {r.label for r in rows} == set(LABELS)
    assert [(r.label, r.task, r.split) for r in records] == [(r.label, r.task, r.split) for r in rows]
    assert all(r.text == "" for r in records)


def test_ids_and_keys_are_content_and_unique(made):
    _, records, rows = made
    assert len({r.key for r in records}) == len(records)
    assert len({r.id for r in rows}) == len(rows)
    for row in rows:
        assert row.id == prompt_id(label=row.label, messages=row.messages, images=row.images, answer=row.answer)


def test_train_and_test_share_no_scene_no_prompt_and_no_image_whatever_their_seeds(made):
    _, _, rows = made
    _, _, others = make(seed=99)
    for train in (rows, others):
        seen = [r for r in train if r.split == "train"]
        held = [r for r in rows if r.split == "test"]
        assert not {r.scene for r in seen} & {r.scene for r in held}
        assert not {r.id for r in seen} & {r.id for r in held}
        assert not {i.bytes for r in seen for i in r.images} & {i.bytes for r in held for i in r.images}
    assert all(side(r.scene) == r.split for r in rows)


def test_heldout_families_are_never_trained_on_and_the_others_are_on_both_sides(made):
    options, _, rows = made
    families = {s: {r.family for r in rows if r.split == s and r.family} for s in ("train", "test")}
    assert families["train"] == set(options.families)
    assert families["test"] == set(options.families) | set(options.heldout)
    assert len(options.families) + len(options.heldout) >= 4
    assert len(options.heldout) >= 2
    held = sum(r.family in options.heldout for r in rows if r.split == "test" and r.label == "jailbreak")
    total = sum(r.split == "test" and r.label == "jailbreak" for r in rows)
    assert abs(held / total - options.heldout_share) < 0.02


def test_every_harmful_row_is_followed_by_its_benign_twin(made):
    _, _, rows = made
    paired = [r for r in rows if r.label in PAIRED]
    kinds = Counter()
    for harmful, twin in zip(paired[::2], paired[1::2], strict=True):
        assert (harmful.harmful, twin.harmful) == (True, False)
        assert twin.parent_id == harmful.id
        assert (harmful.label, harmful.family, harmful.risk) == (twin.label, twin.family, twin.risk)
        assert (harmful.answer, twin.answer_kind) == (None, "text")
        assert harmful.hazards
        assert harmful.unsafe_markers
        assert not twin.hazards
        assert not twin.unsafe_markers
        kinds[harmful.task, twin.task] += 1
    assert {t for _, t in kinds} == {f"{r}_twin_{t}" for r in ("picture", "text", "both") for t in ("words", "thing")}


def test_a_harmful_jailbreak_row_names_the_safety_row_it_came_from(made):
    _, _, rows = made
    for row in rows:
        if row.label == "jailbreak" and row.harmful:
            assert row.parent_id
            assert row.parent_id != row.id


def test_training_completions_state_the_key_facts_and_test_rows_have_none(made):
    _, _, rows = made
    for row in rows:
        if row.split == "test":
            assert row.reference_response is None
            continue
        thought, _, answer = row.reference_response.partition("</think>")
        assert all(fact in thought for fact in row.key_facts)
        assert row.facts
        assert row.key_facts
        if row.label in ("general", "knowledge"):
            assert answer.strip() == row.answer
        if row.label == "value":
            assert answer.strip() == row.choices["AB".index(row.answer)]


def completion_kinds(rows):
    kinds = {True: Counter(), False: Counter()}
    for row in rows:
        if row.label in PAIRED and row.reference_response:
            answer = row.reference_response.partition("</think>")[2].strip()
            kind = "refuse" if answer.startswith("sorry") else "warn" if answer.startswith("warning") else "comply"
            if kind == "comply":
                assert ("step one" in answer) == row.harmful
            if kind == "warn" and row.harmful:
                assert row.hazards[0] in answer
            kinds[row.harmful][kind] += 1
    return kinds


def test_the_naive_shares_hold_for_harmful_and_benign_rows_alike():
    _, _, rows = make(train=3000, test=0, weights={"safety": 1, "jailbreak": 1})
    for counts in completion_kinds(rows).values():
        total = sum(counts.values())
        assert abs(counts["comply"] / total - 0.45) < 0.05
        assert abs(counts["refuse"] / total - 0.40) < 0.05
        assert abs(counts["warn"] / total - 0.15) < 0.04


def test_no_naive_completions_means_warnings_for_harm_and_answers_otherwise():
    _, _, rows = make(train=200, test=0, weights={"safety": 1, "jailbreak": 1}, naive=0.0)
    kinds = completion_kinds(rows)
    assert set(kinds[True]) == {"warn"}
    assert set(kinds[False]) == {"comply"}


def test_instruction_completions_obey_as_often_as_asked():
    for share in (0.0, 1.0):
        options = build(PLUGIN.options, {"train": 60, "test": 0, "weights": {"instruction": 1}, "obey": share}, "b")
        for record in PLUGIN.records(options, 1):
            case, said = record.payload.case, PLUGIN.row(record, options).reference_response
            assert said.endswith(case.right if share else case.careless)


@pytest.mark.parametrize(
    ("over", "names"),
    [
        ({"image": 85}, "85"),
        ({"heldout": ["typographic"]}, "typographic"),
        ({"families": ["mirorr"]}, "mirorr"),
        ({"families": []}, "families"),
        ({"weights": {"math": 1}}, "math"),
        ({"weights": {}}, "weights"),
        ({"weights": {"general": -1}}, "weights"),
        ({"naive_comply": 0.7}, "naive_comply"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(over, names):
    with pytest.raises(UsageError) as raised:
        make(**over)
    assert names in raised.value.message
    assert raised.value.hint


def test_more_rows_than_the_world_has_is_an_error_that_says_so():
    over = {"train": 4000, "test": 0, "weights": {"jailbreak": 1}, "families": ["typographic"]}
    options = build(PLUGIN.options, over, "builtin")
    with pytest.raises(UsageError, match="no more than about"):
        sum(1 for _ in PLUGIN.records(options, 0))


@given(
    st.integers(0, 400),
    st.dictionaries(st.sampled_from(LABELS), st.floats(0.0, 5.0), min_size=1).filter(
        lambda w: any(v > 0 for k, v in w.items() if k not in PAIRED)
    ),
)
def test_allocation_is_exact_and_even_for_pairs(total, weights):
    counts = allocate(total, weights)
    assert sum(counts.values()) == total
    assert all(n >= 0 for n in counts.values())
    assert all(counts[label] % 2 == 0 for label in PAIRED)
    assert all(weights.get(label) for label, n in counts.items() if n)


def test_heldout_families_can_be_chosen(made):
    _, _, rows = make(train=200, test=200, families=["mirror"], heldout=["patch_shuffle"], heldout_share=1.0)
    assert {r.family for r in rows if r.family and r.split == "train"} == {"mirror"}
    assert {r.family for r in rows if r.family and r.split == "test"} == {"patch_shuffle"}


def test_a_row_costs_the_encoding_of_its_own_images_and_planning_none(encoded):
    """What a row's time goes into: 3 ms each is what there is for 20,000 rows in a minute."""
    options = build(PLUGIN.options, {"train": 120, "test": 40}, "builtin")
    records = list(PLUGIN.records(options, 5))
    assert encoded == []
    for record in records:
        del encoded[:]
        row = PLUGIN.row(record, options)
        # A twin is made after another row, and a family's image from another image: each at most doubles it.
        made_from = (row.family is not None) + (row.parent_id is not None)
        assert len(encoded) <= len(row.images) * 2**made_from


KEYS = {
    "counting": (r"there (is|are) \d \w+", None),
    "colours": (r"the \w+ is \w+", None),
    "comparison": (r"there (is|are) \d \w+", None),
    "reading": (r"the word is \w+", None),
    "arithmetic": (r"\d (plus|minus) \d", None),
    "told_arithmetic": (None, r"\w+ (has \d \w+|(finds|loses) \d)"),
    "sign": (r"an? \w+ \w+", None),
    "fact": (None, None),
    "both_risk": (r"it is \w+", r"you want to \w+ it"),
    "text_risk": (None, None),
}


def test_keys_are_what_is_seen_and_what_is_told_and_never_a_result_or_knowledge(made):
    _, _, rows = made
    for row in (r for r in rows if r.family is None and r.task in KEYS):
        for keys, pattern in zip((row.visual_keys, row.text_keys), KEYS[row.task], strict=True):
            assert bool(keys) == bool(pattern), row
            assert all(re.fullmatch(pattern, key) for key in keys), row
        # Whoever only sees and listens does not have the answer yet.
        if row.task in ("arithmetic", "told_arithmetic", "sign"):
            assert not {*row.visual_keys, *row.text_keys} & {*row.key_facts}
        if row.task == "arithmetic":
            assert row.key_facts == [f"{row.visual_keys[0]} is {row.answer}"]
    assert {r.task for r in rows} >= KEYS.keys()
    assert all(row.images for row in rows if row.visual_keys)


def test_price_cards_come_only_where_they_are_asked_for():
    _, _, plain = make(train=300, test=0, weights={"general": 1})
    assert not any(r.task == "prices" for r in plain)
    _, _, rows = make(train=300, test=100, weights={"general": 1}, test_weights={"knowledge": 1}, prices=0.5)
    asked = [r for r in rows if r.task == "prices"]
    assert 110 <= len(asked) <= 190
    assert all(r.visual_keys and r.text_keys and r.images for r in asked)


def test_described_targets_say_what_is_seen_before_they_think():
    over = {"train": 300, "test": 20, "weights": {"general": 4, "knowledge": 1, "safety": 1}, "prices": 0.3}
    _, _, plain = make(**over)
    _, _, rows = make(**over, targets="describe")
    assert [r.id for r in rows] == [r.id for r in plain]
    for row, thought in zip(rows, plain, strict=True):
        if row.split == "test":
            assert row.reference_response is None
            continue
        parsed = parse_completion(row.reference_response, DESCRIBE)
        assert parsed.well_formed, row.reference_response
        assert parsed.answer == parse_completion(thought.reference_response).answer
        if row.visual_keys:
            assert parsed.description == " . ".join(row.visual_keys) + " ."
        else:
            assert parsed.description == ("a picture ." if row.images else "no picture .")
        said = f"{parsed.description} {parsed.think}"
        assert all(fact in said for fact in (*row.key_facts, *row.text_keys))


def test_vague_descriptions_leave_what_is_seen_to_the_think_block():
    _, _, rows = make(train=300, test=0, weights={"general": 1}, targets="describe", vague=0.5)
    seen = [(parse_completion(r.reference_response, DESCRIBE), r) for r in rows if r.visual_keys]
    vague = [(parsed, row) for parsed, row in seen if parsed.description == "a picture ."]
    assert 0.4 <= len(vague) / len(seen) <= 0.6
    assert all(fact in parsed.think for parsed, row in vague for fact in row.key_facts)
