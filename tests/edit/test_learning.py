"""What comes of edits: pairs of old and new, a table, SFT on whole completions, RL on the policy's own ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import Span
from schemas.scored import ScoredGroup
from schemas.tables import SCORED
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.edit.pairs import changes, record
from stages.train.config import TrainConfig
from stages.train.rl.batches import make_groups
from stages.train.supervised.examples import ExampleRows
from stages.train.supervised.imitation import encode_example
from stages.train.supervised.pairs import pair_entries
from stages.train.supervised.rewarded import as_example, given_in, rewarded_entries, rewarded_order
from tests.edit.made import TINY, edit, groups, prefix_text, prompts, rollout, scored, write
from tests.models.made import policy

RIGHT = " three stars"


def reward(text: str) -> float:
    return 2.0 if RIGHT in text else 0.5


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scored groups of two prompts, and of an edit of a completion of each."""
    folder = tmp_path_factory.mktemp("runs")
    old = rollout(prompts(folder / "in", 2), folder, samples=2)
    lines: list[dict[str, Any]] = []
    for ident, group in groups(old).items():
        text = group.completions[1].text
        lines.append({"id": ident, "index": 1, "before": text, "after": prefix_text(group.completions[1], 3) + RIGHT})
    new = rollout(edit([old.path], folder, lines).path, folder, samples=2)
    return scored(old, folder / "old", reward), scored(new, folder / "new", reward)


def rows(path: Path) -> list[ScoredGroup]:
    return list(RunFolder.open(path).rows(SCORED))


