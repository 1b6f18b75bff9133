"""A whole RL turn of `cosmo run` against one of TRL's GRPOTrainer: sampling, rewards and training, as a user runs them.

    python bench/loop_vs_trl.py [--turns 3] [--rounds 2] [--sft-steps 300]

Both go on from one policy, `tiny:qwen2_5_vl` after a short SFT on the demo's prompts (before it, replies are noise and
as long as they may be), and take the same prompts in the same order, with their images: 32 a turn, 8 completions of up
to 32 tokens at temperature 1, the same ids banned, then 4 updates on 64 completions each. Rewards come from the same
grader. The loss is GRPO's (clip 0.2, one mean a completion, no KL) with the same rate, AdamW and gradient clip, in
float32, vision tower and all, no gradient checkpointing. The prompts' ids are compared before TRL's side is timed.

What each does otherwise is its own: ours writes every turn's rows, policy and moments and trains no group whose rewards
are all the same; TRL decodes the pictures of its dataset, sends each through the processor G times and saves nothing.

Each side runs in processes of its own, one a round, in turn. Figures are CPU seconds, user and system, of a process and
its children: medians over all turns but the first. What comes before the second turn, less one turn, is the start.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TURNS, ROUNDS, SFT_STEPS = 3, 2, 300
PROMPTS, SAMPLES, NEW_TOKENS, UPDATES, RATE = 32, 8, 32, 4, 1.5e-4
PARTS = ("generate", "verify", "train")


def cpu_seconds() -> float:
    """User and system, of this process and the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def recipe_of(phases: list[dict[str, Any]], policy: str) -> Any:
    """The demo's recipe with other phases, nothing measured."""
    from cosmo_cli.recipe.schema import parse, read

    values = read(ROOT / "examples" / "mini_cosmo" / "recipe.toml")
    return parse({**values, "policy": policy, "phases": phases, "evaluate": {}})


def begin(runs: Path, steps: int) -> Path:
    """Prompts, and the policy that both sides go on from: the folder of the SFT run."""
    from bench.loop_overhead import POLICY
    from cosmo_cli.recipe.run import run_recipe
    from cosmo_cli.terminal.output import Output

    train = {"learning_rate": 1e-3, "steps": steps, "batch_size": 32, "warmup_steps": 20}
    run_recipe(
        recipe_of([{"name": "sft", "objective": "sft", "train": train}], POLICY), runs, Output("bench", quiet=True)
    )
    return next(runs.glob("train-*"))


def rl_recipe(policy: Path, turns: int) -> Any:
    """Turns of RL from that policy; one more ends the last of them."""
    train = {
        "loss": "grpo", "advantage": "grpo_norm", "aggregation": "sequence_mean", "freeze_vision": False,
        "learning_rate": RATE, "updates_per_rollout": UPDATES,
    }  # fmt: skip
    labels = {"general": 0.4, "knowledge": 0.3, "value": 0.3}
    rollout = {"samples": SAMPLES, "max_new_tokens": NEW_TOKENS}
    phase = {"name": "rl", "iterations": turns + 1, "prompts": PROMPTS, "labels": labels}
    return recipe_of([{**phase, "train": train, "rollout": rollout}], str(policy))


def ours(runs: Path, policy: Path, turns: int) -> dict[str, Any]:
    """`cosmo run` in this process, whose prompts are made already."""
    from bench.loop_overhead import Clock, watch
    from cosmo_cli.recipe.run import run_recipe
    from cosmo_cli.terminal.output import Output
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    clock = Clock(cpu_seconds)
    watch(clock)
    run_recipe(rl_recipe(policy, turns), runs, Output("bench", quiet=True))
    return figures(clock, turns)


