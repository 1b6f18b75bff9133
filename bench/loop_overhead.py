"""Share of an RL turn of `cosmo run` that is spent outside generating, verifying and training.

    python bench/loop_overhead.py [--policy SPEC] [--turns 9] [--sft-steps 40] [--beside 0]

The demo's own recipe (examples/mini_cosmo) with all of its prompts, cut short: SFT is a few steps, and stage 1 takes
TURNS turns at its own size (64 prompts, 8 completions of up to 32 tokens, 4 updates). It runs in this process through
`run_recipe`, as `cosmo run` does. A turn lasts from the begin of its rollout step to the begin of the next turn's. Work
is what happens while one of these calls is under way; they are wrapped from here, the package is as it is:

- generating: the engine's `encode`, `sample` and `decode`;
- verifying: `in_order` over the grader, without the time in which it waits for rows to be read;
- training: `RlTrainer.learn`, the optimizer steps.

All the rest of the turn is overhead: planning, fingerprints, reading and writing shards, digests, syncing, locks, warm
models handed over, trainers built, the policy and the optimizer's state saved, old policies pruned, the line on the
screen. The first turn also imports and is left out. There is no peer; `by_stage` says where the overhead is.
`--policy` takes a larger model (`python bench/sized.py` makes one), which shows what of the overhead grows with it;
`--beside 1000` has so many other run folders beside its own, of a scored run that nobody asks for.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TURNS, SFT_STEPS = 9, 40
POLICY = "tiny:qwen2_5_vl"
OVERHEAD = "overhead"


class Clock:
    """Seconds by (turn, stage, kind of work), by the clock or by `now`; only the innermost kind counts."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.turns: list[Counter[tuple[str, str]]] = []
        self.began = 0.0
        """When the first turn did."""
        self._now = now
        self._kinds, self._stage, self._since = [OVERHEAD], "between", now()

    def _charge(self) -> None:
        now = self._now()
        if self.turns:
            self.turns[-1][self._stage, self._kinds[-1]] += now - self._since
        self._since = now

    def enter(self, kind: str) -> None:
        """From here on it is this kind of work."""
        self._charge()
        self._kinds.append(kind)

    def leave(self) -> None:
        """The kind before this one goes on."""
        self._charge()
        self._kinds.pop()

    def stage(self, name: str, first_of_turn: bool = False) -> None:
        """Another stage, or `between`; maybe another turn."""
        self._charge()
        if first_of_turn:
            self.began = self.began if self.turns else self._since
            self.turns.append(Counter())
        self._stage = name

    def call(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.enter(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return counted

    def each(self, kind: str, items: Iterable[Any]) -> Iterator[Any]:
        """The items; waiting for each is counted."""
        iterator = iter(items)
        end = object()
        following = self.call(kind, lambda: next(iterator, end))
        while (item := following()) is not end:
            yield item


def watch(clock: Clock) -> None:
    """Wrap what generates, verifies and trains, and the runner as the recipe loop calls it."""
    from cosmo_cli.recipe import run as loop
    from stages.engines.transformers.engine import TransformersEngine as Engine
    from stages.score.models import batching
    from stages.train.rl.trainer import RlTrainer

    plain_sample, plain_in_order, plain_start = Engine.sample, batching.in_order, loop.start_stage
    Engine.encode = clock.call("generate", Engine.encode)  # type: ignore[method-assign]
    Engine.decode = clock.call("generate", Engine.decode)  # type: ignore[method-assign]
    Engine.sample = lambda *given: clock.each("generate", plain_sample(*given))  # type: ignore[method-assign]
    RlTrainer.learn = clock.call("train", RlTrainer.learn)  # type: ignore[method-assign]

    def in_order(do: Any, items: Iterable[Any], workers: int) -> Iterator[Any]:
        return clock.each("verify", plain_in_order(do, clock.each(OVERHEAD, items), workers))

    def within(name: str, call: Callable[[], Any], first_of_turn: bool = False) -> Any:
        clock.stage(name, first_of_turn)
        try:
            return call()
        finally:
            clock.stage("between")

    def start(stage: Any, *given: Any, **more: Any) -> Any:
        begin = functools.partial(plain_start, stage, *given, **more)
        started = within(stage.name, begin, stage.name == "rollout")
        return replace(started, finish=lambda: within(stage.name, started.finish))

    batching.in_order, loop.start_stage = in_order, start


def recipe(policy: str, turns: int, sft_steps: int, **train: Any) -> Any:
    """The demo's recipe with one RL phase of some turns, and settings of training; one more ends the last turn."""
    from cosmo_cli.recipe.schema import parse, read

    values = read(ROOT / "examples" / "mini_cosmo" / "recipe.toml")
    values["policy"] = policy
    values["train"] |= train
    sft, stage1 = values["phases"][:2]
    sft["train"]["steps"] = sft_steps
    stage1["iterations"] = turns + 1
    values["phases"] = [sft, stage1]
    values["evaluate"] = {}
    return parse(values)


def main(policy: str = POLICY, turns: int = TURNS, sft_steps: int = SFT_STEPS, beside: int = 0) -> dict[str, Any]:
    """Shares of a turn, medians over turns; prints the table."""
    from bench.timing import table
    from cosmo_cli.recipe.run import run_recipe
    from cosmo_cli.terminal.output import Output
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    clock = Clock()
    watch(clock)
    with tempfile.TemporaryDirectory() as folder:
        others(Path(folder), beside)
        run_recipe(recipe(policy, turns, sft_steps), Path(folder), Output("bench", quiet=True))
    timed = clock.turns[1:turns]
    figures = {"ratio": round(statistics.median(_share(t, lambda _, kind: kind == OVERHEAD) for t in timed), 4)}
    seconds = [("seconds a turn", *(round(statistics.median(values), 3) for values in _seconds(timed)))]
    print(table([("", "turn", "generate", "verify", "train", OVERHEAD), *seconds]))
    by_stage = {
        name: round(statistics.median(t[name, OVERHEAD] for t in timed), 4)
        for name in ("rollout", "score", "train", "between")
    }
    print("overhead, seconds:", table([by_stage.keys(), by_stage.values()]), sep="\n")
    turn, *kinds = seconds[0][1:]
    return {"policy": policy, "turns": len(timed), "turn_s": turn, "work_s": round(sum(kinds[:3]), 3),
            "overhead_s": kinds[3], **figures, "by_stage": by_stage}  # fmt: skip


def others(runs: Path, count: int) -> None:
    """So many complete run folders that have nothing to do with the recipe."""
    if not count:
        return
    from bench.view_vs_duckdb import many_groups

    first = many_groups(runs, 100)
    for number in range(1, count):
        shutil.copytree(first, runs / f"score-{number:08x}")


def _share(turn: Counter[tuple[str, str]], wanted: Callable[[str, str], bool]) -> float:
    return sum(s for key, s in turn.items() if wanted(*key)) / sum(turn.values())


def _seconds(turns: list[Counter[tuple[str, str]]]) -> Iterator[list[float]]:
    yield [sum(t.values()) for t in turns]
    for kind in ("generate", "verify", "train", OVERHEAD):
        yield [sum(s for (_, k), s in t.items() if k == kind) for t in turns]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default=POLICY, help="what the recipe starts from")
    parser.add_argument("--turns", type=int, default=TURNS, help="RL turns, the first left out (at least 2)")
    parser.add_argument("--sft-steps", type=int, default=SFT_STEPS, help="steps before the first turn")
    parser.add_argument("--beside", type=int, default=0, help="other run folders beside its own")
    options = parser.parse_args()
    if options.turns < 2:
        parser.error(f"--turns {options.turns}: the first is left out, so there must be at least 2")
    print(json.dumps(main(options.policy, options.turns, options.sft_steps, options.beside)))
