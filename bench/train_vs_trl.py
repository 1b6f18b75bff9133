"""One optimizer step of `cosmo train --objective rl` against one of TRL's GRPOTrainer, on the same groups.

    python bench/train_vs_trl.py [--curve] [--policy SPEC] [--device cuda] [--bf16]

Both are subclasses of transformers' Trainer and run their own `train()`; a lap is the time from one step's begin to
the next one's: forward, backward, clipping, AdamW, and what each writes down of the step. The model is
`tiny:qwen2_5_vl` in float32 with an image in each prompt, two copies of the same weights; the loss is GRPO's (clip
0.2, one mean a completion, no KL) with the same old log-probs, advantages, learning rate, AdamW and gradient clip; the
vision tower is trained; all groups of the step go through the model at once; no gradient checkpointing. Before any
timing, loss and every parameter's gradient of both are compared (to 1e-5).

What is not in a lap, on either side: sampling, the images' way through the processor (TRL sends each through it G
times while sampling; ours decodes it once a rollout), and the first step. All completions have the same length, so that
TRL computes no padding. TRL is given its batch where it would otherwise sample one (`_prepare_inputs`); nothing else
of it is changed.

`--policy` takes any Qwen2.5-VL with the tiny one's tokenizer (`python bench/sized.py` makes larger ones). With `--bf16`
both sides autocast, and only the direction of the gradient is compared.

`ideal` is the ratio of tokens that go through the model, G (P + R) / (P + G R). Peak memory is that of fresh
processes, one a side: the highest resident size (on a GPU: memory in tensors) during the steps, less the size before
them, with the model loaded and a small step done.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
GROUPS, ROUNDS, MEMORY_ROUNDS = 4, 5, 3
RATE, LARGEST_IMAGE, TOLERANCE, BF16_COSINE = 1e-6, 224, 1e-5, 0.98


@dataclass(frozen=True)
class Setup:
    """What is trained, on what, and for how long."""

    policy: str = "tiny:qwen2_5_vl"
    device: str = "cpu"
    bf16: bool = False
    laps: int = 5
    """Steps timed in a row."""


@dataclass(frozen=True)
class Shape:
    """A step's size: groups of `samples` completions of `completion` tokens to prompts of `prompt` tokens."""

    samples: int = 8
    prompt: int = 128
    completion: int = 64

    @property
    def ideal(self) -> float:
        """Tokens of a plain batch over those of one where each prompt is computed once."""
        return self.samples * (self.prompt + self.completion) / (self.prompt + self.samples * self.completion)


CURVE = [
    *(Shape(samples=g) for g in (2, 4, 8, 16)),
    Shape(prompt=64),
    Shape(prompt=256),
    Shape(completion=16),
    Shape(8, 256, 256),
]


def made_groups(policy: Any, shape: Shape) -> list[Any]:
    """Scored groups of exactly this shape; stored log-probs are the policy's own with noise, so some ratios clip."""
    import torch

    from stages.train.rl.logprobs import completion_logprobs

    rows = [_group(policy, shape, number) for number in range(GROUPS)]
    with torch.no_grad():
        now = completion_logprobs(policy.model, policy.processor, token_groups(policy, rows), [], share=True)
    noise_NT = 0.3 * torch.randn(now.logprobs_NT.shape, generator=torch.Generator().manual_seed(1))
    old = iter((now.logprobs_NT + noise_NT).tolist())
    return [replace(r, completions=[replace(c, logprobs=next(old)) for c in r.completions]) for r in rows]


def _group(policy: Any, shape: Shape, number: int) -> Any:
    """An image, and as many words as the prompt lacks."""
    from schemas.values import text_message
    from tests.train.made import image, scored_group

    side = LARGEST_IMAGE if shape.prompt > 100 else 112
    rng, images = random.Random(number), [image(number, side)]
    row = scored_group(policy, number, rewards=[k / (shape.samples - 1) for k in range(shape.samples)])
    short = policy.processor.encode([text_message("user", "red", 1)], images).token_ids
    messages = [text_message("user", " ".join(["red"] * (1 + shape.prompt - len(short))), 1)]
    ids = policy.processor.encode(messages, images).token_ids
    assert len(ids) == shape.prompt, f"{len(ids)} prompt tokens, not {shape.prompt}"
    drawn = [[rng.randrange(20, 400) for _ in range(shape.completion)] for _ in range(shape.samples)]
    completions = [replace(c, token_ids=r) for c, r in zip(row.completions, drawn, strict=True)]
    return replace(row, messages=messages, images=images, prompt_token_ids=ids, completions=completions)


def token_groups(policy: Any, rows: list[Any]) -> list[Any]:
    """The groups as tensors' makers want them."""
    from stages.models.attention.shared_inputs import TokenGroup

    return [
        TokenGroup(
            r.prompt_token_ids,
            policy.processor.encode(r.messages, r.images).image_inputs,
            [c.token_ids for c in r.completions],
            [1.0] * len(r.completions),
        )
        for r in rows
    ]