def theirs(runs: Path, policy: Path, turns: int) -> dict[str, Any]:
    """TRL's trainer on the prompts that ours took, in that order."""
    from transformers import AutoConfig, AutoModelForImageTextToText, TrainerCallback
    from trl import GRPOTrainer

    from bench.loop_overhead import Clock
    from stages.models.find_processor import find_processor

    clock = Clock(cpu_seconds)
    GRPOTrainer._generate = clock.call("generate", GRPOTrainer._generate)
    GRPOTrainer._calculate_rewards = clock.call("verify", GRPOTrainer._calculate_rewards)
    GRPOTrainer.training_step = clock.call("train", GRPOTrainer.training_step)
    groups = sampled_groups(runs)[: PROMPTS * turns]
    # As ours has it, with Pillow: AutoProcessor wants torchvision for videos, which nobody here shows.
    processor = find_processor(policy / "policy", AutoConfig.from_pretrained(policy / "policy"), False)
    accept_prompts_without_images(processor)
    model = AutoModelForImageTextToText.from_pretrained(policy / "policy", dtype="float32")

    class Turns(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step % UPDATES == 0:
                clock.stage("turn", first_of_turn=True)

        def on_train_end(self, *given: Any, **more: Any) -> None:
            clock.stage("end", first_of_turn=True)

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=[reward_of(groups)],
            args=grpo_config(Path(folder), turns, list(groups[0].banned_token_ids)),
            train_dataset=dataset_of(groups),
            processing_class=processor,
            callbacks=[Turns()],
        )
        check_same_prompts(trainer, groups[:PROMPTS])
        trainer.train()
    return figures(clock, turns)


def grpo_config(folder: Path, turns: int, banned: list[int]) -> Any:
    """TRL's settings for the same updates."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder), report_to="none", disable_tqdm=True, log_level="error", save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False, shuffle_dataset=False,
        num_generations=SAMPLES, max_completion_length=NEW_TOKENS, temperature=1.0, top_p=1.0, top_k=0,
        generation_kwargs={"suppress_tokens": banned},
        per_device_train_batch_size=PROMPTS * SAMPLES // UPDATES, steps_per_generation=UPDATES,
        max_steps=turns * UPDATES, loss_type="grpo", beta=0.0, epsilon=0.2, learning_rate=RATE, adam_beta2=0.95,
        weight_decay=0.01, max_grad_norm=1.0, lr_scheduler_type="constant",
    )  # fmt: skip


def sampled_groups(runs: Path) -> list[Any]:
    """The groups that our turns sampled, in order."""
    from schemas.tables import ROLLOUTS
    from stages.core.runs.folder import RunFolder

    folders = {f.manifest.provenance["name"]: f for f in map(RunFolder.open, runs.glob("rollout-*"))}
    in_order = sorted(folders, key=lambda name: int(name.split("_")[1]))
    return [row for name in in_order for row in folders[name].rows(ROLLOUTS)]


def dataset_of(groups: list[Any]) -> Any:
    """A row a prompt: its messages, its images, and its number among the groups."""
    from datasets import Dataset, Image

    rows = [
        {
            "prompt": [
                {"role": m.role, "content": [{"type": p.type, "text": p.text} for p in m.content]} for m in g.messages
            ],
            "images": [{"bytes": image.bytes, "path": None} for image in g.images],
            "number": number,
        }
        for number, g in enumerate(groups)
    ]
    dataset = Dataset.from_list(rows)
    return dataset.cast_column("images", [Image()])


def reward_of(groups: list[Any]) -> Any:
    """A reward function for TRL: the grader that `cosmo score` uses, on whole groups."""
    from schemas.rollouts import Completion, FinishReason, Sampling
    from stages.score.config import ScoreConfig
    from stages.score.stage import grader_for

    grader, sampling = grader_for(ScoreConfig()), Sampling(1.0, 1.0, 0, NEW_TOKENS, 0)

    def reward(completions: list[Any], number: list[int], **_: Any) -> list[float | None]:
        found: list[float | None] = []
        for start in range(0, len(completions), SAMPLES):
            made = [
                Completion(index=i, text=turns[0]["content"], token_ids=[], logprobs=[], engine="trl", policy_id="",
                           finish_reason=FinishReason.STOP, sampling=sampling)
                for i, turns in enumerate(completions[start : start + SAMPLES])
            ]  # fmt: skip
            scored = grader.group(dataclasses.replace(groups[number[start]], completions=made))
            found += [c.reward for c in scored.completions]
        return found

    return reward


def accept_prompts_without_images(processor: Any) -> None:
    """TRL says None of a prompt without images, where transformers takes an empty list alone."""
    call = type(processor).__call__

    class Accepting(type(processor)):  # type: ignore[misc]
        def __call__(self, images: Any = None, *given: Any, **named: Any) -> Any:
            images = [i or [] for i in images] if isinstance(images, list) else images
            return call(self, images, *given, **named)

    Accepting.__name__ = type(processor).__name__
    processor.__class__ = Accepting


def check_same_prompts(trainer: Any, groups: list[Any]) -> None:
    """AssertionError where TRL makes other ids of a prompt than ours did."""
    from trl.data_utils import prepare_multimodal_messages

    rows = [trainer.train_dataset[i] for i in range(len(groups))]
    found, *_ = trainer._tokenize_prompts([prepare_multimodal_messages(r["prompt"], r["images"]) for r in rows])
    for ids, group in zip(found, groups, strict=True):
        assert list(ids) == list(group.prompt_token_ids), group.id


def figures(clock: Any, turns: int) -> dict[str, Any]:
    """What a side's process gives: CPU seconds of its turns by part, and of its start, and its peak memory."""
    timed = clock.turns[1:turns]
    seconds = [sum(t.values()) for t in timed]
    parts = {kind: statistics.median(sum(s for (_, k), s in t.items() if k == kind) for t in timed) for kind in PARTS}
    turn = statistics.median(seconds)
    start = clock.began + sum(clock.turns[0].values()) - turn
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"turn": turn, **parts, "start": start, "peak_mib": peak}


