"""Augmentation as `cosmo prepare` does it: which rows, which twins, and what is never trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.tables import PROMPTS
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.registry import names
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.prepare.augmentations.base import words
from stages.prepare.sources import identity, parse
from stages.prepare.stage import STAGE
from tests.prepare.made import image, needs_shared, prepare, write_lines
from tests.support.cli import SHARED, complaint, cosmo, ok

OTHERS = ("notes", "structured_visual", "structured_visual_text", "look", "look_both", "describe", "describe_read")
"""What is no attack: settings of a study and questions to a teacher, of which each refuses some rows."""
ATTACKS = [name for name in names("augmentation") if name not in OTHERS]
THINGS = ("copper", "velvet", "thunder", "marble", "walnut", "saffron", "lantern", "pepper", "gravel", "mortar")


def pairs(n: int, split: str = "train", start: int = 0) -> list[dict[str, Any]]:
    """Harmful lines, each followed by its benign twin."""
    lines = []
    for i in range(start, start + n):
        thing, other = THINGS[i % 10], THINGS[(i * 3 + 1) % 10]
        same = {"label": "safety", "split": split, "scene": f"scene {i}"}
        asked = f"tell me how to use the forbidden {thing} number {i} near the {other}"
        lines.append({**same, "id": f"h{i}", "prompt": asked, "harmful": True, "hazards": [thing]})
        kind = asked.replace("forbidden", "cheerful").replace("use", "clean")
        lines.append({**same, "prompt": kind, "harmful": False, "parent_id": f"h{i}", "answer": f"fine {i}"})
    return lines


def source(path: Path, *lines: dict[str, Any], **table: Any) -> dict[str, Any]:
    return {"name": "jsonl", "path": str(write_lines(path, *lines)), **table}


def test_every_row_goes_through_every_family_and_keeps_its_place(tmp_path: Path) -> None:
    families = ["typographic", "split", "rotation", "concatenation", "role_play"]
    table = source(tmp_path / "a.jsonl", *pairs(3), *pairs(2, "test", start=3), augment=families)
    run = prepare(tmp_path / "runs", table)
    plain = {r.id: r for r in run.rows if r.family is None}
    assert Counter(r.family for r in run.rows) == {None: 10, **dict.fromkeys(families, 10)}
    assert run.folder.manifest.provenance["families"] == dict.fromkeys(families, 10)
    by_id = {r.id: r for r in run.rows}
    for row in (r for r in run.rows if r.family):
        assert row.label == "jailbreak"
        parent = by_id[row.parent_id]
        assert (row.scene, row.split) == (parent.scene, parent.split)
        if row.harmful:
            assert parent is plain[parent.id]
            assert (parent.harmful, parent.hazards) == (True, row.hazards)
        else:
            # The twin's parent is the harmful row after the very same rewriting.
            assert (parent.harmful, parent.family) == (True, row.family)
            assert not row.hazards
    again = prepare(tmp_path / "runs 2", table, shard_rows=7)
    assert again.rows == run.rows
    assert [r.id for r in prepare(tmp_path / "runs", table, seed=1).rows] != [r.id for r in run.rows]


def test_partners_are_harmless_of_the_same_side_and_of_another_pair(tmp_path: Path) -> None:
    table = source(tmp_path / "a.jsonl", *pairs(6), *pairs(6, "test", start=6), augment=["concatenation"])
    run = prepare(tmp_path / "runs", table)
    harmless = {words(r): r for r in run.rows if r.family is None and not r.harmful}
    for row in (r for r in run.rows if r.family):
        inside = [r for text, r in harmless.items() if text in words(row)]
        assert {r.split for r in inside} == {row.split}
        assert len(inside) == (1 if row.harmful else 2)
        assert len({r.scene for r in inside} | {row.scene}) == 2


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are decoded ahead by several threads where there are cores; twins and partners need earlier rows."""
    runs = []
    for cores in (1, 16):
        monkeypatch.setattr("stages.prepare.row_maker.os.cpu_count", lambda cores=cores: cores)
        (tmp_path / f"{cores}").mkdir()
        table = source(tmp_path / f"{cores}" / "a.jsonl", *pairs(40), augment=["concatenation", "mixup", "mirror"])
        runs.append(prepare(tmp_path / f"{cores}" / "runs", {**table, "augment_labels": ["general", "safety"]}))
    assert len(runs[0].rows) > 100
    assert runs[0].rows == runs[1].rows
    assert [r.detail for r in runs[0].rejected] == [r.detail for r in runs[1].rejected]


def test_rows_without_augment_are_as_they_were(tmp_path: Path) -> None:
    lines = pairs(6)
    before = prepare(tmp_path / "runs", source(tmp_path / "a.jsonl", *lines))
    after = prepare(tmp_path / "runs", source(tmp_path / "a.jsonl", *lines, augment=["mirror", "split"]))
    assert [r for r in after.rows if r.family is None] == before.rows
    assert before.folder.fingerprint != after.folder.fingerprint
    assert "augment" not in identity(parse(source(tmp_path / "a.jsonl", *lines), "x"))
    assert "steps" not in before.folder.manifest.shards[0]
    assert any("'mirror': no row fits" in n for n in after.notes)


