"""Trackers: one run for a line of training runs, told step by step, and never worth more than the training."""

from __future__ import annotations

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas.steps import LabelStat, StepRow, TermStat
from schemas.tables import SCORED
from stages.core.errors import UsageError
from stages.core.stage import Resources, Silent
from stages.train.config import TrainConfig
from stages.train.tracking.config import TrackConfig
from stages.train.tracking.numbers import numbers
from tests.support.forked import exit_code
from tests.train.made import contents, scored_group, steps, train, train_until_killed, write_shard

RL = {"policy": "tiny:qwen2_5_vl", "learning_rate": 1e-3, "updates_per_rollout": 3, "checkpoint_steps": 2}


@pytest.fixture(scope="module")
def turns(policies, tmp_path_factory):
    """Two rollouts of three groups with images."""
    folder = tmp_path_factory.mktemp("turns")
    groups = [scored_group(policies("qwen2_5_vl"), i, rewards=[0.0, 0.2, 0.5, 1.0]) for i in range(6)]
    return [write_shard(folder / f"{k}.parquet", SCORED, groups[3 * k : 3 * k + 3]) for k in range(2)]


class Heard(Silent):
    """Keeps what was said, and what a tracker's files held after each step."""

    def __init__(self, look=None) -> None:
        self.said, self.seen, self.look = [], [], look

    def log(self, text: str) -> None:
        self.said.append(text)

    def advance(self, n: int = 1, **given: float | str) -> None:
        if self.look is not None:
            self.seen.append(self.look())


def chain(turns, runs, policy=RL["policy"], name="line", **more):
    """Each turn trained on, from the policy of the one before; the run folders."""
    found = []
    for turn in turns:
        settings = {**RL, "policy": str(found[-1].path) if found else policy, "report_to": ["tensorboard"]}
        found.append(train(turn, runs, **{**settings, "track": TrackConfig(run_name=name), **more}))
    return found


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


def scalar(folder, name):
    return [(e.step, e.value) for e in events(folder).Scalars(name)]


def close(rows, field):
    return [(i, pytest.approx(getattr(row, field), rel=1e-6)) for i, row in enumerate(rows, start=1)]


def test_turns_of_a_line_are_one_run_and_change_no_bit(tmp_path, turns):
    plain = chain(turns, tmp_path / "plain", report_to=[])
    told = chain(turns, tmp_path / "told")
    assert contents(told[-1]) == contents(plain[-1])
    rows = [row for run in told for row in steps(run)]
    assert rows == [row for run in plain for row in steps(run)]
    folder = tmp_path / "told" / "trackers"
    assert [p.name for p in folder.iterdir() if p.is_dir()] == ["line"]
    for name, field in (("rl/loss", "loss"), ("train/reward", "reward_mean"), ("rl/completion_length",) * 2):
        field = field.removeprefix("rl/")
        assert scalar(folder / "line", name) == close(rows, field)
    assert {"train/frac_reward_zero_std", "train/completions/mean_length", "train/rewards/made/mean"} <= set(
        events(folder / "line").Tags()["scalars"]
    )
    assert not (tmp_path / "plain" / "trackers").exists()


def test_a_step_can_be_read_while_the_next_is_taken(tmp_path, turns):
    heard = Heard(look=lambda: len(scalar(tmp_path / "trackers" / "line", "rl/loss")))
    chain(turns[:1], tmp_path, progress=heard)
    assert heard.seen == [1, 2, 3]


def test_a_killed_run_goes_on_without_a_doubled_step(tmp_path, turns):
    settings = {**RL, "report_to": ["tensorboard"], "track": TrackConfig(run_name="line")}
    # After the third step's row was sent: the checkpoint has two.
    assert exit_code(train_until_killed, [turns[0]], tmp_path, 3, settings) == -9
    (run,) = chain(turns[:1], tmp_path)
    assert scalar(tmp_path / "trackers" / "line", "rl/loss") == close(steps(run), "loss")


def test_one_that_is_asked_for_late_is_told_all_that_came_before(tmp_path, turns):
    first = chain(turns[:1], tmp_path, report_to=[])
    second = chain(turns[1:], tmp_path, policy=str(first[0].path))
    folder = tmp_path / "trackers" / "line"
    assert scalar(folder, "rl/loss") == close(steps(first[0]) + steps(second[0]), "loss")


def test_other_settings_are_another_run_under_the_next_free_name(tmp_path, turns):
    chain(turns, tmp_path)
    other = chain(turns[:1], tmp_path, learning_rate=2e-3)
    folder = tmp_path / "trackers"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["line", "line-2"]
    assert scalar(folder / "line-2", "rl/loss") == close(steps(other[0]), "loss")
    # A branch from the first turn: what led to it comes along.
    begun = chain(turns[:1], tmp_path)
    branch = chain(turns[1:], tmp_path, policy=str(begun[0].path), learning_rate=2e-3)
    assert scalar(folder / "line-3", "rl/loss") == close(steps(begun[0]) + steps(branch[0]), "loss")


