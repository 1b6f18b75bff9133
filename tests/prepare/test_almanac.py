"""The almanac: who is asked about what, what is in the corpus, and that SFT learns no word of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from schemas.prompts import PromptRow
from schemas.tables import CORPUS
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.judging.parsed import SEARCH, parse_completion
from stages.prepare.config import PrepareConfig
from stages.prepare.datasets.almanac import PLUGIN, AlmanacOptions
from stages.prepare.stage import STAGE
from stages.train.supervised.imitation import encode_example, in_tags
from stages.world.almanac.towns import towns
from stages.world.facts import TOWNS
from tests.models.made import policy

OPTIONS = AlmanacOptions(train=400, test=200)


def _rows(options: AlmanacOptions = OPTIONS) -> list[PromptRow]:
    return [PLUGIN.row(record, options) for record in PLUGIN.records(options, 3)]


def _town(row: PromptRow) -> str:
    found = re.search(r"in (\w+(?: \w+ \w+)?) [?,]", row.messages[0].content[0].text or "")
    assert found is not None
    return found[1]


def _compared(row: PromptRow) -> list[tuple[str, str]]:
    """The town that was asked about beside the first hit, word by word, as the completion has them."""
    text = row.reference_response or ""
    found = re.search(r"</results><think> (.*?) : it is", text)
    hit = re.search(r"<results>1 (.*)", text)
    assert found is not None
    assert hit is not None
    pairs = [(one, other) for one, other in (pair.split() for pair in found[1].split(" , "))]
    assert " ".join(one for one, _ in pairs) == _town(row)
    assert " ".join(other for _, other in pairs) == hit[1]
    return pairs


def test_towns_of_test_are_asked_about_nowhere_else_and_a_quarter_has_no_entry(tmp_path: Path) -> None:
    drawn = {town.name: town for town in towns()}
    assert sum(town.entry for town in drawn.values()) == 2000
    rows = _rows()
    asked = {split: {_town(r) for r in rows if r.split == split} for split in ("train", "test")}
    assert asked["train"] & asked["test"] == set(TOWNS)
    for row in rows:
        name = _town(row)
        if row.task == "memorised":
            assert name in TOWNS
        else:
            assert drawn[name].entry == (row.task == "almanac")
            assert drawn[name].split == row.split
            assert row.answer in drawn[name].facts.values()
    counts = Counter(row.task for row in rows if row.task != "memorised")
    assert 0.2 < counts["almanac_unknown"] / counts.total() < 0.3
    config = build(PrepareConfig, {"sources": ["corpus:almanac"]}, "prepare")
    corpus = RunFolder.open(run_stage(STAGE, config, [], options=Options(runs=tmp_path)).path)
    titles = [document.title for document in corpus.rows(CORPUS)]
    assert set(titles) == {town.name for town in drawn.values() if town.entry}
    assert not set(titles) & {_town(r) for r in rows if r.task == "almanac_unknown"}


def test_completions_to_imitate_are_in_form_and_know_only_what_was_found() -> None:
    for row in _rows():
        assert (row.reference_response is None) == (row.split == "test")
        if row.reference_response is None:
            continue
        own = re.sub(r"<(results|document)>.*?</\1>", "\n", row.reference_response, flags=re.S)
        parsed = parse_completion(own, SEARCH)
        assert parsed.well_formed, parsed.flaw
        kinds = [kind for kind, _ in parsed.actions]
        if row.task == "almanac" and kinds == ["search", "read"]:
            assert (parsed.answer, parsed.confidence) == (row.answer, 9)
            assert f"<results>1 {_town(row)}" in row.reference_response
            assert {one == other for one, other in _compared(row)} == {True}
        if row.task == "almanac_unknown":
            assert "read" not in kinds
            assert _town(row) + " " not in row.reference_response.replace(f"<search>{_town(row)}</search>", "")
            if kinds == ["search"]:
                assert {one == other for one, other in _compared(row)} == {True, False}
    tidy = _rows(AlmanacOptions(train=200, test=0, overconfident=0, needless=0, hasty=0))
    looked = {row.task: "<search>" in (row.reference_response or "") for row in tidy}
    assert looked == {"almanac": True, "almanac_unknown": True, "memorised": False}


def test_sft_reads_what_the_corpus_says_and_learns_the_rest() -> None:
    processor = policy("tiny:llama").processor
    row = next(r for r in _rows() if (r.reference_response or "").count("</document>"))
    (prompt, ids, _), own = encode_example(processor, row, in_tags(row, ["results", "document"]))
    assert processor.decode(ids) == row.reference_response
    assert len(own) == len(ids)
    given = processor.decode([i for i, mine in zip(ids, own, strict=True) if not mine])
    assert given == "".join(
        m[0] for m in re.finditer(r"<(results|document)>.*?</\1>", row.reference_response or "", re.S)
    )
    assert own[-1]
    assert ids[-1] == processor.eos_token_ids[0]
    # Without tags of context every id is learned, those of the whole text.
    (same, whole, _), all_own = encode_example(processor, row)
    assert (same, whole) == (prompt, processor.encode_completion(row.reference_response or ""))
    assert all(all_own)


def test_a_tiny_model_sees_one_token_a_word_of_a_name() -> None:
    """Where a name's last word was two tokens, no policy learned to tell such a name from another."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    processor = load_policy(resolve_policy("tiny:llama")).processor
    words = {word for town in towns() for word in town.name.split()}
    before = len(processor.encode_completion("in"))
    assert {word for word in words if len(processor.encode_completion(f"in {word}")) != before + 1} == set()
    assert len({town.name for town in towns()}) == 14 * 12 * 16