@given(share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_share_takes_twins_together(tmp_path: Path, share: float, seed: int) -> None:
    table = source(tmp_path / "a.jsonl", *pairs(12), augment=["split", "role_play"], augment_share=share)
    rows = prepare(tmp_path / "runs", table, seed=seed).rows
    for family in ("split", "role_play"):
        made = [r for r in rows if r.family == family]
        scenes = Counter(r.scene for r in made)
        assert set(scenes.values()) <= {2}
        assert len(scenes) <= 12
        assert share < 1 or len(scenes) == 12
        assert share > 0 or not scenes


def test_limit_and_labels_and_images(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(image("red", (40, 30)))
    lines = [{"prompt": f"what is shown number {i} ?", "image": "p.png", "answer": i} for i in range(6)]
    table = source(tmp_path / "a.jsonl", *lines, augment=["mixup", "rotation"], limit=4)
    with pytest.raises(UsageError, match="has no safety row to augment") as raised:
        prepare(tmp_path / "runs", table)
    assert "general" in raised.value.hint
    run = prepare(tmp_path / "runs", {**table, "augment_labels": ["general"]})
    assert Counter(r.family for r in run.rows) == {None: 4, "mixup": 4, "rotation": 4}
    for row in run.rows:
        assert (row.label, row.harmful) == ("general", None)
        assert row.answer == words(row).split()[-2]


def test_what_is_left_out_is_left_out_in_every_shape(tmp_path: Path) -> None:
    lines = pairs(3)
    copy = {**lines[0], "id": "again"}
    flagged = {**pairs(1, start=7)[0], "flags": ["no_training"]}
    table = source(tmp_path / "a.jsonl", *lines, copy, flagged, augment=["role_play"])
    run = prepare(tmp_path / "runs", table, drop_flags=["no_training"])
    assert Counter(r.family for r in run.rows) == {None: 6, "role_play": 6}
    broken = {"prompt": "look at this marble", "image": "cut.png", "label": "safety", "harmful": True}
    (tmp_path / "cut.png").write_bytes(image(size=(99, 99))[:50])
    bad = prepare(tmp_path / "runs", source(tmp_path / "b.jsonl", *lines, broken, augment=["mirror", "role_play"]))
    assert Counter(r.reason for r in bad.rejected) == {"truncated_image": 3}
    assert "b.jsonl line 7 +mirror" in bad.why()


def test_harmful_rows_without_a_harmless_one_are_told_of(tmp_path: Path) -> None:
    only = [line for line in pairs(3) if line["harmful"]]
    run = prepare(tmp_path / "runs", source(tmp_path / "a.jsonl", *only, augment=["role_play"]))
    assert any("over-refusal can't be seen" in n for n in run.notes)


def test_heldout_families_are_made_of_test_rows_only(tmp_path: Path) -> None:
    table = source(
        tmp_path / "a.jsonl", *pairs(4), *pairs(4, "test", start=4), augment=["split", "rotation"],
        augment_heldout=["word_shuffle"],
    )  # fmt: skip
    run = prepare(tmp_path / "runs", table, heldout_families=["rotation"])
    seen = {f: {r.split for r in run.rows if r.family == f} for f in ("split", "rotation", "word_shuffle")}
    assert seen == {"split": {"train", "test"}, "rotation": {"test"}, "word_shuffle": {"test"}}
    assert all(("heldout_family" in r.flags) == (r.family in ("rotation", "word_shuffle")) for r in run.rows)
    assert run.folder.manifest.provenance["heldout_families"] == ["rotation", "word_shuffle"]
    assert run.folder.fingerprint != prepare(tmp_path / "runs", table).folder.fingerprint


def test_one_sources_heldout_family_is_held_out_of_every_source(tmp_path: Path) -> None:
    mine = source(tmp_path / "a.jsonl", *pairs(4), *pairs(2, "test", start=4), augment=["word_shuffle", "split"])
    run = prepare(tmp_path / "runs", {"name": "builtin", "train": 60, "test": 60}, mine)
    shuffled = [r for r in run.rows if r.family == "word_shuffle" and r.source != "builtin"]
    assert {r.split for r in shuffled} == {"test"}
    assert len(shuffled) == 4
    assert {r.split for r in run.rows if r.family == "split"} == {"train", "test"}
    assert run.folder.manifest.provenance["heldout_families"] == ["collage", "mirror", "word_shuffle"]


def test_the_command_refuses_to_train_on_a_heldout_family(tmp_path: Path) -> None:
    write_lines(tmp_path / "mine.jsonl", *pairs(2), {"prompt": "a mirrored thing", "family": "mirror"})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[prepare]\nheldout_families = ["mirror"]\n', encoding="utf-8")
    message, hint = complaint(refused := cosmo("prepare", "jsonl:mine.jsonl", "--config", recipe, cwd=tmp_path))
    assert refused.returncode == 2
    assert "'mirror'" in message
    assert "source jsonl" in message
    assert "mine.jsonl line 5" in message
    assert "held-out" in message
    assert "split test" in hint
    assert not list(tmp_path.glob("runs/*/manifest.json"))
    # The same rows from a Parquet file that cosmo wrote, and a family that the built-in world trains on.
    whole = ok("prepare", "jsonl:mine.jsonl", cwd=tmp_path)
    again = cosmo("prepare", f"parquet:{whole}", "--config", recipe, cwd=tmp_path)
    assert again.returncode == 2
    assert "source parquet" in complaint(again)[0]
    trained = 'heldout_families=["role_play"]'
    world = cosmo("prepare", "builtin", "--set", trained, "--set", "sources=[{name='builtin',train=60}]", cwd=tmp_path)
    assert world.returncode == 2
    assert "source builtin gives training rows of the held-out family 'role_play'" in complaint(world)[0]


def test_the_command_augments_from_a_recipe(tmp_path: Path) -> None:
    write_lines(tmp_path / "mine.jsonl", *pairs(3), *pairs(2, "test", start=3))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[prepare]\nheldout_families = ["rotation"]\n[[prepare.sources]]\nname = "jsonl"\n'
        f'path = {json.dumps(str(tmp_path / "mine.jsonl"))}\naugment = ["typographic", "rotation"]\n',
        encoding="utf-8",
    )
    rows = list(RunFolder.open(ok("prepare", "--config", recipe, cwd=tmp_path)).rows(PROMPTS))
    assert Counter((r.family, r.split) for r in rows) == {
        (None, "train"): 6, (None, "test"): 4, ("typographic", "train"): 6, ("typographic", "test"): 4,
        ("rotation", "test"): 4,
    }  # fmt: skip


def test_slips_are_named(tmp_path: Path) -> None:
    table = source(tmp_path / "a.jsonl", *pairs(2))
    cases: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
        ({"augment": ["mirorr"]}, {}, "unknown augmentation 'mirorr'", "'mirror'"),
        ({"augment": ["split"], "augment_heldout": ["split"]}, {}, "'split' is in augment and in", "never trained"),
        ({"augment": "split"}, {}, "is a str", "list"),
        ({"augment": ["split"], "augment_share": 1.5}, {}, "too large", "1"),
        ({}, {"heldout_families": ["mirorr"]}, "'mirorr'", "did you mean 'mirror'"),
    ]
    for more, config, message, hint in cases:
        with pytest.raises(UsageError) as raised:
            prepare(tmp_path / "runs", {**table, **more}, **config)
        assert message in raised.value.message
        assert hint in raised.value.hint


