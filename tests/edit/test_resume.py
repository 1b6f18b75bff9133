"""Going on from an edit: the same noise at the same place, the edit's ids first, and whose each of them is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from schemas.rollouts import Completion
from schemas.tables import PROMPTS, ROLLOUTS
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from tests.edit.made import NEW, TINY, edit, groups, prefix_text, prompts, rollout, write
from tests.models.made import policy


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four groups of three completions."""
    folder = tmp_path_factory.mktemp("old")
    return rollout(prompts(folder / "in"), folder / "runs")


def test_an_edit_that_changes_nothing_goes_on_to_the_same_completion(old: RunFolder, tmp_path: Path) -> None:
    """Cut after any number of tokens, of any completion of a group: ids, log-probs, end and noise as they were."""
    before = groups(old)
    cuts = [(ident, index, tokens) for ident in before for index in range(3) for tokens in (0, 1, 5, NEW)]
    changes, expected = [], {}
    for ident, index, tokens in cuts:
        kept = prefix_text(before[ident].completions[index], tokens)
        text = before[ident].completions[index].text
        changes.append({"id": ident, "index": index, "before": text, "after": kept})
    made = edit([old.path], tmp_path, changes)
    assert made.table == "prompts"
    rows = {row.id: row for row in made.rows(PROMPTS)}
    # Two cuts may leave the same ids, and are one edit then.
    assert 12 < len(rows) <= len(cuts)
    for row in rows.values():
        assert row.edit.after == ""
        assert row.edit.at_token == len(row.edit.token_ids)
        expected[row.id] = before[row.parent_id].completions[row.edit.index]
    assert {row.edit.at_token for row in rows.values()} >= {0, 5}
    again = groups(rollout(made.path, tmp_path, samples=1))
    for ident, completion in expected.items():
        (found,) = again[ident].completions
        assert same_words(found, completion)
    other = groups(rollout(made.path, tmp_path, samples=1, seed=6))
    assert any(other[ident].completions[0] != again[ident].completions[0] for ident in again)


def same_words(found: Completion, completion: Completion) -> bool:
    """Equal but for the place in the group, and for what other company in a batch does to a float32."""
    assert list(found.logprobs) == pytest.approx(list(completion.logprobs), abs=1e-5)
    return dataclasses.replace(found, index=completion.index, logprobs=completion.logprobs) == completion


def test_in_the_same_company_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    old = rollout(prompts(tmp_path / "in"), tmp_path, samples=1)
    before = groups(old)
    cuts = {ident: prefix_text(group.completions[0], 5) for ident, group in before.items()}
    changes = [{"id": i, "before": g.completions[0].text, "after": cuts[i]} for i, g in before.items()]
    for group in groups(rollout(edit([old.path], tmp_path, changes).path, tmp_path, samples=1)).values():
        assert group.edit.at_token == 5
        assert group.completions == before[group.parent_id].completions


def test_new_words_come_first_and_are_a_persons(old: RunFolder, tmp_path: Path) -> None:
    before = groups(old)
    ident = next(iter(before))
    completion = before[ident].completions[1]
    kept = prefix_text(completion, 4)
    change = {"id": ident, "index": 1, "before": completion.text, "after": kept + " three stars", "why": "seen"}
    made = edit([old.path], tmp_path, [change])
    (row,) = made.rows(PROMPTS)
    found, sampled = row.edit, list(completion.token_ids)
    assert (found.by, found.why, found.index, found.seed) == ("ann", "seen", 1, 5)
    assert found.at_token == 4
    assert list(found.token_ids)[:4] == sampled[:4]
    assert policy(TINY).processor.decode(list(found.token_ids)) == kept + " three stars" == found.text
    new = len(found.token_ids) - 4
    assert found.generated == [True] * 4 + [False] * new
    assert found.written == [False] * 4 + [True] * new
    assert list(found.logprobs) == [*list(completion.logprobs)[:4], *[0.0] * new]
    assert (found.before, found.after) == (completion.text[len(kept) :], " three stars")

    (group,) = groups(rollout(made.path, tmp_path)).values()
    assert group.parent_id == ident
    assert group.edit == found
    assert [c.index for c in group.completions] == [0, 1, 2]
    assert len({tuple(c.token_ids) for c in group.completions}) > 1
    for one in group.completions:
        length = len(found.token_ids)
        assert list(one.token_ids)[:length] == list(found.token_ids)
        assert one.generated == [*found.generated, *[True] * (len(one.token_ids) - length)]
        assert list(one.logprobs)[:length] == list(found.logprobs)
        # What a person wrote takes nothing from what the policy may write.
        assert one.generated_tokens <= NEW
        assert one.text == policy(TINY).processor.decode(list(one.token_ids))
    assert max(one.generated_tokens for one in group.completions) == NEW