SIDES = {"ours": ours, "trl": theirs}


def main(turns: int = TURNS, rounds: int = ROUNDS, sft_steps: int = SFT_STEPS) -> dict[str, Any]:
    """Medians of both sides and ratios by round; prints the table."""
    from bench.timing import table

    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "0"
        policy = begin(first, sft_steps)
        for number in range(1, rounds + 1):
            runs = Path(folder) / str(number)
            shutil.copytree(first, runs)
            for side in SIDES:
                found[side].append(_fresh(side, runs, policy, turns))
            shutil.rmtree(runs)
    names = list(found["ours"][0])
    middle = {s: {n: round(statistics.median(r[n] for r in found[s]), 3) for n in names} for s in SIDES}
    times = {n: [t[n] / max(o[n], 1e-9) for o, t in zip(found["ours"], found["trl"], strict=True)] for n in names}
    ratios = {n: round(statistics.median(values), 3) for n, values in times.items()}
    rows = [(side, *values.values()) for side, values in {**middle, "times": ratios}.items()]
    print("CPU seconds a turn:", table([("", *names), *rows]), sep="\n")
    return {
        "turns": turns - 1,
        "rounds": rounds,
        "unit": "CPU s/turn",
        **{side: values["turn"] for side, values in middle.items()},
        "ratio": ratios["turn"],
        "ratios": ratios,
        "by_round": [round(t, 3) for t in times["turn"]],
        "start": _share(middle, ratios, "start"),
        "memory": _share(middle, ratios, "peak_mib"),
        "sides": middle,
    }


def _share(middle: dict[str, dict[str, float]], ratios: dict[str, float], name: str) -> dict[str, float]:
    """Ours, TRL's, and ours as a share of TRL's."""
    return {"ours": middle["ours"][name], "trl": middle["trl"][name], "ratio": round(1 / ratios[name], 3)}


def _fresh(side: str, runs: Path, policy: Path, turns: int) -> dict[str, float]:
    """One side in a process of its own."""
    from bench.timing import in_process

    result: dict[str, float] = in_process(__file__, "--side", side, str(runs), str(policy), "--turns", str(turns))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of a process, the first left out (at least 2)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes a side")
    parser.add_argument("--sft-steps", type=int, default=SFT_STEPS, help="steps of the policy that both go on from")
    parser.add_argument("--side", nargs=3, metavar=("NAME", "RUNS", "POLICY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turns < 2:
        parser.error(f"--turns {options.turns}: the first is left out, so there must be at least 2")
    if options.side:
        name, *where = options.side
        print(json.dumps(SIDES[name](*map(Path, where), options.turns)))
    else:
        print(json.dumps(main(options.turns, options.rounds, options.sft_steps)))