def timed_laps(trainer: Any, train: Any) -> float:
    """Median seconds from step to step, without the first."""
    from transformers import TrainerCallback

    begun: list[float] = []

    class Laps(TrainerCallback):
        def on_step_begin(self, *given: Any, **more: Any) -> None:
            begun.append(time.perf_counter())

    trainer.add_callback(Laps())
    train()
    trainer.remove_callback(Laps)
    return statistics.median(b - a for a, b in pairwise(begun[1:]))


class Ours:
    """The trainer of the train stage, in a session of its own."""

    def __init__(self, shape: Shape, scratch: Path, setup: Setup) -> None:
        from stages.core.stage import Context, Resources, Silent
        from stages.models.policy_ref import resolve_policy
        from stages.train.config import TrainConfig
        from stages.train.setup import open_session

        config = TrainConfig(
            loss="grpo", advantage="grpo_norm", aggregation="sequence_mean", updates_per_rollout=1,
            epochs=setup.laps + 2, old_logprobs="stored", learning_rate=RATE, freeze_vision=False, device=setup.device,
            autocast="bf16" if setup.bf16 else "no",
            micro_batch_tokens=1 << 30, checkpoint_steps=0,
        )  # fmt: skip
        scratch.mkdir(exist_ok=True)
        context = Context(config, [], Silent(), Resources(), scratch)
        self.session = open_session(context, None, resolve_policy(setup.policy))  # type: ignore[arg-type]
        self.policy = self.session.policy
        self.rows = made_groups(self.policy, shape)

    def trainer(self) -> Any:
        """A trainer of one rollout: the same update over and over."""
        from stages.train.rl.batches import estimate_advantages, make_groups, make_updates
        from stages.train.rl.rollout import Rollout
        from stages.train.rl.trainer import RlTrainer

        config = self.session.config
        groups = make_groups(self.rows, "bench", config, self.session.reject)
        carried = estimate_advantages(groups, config, {})
        rollout = Rollout(0, make_updates(groups, config, 0), [], {}, carried, None)
        return RlTrainer(self.session, rollout, None, True)

    def loss_and_gradients(self) -> tuple[float, dict[str, Any]]:
        """Of one step, without taking it."""
        model = self.policy.model
        with self.session.training():
            trainer = self.trainer()
            loss = trainer.step(model, trainer.queue[0])
        return loss.item(), _gradients(model)

    def step(self) -> float:
        """Seconds of a step."""
        with self.session.training():
            trainer = self.trainer()
            return timed_laps(trainer, trainer.learn)


class Theirs:
    """TRL's trainer, set up as the parity test does it, at this shape."""

    def __init__(self, shape: Shape, scratch: Path, setup: Setup) -> None:
        import torch
        from transformers import PrinterCallback
        from trl import GRPOConfig, GRPOTrainer

        from stages.core.registry import load
        from stages.models.load import load_policy
        from stages.models.policy_ref import resolve_policy
        from stages.train.advantages.base import Batch, estimate
        from tests.parity import test_grpo_trl as parity

        # The test's own set-up, at other sizes than its own.
        parity.G, parity.PROMPTS, parity.LONGEST = shape.samples, GROUPS, shape.completion
        self.policy = policy = load_policy(resolve_policy(setup.policy), device=setup.device, dtype="float32")
        rows = made_groups(policy, shape)
        advantages, _ = estimate(
            load("advantage", "grpo_norm"), Batch([[c.reward for c in r.completions] for r in rows])
        )
        old_NT = torch.tensor([c.logprobs for r in rows for c in r.completions])
        advantages_N = torch.tensor([a for group in advantages for a in group])
        made = (token_groups(policy, rows), torch.ones_like(old_NT), old_NT, old_NT, advantages_N)
        inputs = parity.trl_inputs(policy, *made)
        self.inputs = {name: v.to(setup.device) if hasattr(v, "to") else v for name, v in inputs.items()}
        self.trainer = parity.trainer_of(
            {"grpo": (GRPOTrainer, GRPOConfig)}, policy, scratch, loss_type="grpo", beta=0.0, epsilon=0.2,
            learning_rate=RATE, adam_beta2=0.95, weight_decay=0.01, max_grad_norm=1.0, lr_scheduler_type="constant",
            max_steps=setup.laps + 2, save_strategy="no", steps_per_generation=1,
            use_cpu=setup.device == "cpu", bf16=setup.bf16,
        )  # fmt: skip
        self.trainer._prepare_inputs = lambda _: dict(self.inputs)
        self.trainer.remove_callback(PrinterCallback)

    def loss_and_gradients(self) -> tuple[float, dict[str, Any]]:
        """Of one step, without taking it."""
        model = self.policy.model
        model.train()
        with self.trainer.compute_loss_context_manager():
            loss = self.trainer.compute_loss(model, dict(self.inputs))
        loss.backward()
        return loss.item(), _gradients(model)

    def step(self) -> float:
        """Seconds of a step."""
        return timed_laps(self.trainer, self.trainer.train)