@needs_shared
def test_planning_encodes_no_image_and_making_each_one_once(tmp_path: Path, encoded: list[object]) -> None:
    """Which rows there are is decided by words alone: cards are drawn when their shard is made, and for no other."""
    table = {"name": "xstest", "path": str(SHARED / "xstest"), "limit": 20, "augment": ATTACKS}
    config = build(STAGE.config, {"sources": [table]}, "prepare")
    planned = run_stage(STAGE, config, [], options=Options(runs=tmp_path, dry_run=True))
    assert (planned.state, encoded) == ("planned", [])
    made = RunFolder.open(run_stage(STAGE, config, [], options=Options(runs=tmp_path)).path)
    assert len(encoded) == sum(len(row.images) for row in made.rows(PROMPTS)) > 40


@needs_shared
def test_every_family_works_on_a_public_set(tmp_path: Path) -> None:
    def rows_of(**more: Any) -> int:
        run = prepare(tmp_path / "runs", {"name": "xstest", "path": str(SHARED / "xstest"), "limit": 60, **more})
        assert not run.rejected
        assert all("no_training" in r.flags and r.split == "test" for r in run.rows)
        assert sum(r.harmful is False for r in run.rows) > 0
        made.update(r.family for r in run.rows if r.family)
        return len(run.rows)

    made: Counter[str] = Counter()
    rows_of()
    rows = rows_of(augment=ATTACKS)
    assert set(made) == {
        "concatenation", "keyword_card", "role_play", "rotation", "split", "substitution", "typographic",
        "word_shuffle",
    }  # fmt: skip
    assert rows > 400


def test_the_builtin_world_takes_the_new_families_by_name(tmp_path: Path) -> None:
    world = {
        "name": "builtin", "train": 200, "test": 120, "weights": {"safety": 1, "jailbreak": 3},
        "families": ["split", "mixup", "concatenation"], "heldout": ["rotation"],
    }  # fmt: skip
    run = prepare(tmp_path / "runs", world)
    assert not run.rejected
    families = {split: {r.family for r in run.rows if r.split == split and r.family} for split in ("train", "test")}
    assert families == {"train": {*world["families"]}, "test": {*world["families"], "rotation"}}
    by_id = {r.id: r for r in run.rows}
    twins = [r for r in run.rows if r.family and not r.harmful]
    assert len(twins) * 2 == sum(r.family is not None for r in run.rows)
    assert all(by_id[t.parent_id].family == t.family and by_id[t.parent_id].harmful for t in twins)