def test_an_edit_of_an_edit_keeps_whose_words_are_whose_and_the_noise(old: RunFolder, tmp_path: Path) -> None:
    before = groups(old)
    ident = list(before)[2]
    first = before[ident].completions[2]
    kept = prefix_text(first, 3)
    one = edit([old.path], tmp_path, [{"id": ident, "index": 2, "before": first.text, "after": kept + " two"}])
    resumed = rollout(one.path, tmp_path)
    (group,) = groups(resumed).values()
    again = group.completions[1]
    length = len(group.edit.token_ids)
    unchanged = prefix_text(again, length + 2)
    two = edit([resumed.path], tmp_path, [{"id": group.id, "index": 1, "before": again.text, "after": unchanged}])
    (row,) = two.rows(PROMPTS)
    assert row.parent_id == group.id
    assert (row.edit.noise_id, row.edit.noise_index) == (ident, 3)
    assert row.edit.written == [*group.edit.written, False, False]
    assert row.edit.generated == [*group.edit.generated, True, True]
    (found,) = groups(rollout(two.path, tmp_path, samples=1))[row.id].completions
    assert same_words(found, again)


def test_of_another_policy_or_temperature_the_kept_ids_are_not_the_policys_own(old: RunFolder, tmp_path: Path) -> None:
    before = groups(old)
    ident = next(iter(before))
    text = before[ident].completions[0].text
    kept = prefix_text(before[ident].completions[0], 4)
    made = edit([old.path], tmp_path, [{"id": ident, "before": text, "after": kept}])
    (group,) = groups(rollout(made.path, tmp_path, temperature=0.5)).values()
    for one in group.completions:
        assert one.generated is not None
        assert one.generated[:4] == [False] * 4
        assert list(one.logprobs)[:4] == [0.0] * 4
        assert all(one.generated[4:])


def test_what_was_guided_before_the_edit_stays_no_sample(old: RunFolder, tmp_path: Path) -> None:
    given = list(groups(old).values())[:1]
    text = given[0].completions[0].text
    guided = [dataclasses.replace(given[0], completions=[dataclasses.replace(given[0].completions[0], guided=True)])]
    made = write(tmp_path / "in" / "0.parquet", ROLLOUTS, guided)
    lines = [
        {"id": given[0].id, "before": text, "after": prefix_text(given[0].completions[0], kept) + new}
        for kept, new in ((4, ""), (0, "three"))
    ]
    edited = edit([made], tmp_path, lines, tokenizer=TINY)
    found = list(groups(rollout(edited.path, tmp_path, samples=1)).values())
    # Of the second, nothing was kept that anybody had guided.
    assert [group.completions[0].guided for group in found] == [True, False]


def test_ids_that_mean_other_words_to_the_policy_are_no_row(old: RunFolder, tmp_path: Path) -> None:
    ident, group = next(iter(groups(old).items()))
    text = group.completions[0].text
    made = edit([old.path], tmp_path, [{"id": ident, "before": text, "after": prefix_text(group.completions[0], 4)}])
    with pytest.raises(InputError, match="other_tokenizer"):
        rollout(made.path, tmp_path, engine="fake", policy="")


def test_edits_never_enter_the_test_split(tmp_path: Path) -> None:
    old = rollout(prompts(tmp_path / "in", 1, split="test"), tmp_path / "runs")
    (group,) = groups(old).values()
    with pytest.raises(InputError, match="test split"):
        edit([old.path], tmp_path, [{"id": group.id, "step": 1, "after": "x"}])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "0" * 16, "after": "x"}, "no row"),
        ({"id": None, "index": 7, "after": "x"}, "no completion 7"),
        ({"id": None, "step": 99, "after": "x"}, "steps, and the edit is of step 99"),
        ({"id": None, "step": 1, "before": "what nobody said", "after": "x"}, "as step 1"),
        ({"id": None, "before": "what nobody said", "after": "x"}, "0 times"),
    ],
)
def test_a_stale_edit_ends_the_command(old: RunFolder, tmp_path: Path, change: dict[str, object], said: str) -> None:
    ident = next(iter(groups(old)))
    with pytest.raises(InputError, match=said) as failed:
        edit([old.path], tmp_path, [{**change, "id": change["id"] or ident}])
    assert "stale" in failed.value.message
    assert failed.value.hint
    assert not list(tmp_path.glob("edit-*"))
