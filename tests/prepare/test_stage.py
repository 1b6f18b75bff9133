"""The whole stage through the runner."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.prepare.config import PrepareConfig
from stages.prepare.sources import parse
from stages.prepare.stage import STAGE
from tests.prepare.made import image, needs_shared, prepare, write_lines
from tests.support.cli import SHARED, complaint, cosmo

NAMES = [
    *("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"),
    *("koi", "lark", "mole", "newt", "owl", "pig", "quail", "ram", "seal", "toad"),
]


def questions(n: int, seed: int = 7, **more: Any) -> list[dict[str, Any]]:
    """n prompts with few words in common."""
    rng = random.Random(seed)
    return [{"prompt": f"{' '.join(rng.sample(NAMES, 9))} {i} ?", "answer": i, **more} for i in range(n)]


def test_rows_rejects_and_the_undrawn_add_up(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(image())
    (tmp_path / "cut.png").write_bytes(image(size=(99, 99))[:50])
    items = [*questions(30), *questions(3), "{", {"prompt": "see", "image": "cut.png"}]
    items += [
        {"prompt": "see", "image": "good.png"},
        *questions(1, label="odd"),
        {"prompt": "t", "split": "test"},
    ]
    file = write_lines(tmp_path / "a.jsonl", *items)
    run = prepare(tmp_path / "runs", f"jsonl:{file}", weights={"general": 1.0}, split="train", shard_rows=7)
    provenance = run.folder.manifest.provenance
    assert provenance["records"] == {"0 jsonl": len(items)}
    assert len(run.rows) + len(run.rejected) + sum(provenance["not_drawn"].values()) == len(items)
    assert sorted(set(run.why().values())) == ["duplicate", "malformed", "near_duplicate", "truncated_image"]
    assert provenance["labels"] == {"general": len(run.rows) + 1}


def test_shuffled_lines_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    items = questions(40)
    first = write_lines(tmp_path / "a.jsonl", *items)
    random.Random(1).shuffle(items)
    (tmp_path / "b").mkdir()
    second = write_lines(tmp_path / "b" / "a.jsonl", *items)
    for config in ({}, {"limit": 9}, {"limit": 9, "seed": 3}):
        one = prepare(tmp_path / "runs", f"jsonl:{first}", **config)
        other = prepare(tmp_path / "runs", f"jsonl:{second}", **config)
        assert one.rows == other.rows
        assert one.folder.path != other.folder.path
    assert one.rows != prepare(tmp_path / "runs", f"jsonl:{first}", limit=9).rows


def test_a_moved_source_is_the_same_run_and_shards_do_not_change_rows(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    files = [write_lines(tmp_path / p / "a.jsonl", *questions(20)) for p in ("", "moved")]
    first = prepare(tmp_path / "runs", f"jsonl:{files[0]}")
    moved = prepare(tmp_path / "runs", {"name": "jsonl", "path": str(files[1])})
    assert (moved.state, moved.folder.fingerprint) == ("cached", first.folder.fingerprint)
    assert prepare(tmp_path / "runs", f"jsonl:{files[0]}", shard_rows=3).rows == first.rows


def test_several_sources_share_shards(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", *questions(20, label="value"))
    two = write_lines(tmp_path / "two.jsonl", *questions(20, seed=8, label="math"))
    run = prepare(tmp_path / "runs", f"jsonl:{one}", {"name": "jsonl", "path": str(two), "limit": 5}, shard_rows=8)
    assert len(run.rows) == 25
    assert sum(r.source == "jsonl:two" for r in run.rows) == 5
    assert run.folder.total == 4
    assert run.folder.manifest.provenance["not_drawn"] == {"limit of its source": 15}


def test_rotated_images_get_the_id_of_what_is_stored(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    from schemas.identity import prompt_id

    exif = Pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "phone.jpg").write_bytes(image(kind="JPEG", exif=exif))
    (tmp_path / "web.png").write_bytes(image(kind="WEBP"))
    items = [{"prompt": f"what is in the {n} picture ?", "image": n} for n in ("phone.jpg", "web.png")]
    run = prepare(tmp_path / "runs", f"jsonl:{write_lines(tmp_path / 'a.jsonl', *items)}")
    for row in run.rows:
        wanted = prompt_id(label=row.label, messages=row.messages, images=row.images, answer=row.answer)
        assert row.id == wanted
    assert {i.path for r in run.rows for i in r.images} == {"phone.png", "web.png"}
    assert run.notes == ["1 images are of another type than their name says: web.png is WEBP"]


def test_nothing_left_says_why(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(image(size=(99, 99))[:50])
    bad = write_lines(tmp_path / "bad.jsonl", "{", "[]")
    images = write_lines(tmp_path / "pictures.jsonl", {"prompt": "see", "image": "cut.png"})
    fine = write_lines(tmp_path / "fine.jsonl", *questions(4))
    with pytest.raises(InputError, match="no rows left: 2 malformed") as error:
        prepare(tmp_path / "runs", f"jsonl:{bad}")
    assert "bad.jsonl line 1" in error.value.hint
    with pytest.raises(InputError, match="no rows left: 1 truncated_image"):
        prepare(tmp_path / "runs", f"jsonl:{images}")
    with pytest.raises(InputError, match="no rows left: 4 split train") as error:
        prepare(tmp_path / "runs", f"jsonl:{fine}", split="test")
    assert "prepare.split" in error.value.hint


def test_decontamination(tmp_path: Path) -> None:
    leaked = "the mill by the river grinds twelve sacks of corn a day and sells half of them"
    mine = write_lines(
        tmp_path / "mine.jsonl", *questions(5), {"prompt": f"once {leaked} how many ?"},
        {"prompt": f"{leaked} in the test of my own", "split": "test"},
    )  # fmt: skip
    tests = write_lines(tmp_path / "tests.jsonl", {"prompt": f"so {leaked} at noon"})
    with pytest.raises(InputError, match="no test rows"):
        prepare(tmp_path / "runs", f"jsonl:{mine}", decontaminate=[f"jsonl:{tests}"])
    spec = {"name": "jsonl", "path": str(tests), "split": "test"}
    run = prepare(tmp_path / "runs", f"jsonl:{mine}", decontaminate=[spec])
    assert run.why() == {"mine.jsonl line 6": "contaminated"}
    assert "jsonl tests.jsonl line 1" in run.rejected[0].detail
    assert len(run.rows) == 6


def test_sources_as_typed_and_as_tables() -> None:
    assert parse("builtin", "prepare").name == "builtin"
    assert parse("jsonl:C:/odd path.jsonl", "prepare").options.path == "C:/odd path.jsonl"
    assert parse({"name": "gsm8k", "path": "x", "limit": 3}, "prepare").limit == 3
    assert parse("mine.jsonl", "prepare").shown == "any:mine.jsonl"
    cases = [
        ("gsm9k:x", "unknown dataset 'gsm9k'", "gsm8k"),
        ("gsm8k", "needs a path", "gsm8k:PATH"),
        ("gsm8k:", "needs a path", "gsm8k:PATH"),
        ({"name": "mine.jsonl"}, "is a file", "jsonl:mine.jsonl"),
        ("builtin:x", "takes no path", "train"),
        ({"path": "x"}, "names no dataset", "name"),
        (7, "names no dataset", "name"),
        ({"name": "gsm8k", "path": "x", "subst": "test"}, "unknown key 'subst'", "subset"),
        ({"name": "gsm8k", "path": "x", "subset": "dev"}, "'dev'", "train"),
        ({"name": "gsm8k", "path": "x", "limit": "3"}, "limit", "0"),
        ({"name": "gsm8k", "path": 3}, "int", "str"),
    ]
    for spec, message, hint in cases:
        with pytest.raises(UsageError) as error:
            parse(spec, "prepare.sources")
        assert message in error.value.message, spec
        assert hint in error.value.hint, spec
    with pytest.raises(UsageError, match="no dataset"):
        prepare(Path("runs"))
    assert build(PrepareConfig, {"sources": ["a", {"name": "b"}]}, "prepare").sources == ["a", {"name": "b"}]


def test_a_changed_source_after_planning_is_an_error_and_not_other_rows(tmp_path: Path) -> None:
    from stages.core.stage import Context, Resources, Silent
    from stages.prepare.stage import STAGE

    file = write_lines(tmp_path / "a.jsonl", *questions(9))
    ctx = Context(PrepareConfig(sources=[f"jsonl:{file}"]), [], Silent(), Resources())
    plan = STAGE.plan(ctx)
    write_lines(file, *questions(2))
    work = STAGE.open(Context(ctx.config, [], Silent(), Resources()))
    with pytest.raises(InputError, match="changed"):
        work(plan.shards[0], None)


def test_planning_again_compares_nothing_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_lines(tmp_path / "a.jsonl", *questions(3000))
    first = prepare(tmp_path / "runs", f"jsonl:{file}")

    def refuse(*_: object) -> None:
        raise AssertionError("planned anew, though nothing has changed")

    monkeypatch.setattr("stages.prepare.mixing.choose", refuse)
    again = prepare(tmp_path / "runs", f"jsonl:{file}")
    assert again.state == "cached"
    assert again.rows == first.rows


@needs_shared
def test_all_public_sets_in_one_run(tmp_path: Path) -> None:
    """Counts of ../shared/data/README.md: every row of every set is a row or a rejected row."""
    sets = ("math_v", "xstest", "figstep")
    run = prepare(
        tmp_path / "runs",
        *(f"{name}:{SHARED / name}" for name in sets),
        {"name": "gsm8k", "path": str(SHARED / "gsm8k"), "limit": 200},
        decontaminate=[f"gsm8k:{SHARED / 'gsm8k'}"],
    )
    provenance = run.folder.manifest.provenance
    assert provenance["records"] == {"0 math_v": 304, "1 xstest": 450, "2 figstep": 550, "3 gsm8k": 8792}
    by_set = {s: sum(r.source.split(":")[0] == s for r in run.rows) for s in (*sets, "gsm8k")}
    assert by_set == {"math_v": 304, "xstest": 450, "figstep": 110, "gsm8k": 200}
    assert len(run.rows) + len(run.rejected) + sum(provenance["not_drawn"].values()) == 304 + 450 + 550 + 8792
    reasons = {r.reason for r in run.rejected}
    assert reasons == {"missing_image", "contaminated", "near_duplicate"}
    assert all(r.flags == ["no_training"] for r in run.rows if not r.source.startswith("gsm8k"))


def test_the_built_in_world_loses_nothing_on_the_way(tmp_path: Path) -> None:
    run = prepare(tmp_path / "runs", {"name": "builtin", "train": 60, "test": 40})
    assert (len(run.rows), len(run.rejected)) == (100, 0)
    assert len({r.id for r in run.rows}) == 100
    ids = {r.id for r in run.rows}
    twins = [r for r in run.rows if r.harmful is False and r.parent_id is not None]
    assert len(twins) > 10
    assert all(r.parent_id in ids for r in twins)


def test_a_run_says_its_labels_and_warns_where_most_was_rejected(tmp_path: Path) -> None:
    fine = write_lines(tmp_path / "fine.jsonl", *questions(4), questions(4)[0], {**questions(5)[4], "label": "math"})
    made = prepare(tmp_path / "runs", f"jsonl:{fine}")
    quality = STAGE.quality(made.folder)
    assert quality.line == "4 general, 1 math"
    assert quality.numbers == {"labels": {"general": 4, "math": 1}, "rejected": {"duplicate": 1}, "duplicates": 1}
    assert quality.warning is quality.failure is None
    # Of copies one is left: however many they are, nothing is lost. Of bad lines, none is.
    copies = write_lines(tmp_path / "copies.jsonl", *questions(1) * 9)
    assert STAGE.quality(prepare(tmp_path / "runs", f"jsonl:{copies}").folder).warning is None
    bad = write_lines(tmp_path / "bad.jsonl", *questions(2), *["{"] * 2, {"answer": 1}, *questions(2)[:1] * 3)
    quality = STAGE.quality(prepare(tmp_path / "runs", f"jsonl:{bad}").folder)
    assert quality.warning == "3 of 5 samples were rejected, 3 of them as malformed"
    assert quality.hint.endswith("--rejected")


def test_a_run_without_a_row_exits_with_3(tmp_path: Path) -> None:
    bad = write_lines(tmp_path / "bad.jsonl", "{")
    done = cosmo("prepare", f"jsonl:{bad}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no rows left: 1 malformed" in complaint(done)[0]