def test_one_process_keeps_a_tracker_open_from_turn_to_turn(tmp_path, turns):
    kept = Resources()
    chain(turns, tmp_path, resources=kept)
    files = list((tmp_path / "trackers" / "line").iterdir())
    assert len(files) == 1
    assert len(scalar(tmp_path / "trackers" / "line", "rl/loss")) == 6


def test_completions_are_sent_with_their_images(tmp_path, turns):
    track = TrackConfig(run_name="line", log_completions=3)
    chain(turns, tmp_path, track=track)
    found = events(tmp_path / "trackers" / "line")
    assert [e.step for e in found.Images("completions/2/image_0")] == [1, 4]
    (text,) = found.Tensors("completions/1/text_summary")[0].tensor_proto.string_val
    assert b"**completion**" in text
    assert "completions/3/text_summary" not in found.Tags()["tensors"]


def test_a_name_stays_inside_the_folder(tmp_path, turns):
    chain(turns[:1], tmp_path / "runs", name="../../outside/x")
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "trackers" / "outside-x.json").is_file()


def test_where_nothing_can_be_written_training_goes_on_and_says_so(tmp_path, turns):
    (tmp_path / "file").write_text("")
    heard = Heard()
    track = TrackConfig(logging_dir=str(tmp_path / "file"))
    (run,) = chain(turns[:1], tmp_path, track=track, progress=heard)
    assert len(steps(run)) == 3
    assert any("no tracker gets this run, which goes on" in line and "file" in line for line in heard.said)


def test_a_tracker_that_fails_midway_is_given_up_once(tmp_path, turns, monkeypatch):
    from stages.train.tracking.services import TensorBoard

    def full(self, numbers, step):
        raise OSError("quota exceeded")

    monkeypatch.setattr(TensorBoard, "log", full)
    heard = Heard()
    (run,) = chain(turns[:1], tmp_path, progress=heard)
    assert len(steps(run)) == 3
    assert [line for line in heard.said if "quota" in line] == [
        "tensorboard gets no more of this run, which goes on: quota exceeded"
    ]


def test_a_damaged_note_of_a_tracked_run_costs_a_second_curve(tmp_path, turns):
    chain(turns[:1], tmp_path)
    (tmp_path / "trackers" / "line.json").write_text('{"name": "line", "parts": [{"fingerprint": 3}]}')
    chain(turns, tmp_path)
    note = json.loads((tmp_path / "trackers" / "line-2.json").read_text())
    assert [part["first"] for part in note["parts"]] == [0, 3]


@pytest.mark.parametrize(
    "name, said", [("tensorbord", "no tracker is called 'tensorbord'"), ("mlflow", "mlflow is not installed")]
)
def test_an_unknown_or_missing_tracker_is_said_before_training(tmp_path, turns, name, said, monkeypatch):
    monkeypatch.setattr("stages.train.tracking.config.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=said) as raised:
        train(turns[0], tmp_path, **RL, report_to=[name])
    assert raised.value.hint in ("did you mean 'tensorboard'?", "pip install mlflow")
    assert not list(tmp_path.glob("train-*"))


def test_a_rows_numbers_have_our_names_and_the_fields():
    term = TermStat(name="safety", mean=1.0, completions=4)
    row = StepRow(
        objective="rl", step=3, rollout=0, update=0, loss=0.5, learning_rate=1e-6, tokens=10, groups=4,
        dropped_groups=1, reward_mean=0.25, reward_std=0.1, ref_kl=0.01, completion_length=7.0, seconds=2.0,
        labels=[LabelStat(label="safety", completions=4, reward=0.5, terms=[term])], terms=[term],
    )  # fmt: skip
    found = numbers(row)
    assert found["rl/reward_mean"] == found["train/reward"] == 0.25
    assert found["rl/ref_kl"] == found["train/kl"] == 0.01
    assert found["train/frac_reward_zero_std"] == 0.25
    assert found["train/completions/mean_length"] == 7.0
    assert (found["rl/reward/safety"], found["rl/terms/safety/safety"], found["train/rewards/safety/mean"]) == (
        0.5,
        1,
        1,
    )
    # What was not measured is no zero.
    assert "rl/entropy" not in found
    assert "rl/unsafe_rate/safety" not in found


def test_trackers_are_no_part_of_what_identifies_a_run(tmp_path, turns):
    from stages.core.config import key_of

    told = TrainConfig(report_to=["tensorboard"], track=TrackConfig(log_completions=8))
    assert key_of(told) == key_of(TrainConfig())