def test_a_pair_is_the_old_completion_beside_the_new_ones(runs: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = runs
    made = edit([old, new], tmp_path, [], write="pairs")
    assert made.table == "scored"
    olds = {row.id: row for row in rows(old)}
    for pair, row in zip(made.rows(SCORED), rows(new), strict=True):
        assert pair.edit == row.edit
        assert [c.index for c in pair.completions] == [0, 1, 2]
        assert [c.text for c in pair.completions] == [
            olds[row.parent_id or ""].completions[1].text,
            *(c.text for c in row.completions),
        ]
        assert [c.reward for c in pair.completions] == [0.5, 2.0, 2.0]
        assert all(c.generated is None and not list(c.token_ids) for c in pair.completions)
    rejected: list[tuple[str, ...]] = []
    config = TrainConfig(objective="dpo").resolved()
    found = pair_entries([made], config, lambda *why: rejected.append(why))
    assert {(p.chosen, p.rejected) for p in found} == {(1, 0), (2, 0)}
    # RL has nothing of a pair: no ids.
    left = make_groups(made.rows(SCORED), "pairs", TrainConfig().resolved(), lambda *why: rejected.append(why))
    assert not any(group.completions for group in left)
    assert {why[2] for why in rejected} == {"no_completion"}


def test_the_table_says_what_each_edit_changed(runs: tuple[Path, Path]) -> None:
    from cosmo_cli.commands.edit import table_lines

    found = [record(changed) for changed in changes([RunFolder.open(path) for path in runs])]
    assert [one["reward"] for one in found] == [[0.5, 2.0]] * 2
    assert [one["task"] for one in found] == [[0.5, 2.0]] * 2
    assert all(one["after"] == RIGHT and one["by"] == "ann" for one in found)
    lines = table_lines(found)
    assert lines[-1] == "2 edits: mean reward 0.500 -> 2.000; 2 better, 0 worse, 0 as before"
    with pytest.raises(InputError, match="in none of these runs"):
        list(changes([RunFolder.open(runs[1])]))
    with pytest.raises(InputError, match="no row of these runs was edited"):
        list(changes([RunFolder.open(runs[0])]))


def test_another_completion_in_the_parents_place_is_no_pair(runs: tuple[Path, Path], tmp_path: Path) -> None:
    swapped = [
        dataclasses.replace(row, completions=[dataclasses.replace(c, index=1 - c.index) for c in row.completions])
        for row in rows(runs[0])
    ]
    other = write(tmp_path / "0.parquet", SCORED, swapped)
    with pytest.raises(InputError, match="another completion"):
        list(changes([RunFolder.open(other), RunFolder.open(runs[1])]))


def test_sft_learns_whole_completions_that_earned_enough(runs: tuple[Path, Path]) -> None:
    inputs = [RunFolder.open(path) for path in runs]
    rejected: list[tuple[str, ...]] = []
    config = TrainConfig(objective="sft").resolved()
    # The tiny policy never ends: what was cut off is no example.
    with pytest.raises(InputError, match="no completion earned 2"):
        rewarded_entries(inputs, config, 2.0, lambda *why: rejected.append(why))
    assert {why[2] for why in rejected} == {"truncated"}


def ended(path: Path, into: Path, generated: Any = None) -> RunFolder:
    """The groups as if each completion had ended; with another mask, where one is given."""
    found = [
        dataclasses.replace(
            row,
            completions=[
                dataclasses.replace(c, finish_reason="stop", generated=generated(c) if generated else c.generated)
                for c in row.completions
            ],
        )
        for row in rows(path)
    ]
    return RunFolder.open(write(into / "0.parquet", SCORED, found))


def test_what_a_person_wrote_is_learned_with_the_rest(runs: tuple[Path, Path], tmp_path: Path) -> None:
    inputs = [ended(runs[0], tmp_path / "a"), ended(runs[1], tmp_path / "b")]
    rejected: list[tuple[str, ...]] = []
    config = TrainConfig(objective="sft").resolved()
    found = rewarded_entries(inputs, config, 2.0, lambda *why: rejected.append(why))
    assert {why[2] for why in rejected} == {"low_reward"}
    assert [(e.folder, e.completion) for e in found] == [(1, 0), (1, 1)] * 2
    order = rewarded_order(found, config)
    assert sorted(order, key=lambda e: e.ref) == sorted(found, key=lambda e: e.ref)
    examples = ExampleRows(inputs, order, table=SCORED, made=as_example)
    texts = {c.text for row in rows(runs[1]) for c in row.completions}
    assert {examples[n].reference_response for n in range(len(order))} == texts
    assert all(RIGHT in text for text in texts)


def test_an_environments_words_are_not_imitated(runs: tuple[Path, Path], tmp_path: Path) -> None:
    inside = lambda c: [*[True] * (len(c.token_ids) - 1), False]  # noqa: E731
    observed = ended(runs[1], tmp_path / "c", inside)
    rejected: list[tuple[str, ...]] = []
    with pytest.raises(InputError, match="no completion earned"):
        rewarded_entries([observed], TrainConfig(objective="sft").resolved(), 2.0, lambda *why: rejected.append(why))
    assert {why[2] for why in rejected} == {"not_generated"}
    with pytest.raises(InputError, match="not_generated"):
        edit([runs[0], observed.path], tmp_path, [], write="pairs")


def test_rl_learns_from_the_policys_own_ids_of_an_edited_completion(runs: tuple[Path, Path]) -> None:
    for row, group in zip(
        rows(runs[1]), make_groups(rows(runs[1]), "new", TrainConfig().resolved(), print), strict=True
    ):
        assert row.edit is not None
        person = sum(row.edit.written)
        assert person > 0
        for completion in group.completions:
            assert completion.generated_tokens == completion.length - person


def test_sft_reads_what_an_environment_wrote_and_learns_the_rest(runs: tuple[Path, Path], tmp_path: Path) -> None:
    text = "<think> so </think> <search>red</search><results>1 red star</results><think> it is red . </think> red"
    start, stop = text.index("<results>"), text.index("</results>") + len("</results>")
    (row, *_) = rows(runs[0])
    first = dataclasses.replace(
        row.completions[0], text=text, finish_reason="stop", reward=3.0, observed=[Span(start, stop)],
        token_ids=[5, 6, 7], logprobs=[-1.0, 0.0, -1.0], generated=[True, False, True],
    )  # fmt: skip
    unknown = dataclasses.replace(first, index=1, observed=[])
    told = dataclasses.replace(row, completions=[first, unknown])
    inputs = [RunFolder.open(write(tmp_path / "0.parquet", SCORED, [told]))]
    rejected: list[tuple[str, ...]] = []
    config = TrainConfig(objective="sft").resolved()
    found = rewarded_entries(inputs, config, 2.0, lambda *why: rejected.append(why))
    assert [e.completion for e in found] == [0]
    assert [why[1:3] for why in rejected] == [(f"{row.id}#1", "not_generated")]
    example = ExampleRows(inputs, found, table=SCORED, made=as_example)[0]
    processor = policy(TINY).processor
    (_, ids, _), own = encode_example(processor, example, given_in(example, []))
    assert processor.decode(ids) == text
    read = [i for i, learned in zip(ids, own, strict=True) if not learned]
    assert processor.decode(read) == text[start:stop]
    assert own[-1]
    # Without spans tags say it; with neither all of it is learned.
    bare = dataclasses.replace(example, completions=[])
    assert given_in(bare, ["results"]) == [(start, stop)]
    assert given_in(bare, []) == []