SIDES: dict[str, Any] = {"ours": Ours, "trl": Theirs}


def _gradients(model: Any) -> dict[str, Any]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def check_same(ours: Any, theirs: Any, bf16: bool) -> float:
    """The largest difference of a gradient; AssertionError where loss or a gradient is not the same."""
    import torch

    (our_loss, our_gradients), (their_loss, their_gradients) = ours.loss_and_gradients(), theirs.loss_and_gradients()
    assert our_gradients.keys() == their_gradients.keys()
    if bf16:
        # Three digits a number, and cancelled sums: the direction is what can be the same.
        ours_all, theirs_all = (
            torch.cat([g[name].flatten() for name in our_gradients]) for g in (our_gradients, their_gradients)
        )
        cosine = torch.nn.functional.cosine_similarity(ours_all, theirs_all, dim=0).item()
        assert cosine >= BF16_COSINE, f"cosine of the gradients {cosine}"
    else:
        assert abs(our_loss - their_loss) <= TOLERANCE, f"loss {our_loss}, TRL's {their_loss}"
        for name, gradient in our_gradients.items():
            torch.testing.assert_close(gradient, their_gradients[name], atol=TOLERANCE, rtol=TOLERANCE)
    return max((g - their_gradients[n]).abs().max().item() for n, g in our_gradients.items())


def compare(shape: Shape, scratch: Path, setup: Setup, rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds a step of each, and the ratio beside its ideal."""
    from bench.timing import in_turn, medians, ratio

    sides = {name: side(shape, scratch / name, setup) for name, side in SIDES.items()}
    gap = check_same(*sides.values(), setup.bf16)
    found = in_turn({name: side.step for name, side in sides.items()}, rounds)
    speed = ratio(found, "trl", "ours")
    return {"G": shape.samples, "P": shape.prompt, "R": shape.completion, **medians(found), "ratio": speed,
            "ideal": round(shape.ideal, 3), "of_ideal": round(speed / shape.ideal, 3), "gradient_gap": gap}  # fmt: skip


def peak_mib(side: str, shape: Shape, setup: Setup) -> float:
    """Run in a fresh process: how much higher than before memory in use was during the steps, in MiB (CPU: Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        SIDES[side](Shape(2, 64, 4), Path(folder) / "small", setup).step()
        measured = SIDES[side](shape, Path(folder) / "whole", setup)
        gc.collect()
        before = _from_here(setup.device)
        measured.step()
        return (_highest(setup.device) - before) / (1 << 20)


def _from_here(device: str) -> int:
    """Bytes in use; the highest number so far counts from here."""
    if device == "cpu":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _highest(device: str) -> int:
    """Bytes in use at the worst moment."""
    if device == "cpu":
        return _status("VmHWM")
    import torch

    return torch.cuda.max_memory_allocated()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10


def memory(shape: Shape, setup: Setup, rounds: int) -> dict[str, float]:
    """Peak MiB of each, in turn."""
    from bench.timing import in_turn, medians, ratio

    def fresh(side: str) -> float:
        given = json.dumps([side, asdict(shape), asdict(setup)])
        done = subprocess.run(
            [sys.executable, __file__, "--peak", given], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return float(done.stdout.splitlines()[-1])

    found = in_turn({side: lambda s=side: fresh(s) for side in SIDES}, rounds)  # type: ignore[misc]
    return {f"{name}_mib": value for name, value in medians(found, 1).items()} | {"ratio": ratio(found, "ours", "trl")}


def main(setup: Setup = Setup(), curve: bool = False, rounds: int = ROUNDS) -> dict[str, Any]:
    """Speed and memory at the default shape; with `curve`, speed at others, too."""
    from bench.timing import table

    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(shape, Path(folder), setup, rounds) for shape in (CURVE if curve else [Shape()])]
    print("seconds a step:", table([rows[0].keys(), *(row.values() for row in rows)]), sep="\n")
    # Models of the comparison are in cycles with their trainers; the fresh processes need the room.
    gc.collect()
    peaks = memory(Shape(), setup, min(rounds, MEMORY_ROUNDS))
    print("peak memory, MiB:", table([peaks.keys(), peaks.values()]), sep="\n")
    first = next(r for r in rows if (r["G"], r["P"], r["R"]) == (8, 128, 64))
    return {**asdict(setup), "groups": GROUPS, **first, "memory": peaks, "curve": rows if curve else None}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curve", action="store_true", help="over G, prompt and completion lengths, too")
    parser.add_argument("--policy", default=Setup.policy, help="a policy with the tiny Qwen2.5-VL's tokenizer")
    parser.add_argument("--device", default=Setup.device, help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="both sides autocast to bfloat16")
    parser.add_argument("--laps", type=int, default=Setup.laps, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each side")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.peak:
        side, shape, setup = json.loads(given.peak)
        print(peak_mib(side, Shape(**shape), Setup(**setup)))
    else:
        print(json.dumps(main(Setup(given.policy, given.device, given.bf16, given.laps), given.curve, given.rounds)))
