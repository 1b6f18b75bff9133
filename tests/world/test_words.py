"""The tokenizer's corpus covers what the world says; what it says is short."""

from __future__ import annotations

from stages.core.config import build
from stages.core.registry import load
from stages.world.corpus import corpus, described_corpus


def rows():
    plugin = load("dataset", "builtin")
    options = build(plugin.options, {"train": 1200, "test": 600}, "builtin")
    return [plugin.row(r, options) for r in plugin.records(options, 11)]


def test_corpus_covers_every_word_of_prompts_and_completions():
    known = {word for line in corpus() for word in line.split()}
    for row in rows():
        said = " ".join(p.text or "" for m in row.messages for p in m.content)
        said += " " + (row.reference_response or "") + " " + " ".join(row.choices)
        assert set(said.split()) <= known, set(said.split()) - known
        assert row.answer is None or set(row.answer.split()) <= known


def test_corpus_is_the_same_every_time_and_spells_any_text():
    lines = list(corpus())
    assert lines == list(corpus())
    assert 300 <= len({w for line in lines for w in line.split() if len(w) > 1}) <= 600
    assert set("abcxyzABCXYZ0189,.?!'") <= set(" ".join(lines))
    assert "<think>" in " ".join(lines)


def test_prompts_and_completions_are_short():
    for row in rows():
        assert sum(len((p.text or "").split()) for m in row.messages for p in m.content) <= 40
        if row.reference_response:
            assert len(row.reference_response.split()) <= 30
            assert row.reference_response.startswith("<think> ")
            assert row.reference_response.count("</think>") == 1


def test_the_described_corpus_covers_the_perception_recipes():
    known = {word for line in described_corpus() for word in line.split()}
    plugin = load("dataset", "builtin")
    options = build(plugin.options, {"train": 900, "test": 0, "prices": 0.5, "targets": "describe", "vague": 0.3}, "b")
    for record in plugin.records(options, 4):
        row = plugin.row(record, options)
        said = f"{' '.join(p.text or '' for m in row.messages for p in m.content)} {row.reference_response}"
        assert set(said.split()) <= known, set(said.split()) - known
