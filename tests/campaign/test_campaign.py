"""The campaign itself: it runs, a seed is the same campaign again, and what it looks for it sees."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.chain import Faults, Said, contents, staged
from tests.campaign.damage import change, changed_bytes
from tests.campaign.kills import compare
from tests.campaign.strangers import MODELS, replaced
from tests.support.cli import PATIENCE, ROOT, environment


def test_a_short_one_finds_nothing(tmp_path: Path) -> None:
    counts = {
        "kills": 3, "disks": 3, "servers": 2, "surroundings": 3, "models": 3, "runs": 3, "ranks": 1, "views": 10,
        "confirmed": 2, "damaged": 12,
    }  # fmt: skip
    words = [word for name, count in counts.items() for word in (f"--{name}", str(count))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign", "--seed", "7", *words],
        cwd=ROOT, env=environment(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.startswith("campaign, seed 7: 3 kills (")
    assert ", 0 faults, " in done.stdout
    assert list(tmp_path.glob("campaign-*")) == []


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Said(0, "runs/x\n", ""), 0),
        (Said(3, "", "cosmo show: no\n  hint: do\n"), 0),
        (Said(3, "", "cosmo show: no\n"), 1),
        (Said(1, "", "cosmo: no\n  hint: this looks like a bug\n"), 2),
        (Said(3, "", "Traceback (most recent call last)\n hint:"), 1),
        (Said(-9, "", ""), 1),
    ],
)
def test_what_a_person_may_not_meet_is_a_fault(said: Said, found: int) -> None:
    faults = Faults([])
    faults.look("it", said)
    assert len(faults.found) == found, faults.found


def test_other_rows_leftovers_and_strays_are_faults(tmp_path: Path) -> None:
    from stages.core.runner import Options, run_stage
    from tests.support.toy import ToyConfig, ToyStage

    place = tmp_path / "place"
    run = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=place / "runs")).path
    expected = contents(place / "runs")
    assert expected

    def found() -> list[str]:
        faults = Faults([])
        compare("it", place, expected, faults)
        return faults.found

    assert found() == []
    (run / "staging" / "left").write_text("")
    assert staged(place / "runs") == [f"{run.name}/staging/left"]
    (place / "stray").write_text("")
    shards = sorted((run / "shards").iterdir())
    shutil.copyfile(shards[0], shards[1])
    assert [fault.split(": ")[1].split(" ")[-1] for fault in found()] == ["differ", "behind", "outside"]


def test_a_seed_is_the_same_damage() -> None:
    def made(seed: int) -> list[object]:
        rng, record = random.Random(seed), {"a": [1, {"b": "c"}], "d": "e"}
        for _ in range(4):
            change(record, rng)
        return [changed_bytes(b"some bytes of a file", rng), repr(record)]

    assert made(3) == made(3)
    assert len({str(made(seed)) for seed in range(20)}) > 15


def test_a_link_out_of_a_folder_leads_to_something(tmp_path: Path) -> None:
    """One that dangles is refused as missing, whatever is done about links."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    seen = set()
    for seed in range(60):
        folder = tmp_path / str(seed)
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "b").write_text("")
        if replaced(folder, elsewhere, random.Random(seed)).endswith("a link out"):
            (link,) = (path for path in folder.rglob("*") if path.is_symlink())
            assert link.resolve(strict=True).is_relative_to(elsewhere)
            seen.add(link.is_dir())
    assert seen == {True, False}
    # A model lies one folder higher than a run does.
    for seed in range(60):
        model = tmp_path / f"made {seed}" / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        MODELS["another thing for a file"](model, random.Random(seed))
        if (model / "config.json").is_symlink() and (model / "config.json").readlink().name == "kept":
            assert (model / "config.json").read_text() == "kept"
            return
    pytest.fail("no link out of a model folder was tried")
