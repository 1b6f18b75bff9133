"""Recipes: strict, and the plan of steps they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmo_cli.recipe.label_check import check_formulas
from cosmo_cli.recipe.planning.disk_estimate import estimate, size
from cosmo_cli.recipe.progress import clock
from cosmo_cli.recipe.retention import prune
from cosmo_cli.recipe.run import step_values
from cosmo_cli.recipe.schema import Retention, parse, stage_table
from cosmo_cli.recipe.steps import Step, command_line, steps_of, toml_value
from cosmo_cli.recipe.tables import Ref, flatten
from stages.core.config import assign, parse_assignment
from stages.core.errors import InputError, UnavailableError, UsageError
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Quality, ShardWriter, Work
from tests.support.cli import cosmo
from tests.support.toy import ToyConfig, ToyStage

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "prepare": {"sources": ["builtin"]},
    "rollout": {"samples": 4},
    "phases": [
        {"name": "sft", "objective": "sft", "train": {"steps": 5}},
        {"name": "one", "iterations": 2, "prompts": 8, "labels": {"general": 3.0, "knowledge": 1.0}},
        {"name": "two", "iterations": 1, "prompts": 8, "labels": {"safety": 1.0}, "replay": 0.4},
    ],
    "evaluate": {"after": {"start": "sft", "final": "two"}, "rollout": {"samples": 1}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    import copy

    values = copy.deepcopy(SMALL)
    target: Any = values
    *way, last = path.split(".")
    for name in way:
        target = target[int(name)] if name.isdigit() else target[name]
    target[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message", "hint"),
    [
        ("rolout", {}, "unknown key 'rolout' in [recipe]", "did you mean 'rollout'?"),
        ("rollout.sampels", 3, "unknown key 'sampels' in [rollout]", "did you mean 'samples'?"),
        ("phases.1.itertions", 3, "unknown key 'itertions' in [recipe.phases[1]]", "did you mean 'iterations'?"),
        ("phases.0.train", {"stesp": 1}, "unknown key 'stesp' in [phases.train]", "did you mean 'steps'?"),
        ("name", "[" * 9000, "is no name for a folder of runs", "name ="),
        ("name", "../elsewhere", "name = '../elsewhere' is no name for a folder", "name ="),
        ("name", "..", "name = '..' is no name for a folder", "name ="),
        ("name", "a\x00b", "is no name for a folder", "name ="),
        ("phases.2.name", "one", "phase 2 needs a name of its own, not 'one'", ""),
        ("phases.1.prompts", 0, "phase 'one' does not say how many prompts", "prompts = 32"),
        ("phases.1.objective", "ppo", "recipe.phases[1].objective = 'ppo' is not a choice", "rl, sft"),
        ("phases.1.objective", "reward", "recipe.phases[1].objective = 'reward' trains no policy", "cosmo train RUN"),
        ("evaluate.after", {"end": "three"}, "evaluate.after.end = 'three' is no phase", "sft, one, two"),
        ("phases.2.replay", 1.5, "recipe.phases[2].replay = 1.5 is too large", ""),
    ],
)
def test_mistakes_name_themselves(path: str, value: Any, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(changed(path, value))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_policy_that_a_recipe_starts_from_is_measured_too() -> None:
    steps = steps_of(parse(changed("evaluate.after", {"base": "start", "final": "two"})))
    assert [s.name for s in steps[:4]] == ["prompts", "base_groups", "base_scored", "sft"]
    assert steps[1].overrides["policy"] == "tiny:qwen2_5_vl"
    assert next(s for s in steps if s.verb == "eval").overrides["names"] == ["base", "final"]
    # A phase of that name is what is meant where there is one.
    named = changed("phases.0.name", "start")
    named["evaluate"]["after"] = {"base": "start", "final": "two"}
    assert [s.name for s in steps_of(parse(named))[:3]] == ["prompts", "start", "base_groups"]


def test_a_pretrained_policy_is_measured_without_any_phase() -> None:
    steps = steps_of(parse({"evaluate": {"after": {"base": "start"}}}))
    assert [s.name for s in steps] == ["prompts", "base_groups", "base_scored", "metrics"]


@pytest.mark.parametrize(
    ("place", "terms", "said"),
    [
        ("phases.2.score", {}, "no terms"),
        ("evaluate.score", {"anser": 1.0}, "anser"),
        ("score", {"anser": 1.0}, "anser"),
    ],
)
def test_formulas_that_cannot_be_are_said_before_anything_is_paid_for(
    place: str, terms: dict[str, float], said: str, tmp_path: Path
) -> None:
    check_formulas(parse(SMALL))
    values = changed(place, {"rewards": {"general": {"combine": "replace", "terms": terms}}})
    with pytest.raises(UsageError, match=said):
        check_formulas(parse(values))
    (tmp_path / "r.toml").write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in values.items()))
    for command in (["run", "r.toml"], ["run", "r.toml", "--dry-run"], ["config", "r.toml"]):
        done = cosmo(*command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["r.toml"]


def test_steps_of_a_recipe() -> None:
    steps = steps_of(parse(SMALL))
    verbs = [s.verb for s in steps]
    turn = ["rollout", "score", "train"]
    measure = ["rollout", "score"]
    assert verbs == ["prepare", "train", *measure, *turn, *turn, *turn, *measure, "eval", "export"]
    by_name = {s.name: s for s in steps}
    # Each turn samples from, and trains, the policy of the turn before.
    assert by_name["one_1_groups"].overrides["policy"] == Ref("sft")
    assert by_name["one_2"].overrides["policy"] == Ref("one_1")
    assert by_name["two_1_groups"].overrides["policy"] == Ref("one_2")
    assert by_name["one_2_groups"].overrides["select.draw"] == 1
    assert by_name["metrics"].inputs == [Ref("start_scored"), Ref("final_scored")]
    assert by_name["start_groups"].overrides["policy"] == Ref("sft")
    assert by_name["final_groups"].overrides["select.split"] == "test"
    assert [s.name for s in steps if s.ends_phase] == ["sft", "one_2", "two_1"]


def test_stage_two_replays_stage_one() -> None:
    by_name = {s.name: s for s in steps_of(parse(SMALL))}
    mix = by_name["two_1_groups"].overrides["select.labels"]
    assert mix == {"general": 0.3, "knowledge": 0.1, "safety": 0.6}
    assert by_name["one_1_groups"].overrides["select.labels"] == {"general": 0.75, "knowledge": 0.25}
    assert by_name["sft"].overrides["select.split"] == "train"
    assert "select.take" not in by_name["sft"].overrides


def test_a_typed_line_sets_what_the_loop_sets() -> None:
    """Parsing the --set words of a line gives the very values the loop uses."""
    import shlex

    recipe = parse(SMALL)
    folders = {s.name: Path("out") / f"run-{n}" for n, s in enumerate(steps_of(recipe))}
    for step in steps_of(recipe):
        line = command_line(step, recipe, None, Path("out"))
        assert line.startswith(f"{step.name}=$(cosmo {step.verb} ")
        inner = line[len(step.name) + 3 : -1]
        for name, path in sorted(folders.items(), key=lambda kv: -len(kv[0])):
            inner = inner.replace(f"${name}", str(path))
        words = shlex.split(inner)
        values: dict[str, Any] = {}
        for position, word in enumerate(words):
            if word == "--set":
                assign(values, *parse_assignment(words[position + 1]))
        assert values == step_values(recipe, step, folders)


def test_shared_values_reach_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('seed = 5\npolicy = "tiny:llama"\n[rollout]\nsamples = 2\n')
    assert stage_table(path, "rollout") == {"samples": 2, "seed": 5, "policy": "tiny:llama"}
    assert "seed" not in stage_table(path, "score")


def test_checks_are_said_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("checks = ['./mine.py:couplets']\n[score]\nalso = []\n", encoding="utf-8")
    beside = [f"{tmp_path / 'mine.py'}:couplets"]
    assert stage_table(path, "prepare")["checks"] == beside
    assert stage_table(path, "score") == {"also": [], "checks": beside}
    assert "checks" not in stage_table(path, "rollout")
    path.write_text("checks = ['./mine.py:couplets']\n[score]\nchecks = []\n", encoding="utf-8")
    assert stage_table(path, "score")["checks"] == []


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.text(alphabet=st.characters(codec="ascii"))),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(alphabet="abc", min_size=1), inner)
        ),
        max_leaves=6,
    )
)
def test_toml_values_round_trip(value: Any) -> None:
    assert parse_assignment(f"key={toml_value(value)}") == (["key"], value)


def test_flatten_keeps_label_weights_whole() -> None:
    table = {"select": {"labels": {"a": 1.0}, "take": 3}, "loss": "cpgd"}
    assert flatten(table) == {"select.labels": {"a": 1.0}, "select.take": 3, "loss": "cpgd"}


class TrainingToy(ToyStage):
    """Commits what a training run does: weights and trainer state, in its receipt."""

    def open(self, ctx: Context) -> Work:
        toy = super().open(ctx)

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            toy(shard, writer)
            for name in ("policy", "trainer"):
                writer.artifact(f"{name}/weights").write_text("heavy")

        return work


def turn(place: Path, n: int) -> Result:
    return run_stage(TrainingToy(), ToyConfig(shards=1, rows=n + 1), [], options=Options(runs=place))


def trained(place: Path, count: int) -> list[tuple[Step, Path]]:
    """Toy runs that look like training turns."""
    made = []
    for n in range(count):
        path = turn(place, n).path
        step = Step("train", f"t{n}", [], phase="p", iteration=n + 1, iterations=count, ends_phase=n == 1)
        made.append((step, path))
    return made


def test_retention_keeps_the_last_policies_and_phase_ends(tmp_path: Path) -> None:
    made = trained(tmp_path, 5)
    prune(Retention(policies=2), made)
    kept = [[(p / name).exists() for name in ("policy", "trainer")] for _, p in made]
    assert kept == [[False, False], [True, True], [False, False], [True, True], [True, True]]
    for _, path in made:
        folder = RunFolder.open(path)
        assert folder.complete
        assert len(list(folder.rows(ToyStage.table))) == folder.receipt(0).rows
    assert prune(Retention(policies=2), made) == []
    # None is trained again for what was pruned; but for what is only lost, it is.
    assert [turn(tmp_path, n).state for n in range(5)] == ["cached"] * 5
    (made[4][1] / "policy" / "weights").unlink()
    (made[0][1] / "notes" / "0.txt").unlink()
    assert [turn(tmp_path, n).state for n in range(5)] == ["done", *["cached"] * 3, "done"]


def test_disk_estimate_grows_with_what_is_kept_and_made() -> None:
    base = estimate(parse(SMALL), 10_000_000)
    assert estimate(parse(SMALL), 20_000_000) > base + 90_000_000
    # Beside the weights two moments, in bfloat16 with a master as float32; of adapters next to nothing.
    half, none = {"dtype": "bfloat16"}, {"masters": False}
    for train, times in (({}, 3), (half, 7), (half | none, 3), ({"lora": {"rank": 4}}, 1)):
        one, four = ({**SMALL, "train": train, "retention": {"policies": kept}} for kept in (2, 5))
        assert estimate(parse(four), 10**7) - estimate(parse(one), 10**7) == 3 * times * 10**7
    # Two that are kept, one that is written beside its run's checkpoint, and the weights that are exported.
    kept = parse({**SMALL, "train": {}, "retention": {"policies": 2, "phase_ends": False}})
    assert estimate(kept, 10**7) - estimate(kept, 0) == (2 + 1 + 1) * 3 * 10**7 + 10**7
    assert estimate(parse(changed("phases.1.iterations", 100)), 10_000_000) > base
    assert size(1536) == "1.5 KiB"
    assert clock(3725) == "1:02:05"


def test_what_looks_wrong_is_said_and_a_phase_that_learned_nothing_ends_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cosmo_cli.recipe.progress import Turns
    from cosmo_cli.terminal.output import Output

    steps = {s.name: s for s in steps_of(parse(SMALL))}
    flat = Quality(failure="all 8 groups are flat", hint="cosmo score RUN --explain ID")
    done = Result(Path("x"), "train", "f", "done", 1, 1, quality=flat)
    turns = Turns(Output("run"), list(steps.values()))
    turns.judge(steps["one_1"], done)
    assert capsys.readouterr().err.splitlines() == [
        "run: warning: one 1/2: all 8 groups are flat",
        "  hint: cosmo score RUN --explain ID",
    ]
    with pytest.raises(InputError, match=r"phase one: none of its 2 turns .* all 8 groups are flat"):
        turns.judge(steps["one_2"], done)
    # One turn that learned is enough; what a cached step came to was said when it was made.
    turns = Turns(Output("run"), list(steps.values()))
    turns.judge(steps["one_1"], replace(done, quality=Quality(line="reward 1.0")))
    turns.judge(steps["one_2"], replace(done, state="cached"))
    turns.judge(steps["one_1_groups"], replace(done, quality=Quality(warning="56 of 72 completions failed")))
    said = capsys.readouterr().err
    assert said.count("flat") == 1
    assert said.endswith("run: warning: one 1/2: 56 of 72 completions failed\n")


def test_who_looks_on_is_told_turns_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosmo_cli.recipe import progress
    from cosmo_cli.terminal.output import Output
    from stages.core.runs.noted import notes_in

    monkeypatch.setattr(progress, "turn_numbers", lambda result: "reward 1.42")
    steps = {s.name: s for s in steps_of(parse(SMALL))}
    many = [s for s in steps.values() if s.verb == "train" and s.iterations > 1]
    turns = progress.Turns(Output("run", quiet=True), list(steps.values()), "mini", tmp_path / "summary.progress.json")
    with turns.noted():
        turns.begin(steps["one_1_groups"])
        (note,) = notes_in(tmp_path)
        assert (note.what, note.done, note.total, note.unit) == ("mini", 0, len(many), "turns")
        assert (note.numbers, note.seconds_left) == ({"phase": "one"}, None)
        # A turn that was found done took no time, and is none of those that are to come.
        turns.trained(steps["one_1"], Result(Path("x"), "train", "f", "cached", 1, 1))
        monkeypatch.setattr(turns, "_took", 7.0)
        turns.trained(steps["one_2"], Result(Path("x"), "train", "f", "done", 1, 1))
        (note,) = notes_in(tmp_path)
        assert (note.done, note.total) == (1, len(many) - 1)
        assert note.numbers == {"phase": "one 2/2", "": "reward 1.42"}
        assert note.seconds_left == pytest.approx(7.0 * (len(many) - 2), abs=1e-3)
        # The first turn loads models: as in the lines, one slow turn moves no estimate.
        monkeypatch.setattr(turns, "_times", [100.0, 7.0, 7.0])
        turns.begin(steps["one_1_groups"])
        (note,) = notes_in(tmp_path)
        assert note.seconds_left == pytest.approx(7.0 * (len(many) - 2), abs=1e-3)
    assert notes_in(tmp_path) == []


def test_no_room_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from cosmo_cli.recipe.planning import disk_estimate as disk
    from cosmo_cli.terminal.output import Output

    monkeypatch.setattr(disk, "weights_bytes", lambda recipe: 10**18)
    with pytest.raises(UnavailableError, match=r"the run needs about .* and .* has"):
        disk.check_room(parse(SMALL), tmp_path / "runs", Output("run", quiet=True))
    assert shutil.disk_usage(tmp_path).free < 10**18
