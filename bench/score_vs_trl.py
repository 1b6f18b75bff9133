"""Completions scored a second: `cosmo score`'s grading against TRL's GRPO reward loop, on the same completions.

    python bench/score_vs_trl.py [SHARED_DATA]

Both compute accuracy and format of completions `<think> ... </think> ... \\boxed{x}` in memory: ours by the `math`
formula (answer 0.9, format 0.1) with 1 and 4 workers; TRL's by `GRPOTrainer._calculate_rewards`, unchanged, over
`reasoning_accuracy_reward` and `think_format_reward`, in the trainer's process as TRL has it. Two sets, neither with a
model of ours behind it:

- gsm8k: the published solutions of four models to 1,319 problems, their final number boxed (5,276 completions);
- math: 500 MATH problems, a group of eight each: four as the reference, one respelled, three near
  misses (other digits), two of them the same. No published completions to them are at hand, so this mix is made up.

What helps ours is part of the measurement: equal spellings and exact numbers need no algebra, a repeated answer of a
group is compared once, and children work in parallel. Rounds alternate; what ours remembers of completions is forgotten
before each, while both sides' parsers stay warm (a child of ours keeps its decisions on the last 64 shapes of
answers). `cpu` columns are completions a CPU second, children's seconds counted, which a busy machine distorts less
than the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared" / "data"
ROUNDS, WORKERS = 5, 4


@dataclass(frozen=True)
class Problem:
    """A question with its reference and the completions of one group."""

    question: str
    gold: str
    kind: str
    completions: list[str]


def _completion(reasoning: str, answer: str) -> str:
    return f"<think>\n{reasoning}\n</think>\n\nThe answer is \\boxed{{{answer}}}."


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def gsm8k(shared: Path) -> list[Problem]:
    """Real completions: four models' solutions a problem, right and wrong as they are."""
    from stages.score.answers.numbers import gsm8k_final

    problems = []
    for row in _lines(shared / "gsm8k" / "grade_school_math" / "data" / "example_model_solutions.jsonl"):
        texts = [v["solution"] for v in row.values() if isinstance(v, dict)]
        completions = [_completion(text, gsm8k_final(text) or "none") for text in texts]
        problems.append(Problem(row["question"], gsm8k_final(row["ground_truth"]) or "", "number", completions))
    return problems


def math(shared: Path, raised: int = 0) -> list[Problem]:
    """References, respelled references and wrong answers of MATH-500; all digits of a reference `raised` by so much."""
    rows = _lines(shared / "math500" / "prm800k" / "math_splits" / "test.jsonl")
    problems = []
    for row in rows:
        gold = _wrong(row["answer"], raised) if raised else row["answer"]
        answers = [gold] * 4 + [_respelled(gold), _wrong(gold, 1), _wrong(gold, 1), _wrong(gold, 2)]
        problems.append(Problem(row["problem"], gold, "math", [_completion(row["solution"], a) for a in answers]))
    return problems


def _respelled(answer: str) -> str:
    """The same value in another spelling, where there is an easy one."""
    if answer.lstrip("-").isdigit():
        return f"{answer}.0"
    return answer.replace("\\frac", "\\tfrac")


def _wrong(answer: str, by: int) -> str:
    """A near miss: every digit raised, or the whole multiplied where there is none."""
    if any(c.isdigit() for c in answer):
        return "".join(str((int(c) + by) % 10) if c.isdigit() else c for c in answer)
    return f"{by + 1}({answer})"


def groups_of(problems: list[Problem]) -> list[Any]:
    """As rollout groups of label math."""
    from schemas.rollouts import Completion, RolloutGroup, Sampling
    from schemas.values import text_message

    sampling = Sampling(1.0, 1.0, 0, 1024, 0)
    groups = []
    for number, problem in enumerate(problems):
        completions = [
            Completion(index=i, text=text, token_ids=[], logprobs=[], finish_reason="stop", sampling=sampling,
                       policy_id="bench", engine="none")
            for i, text in enumerate(problem.completions)
        ]  # fmt: skip
        groups.append(
            RolloutGroup(id=str(number), label="math", source="bench", task="bench", answer=problem.gold,
                         answer_kind=problem.kind, messages=[text_message("user", problem.question)],
                         completions=completions)
        )  # fmt: skip
    return groups


def ours(problems: list[Problem], workers: int) -> Callable[[], list[float | None]]:
    """Grading as `cosmo score` does it, from rows to rewards."""
    from stages.core.parallel_map import in_order
    from stages.score.answers import maths
    from stages.score.config import ScoreConfig
    from stages.score.stage import grader_for

    groups, grader = groups_of(problems), grader_for(ScoreConfig(also=[]))

    def once() -> list[float | None]:
        maths.forget()
        scored = list(in_order(grader.group, groups, workers))
        return [c.reward for group in scored for c in group.completions]

    return once


def trl(problems: list[Problem]) -> Callable[[], list[float | None]]:
    """TRL's own method on as much of a trainer as it reads; weights as in our formula."""
    import torch
    from trl import GRPOTrainer
    from trl.rewards import reasoning_accuracy_reward, think_format_reward

    functions = [reasoning_accuracy_reward, think_format_reward]
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu"), is_main_process=False),
        reward_funcs=functions,
        reward_func_names=[f.__name__ for f in functions],
        reward_processing_classes=[None, None],
        environments=None,
        state=SimpleNamespace(global_step=0),
        args=SimpleNamespace(report_to=[]),
        _log_completion_extra=lambda *given: None,
        _log_metric=lambda *given: None,
    )
    flat = [(p, completion) for p in problems for completion in p.completions]
    prompts = [[{"role": "user", "content": p.question}] for p, _ in flat]
    inputs = [{"prompt": q, "solution": f"\\boxed{{{p.gold}}}"} for q, (p, _) in zip(prompts, flat, strict=True)]
    completions = [[{"role": "assistant", "content": completion}] for _, completion in flat]
    # gather() needs an accelerator; one process has nothing to gather.
    module = sys.modules[GRPOTrainer.__module__]
    module.gather = lambda tensor: tensor  # type: ignore[attr-defined]

    def once() -> list[float | None]:
        values = GRPOTrainer._calculate_rewards(trainer, inputs, prompts, completions, [[1]] * len(flat))
        return [float(r) for r in 0.9 * values[:, 0] + 0.1 * values[:, 1]]

    return once


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the idle children that compare mathematics (Linux)."""
    from stages.score.answers.algebra.math_pool import POOL

    ticks = 0
    for child in POOL._idle:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _timed(once: Callable[[], list[float | None]]) -> tuple[float, float, list[float | None]]:
    started, cpu = time.perf_counter(), _cpu_seconds()
    rewards = once()
    return time.perf_counter() - started, _cpu_seconds() - cpu, rewards


def compare(problems: list[Problem], rounds: int = ROUNDS) -> dict[str, float]:
    """Completions a second by each, medians over alternating rounds, and how often the rewards are the same."""
    runs = {"ours_4": ours(problems, WORKERS), "ours_1": ours(problems, 1), "trl": trl(problems)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    rewards: dict[str, list[float | None]] = {}
    runs["ours_4"]()  # children start once a run, and math-verify is imported once a process: neither is a rate
    trl(problems[:1])()
    for _ in range(rounds):
        for name, once in runs.items():
            seconds, used, rewards[name] = _timed(once)
            times[name].append(seconds)
            cpu[name].append(used)
    count = sum(len(p.completions) for p in problems)
    rates = {name: count / statistics.median(taken) for name, taken in times.items()}
    work = {f"{name}_cpu": count / statistics.median(used) for name, used in cpu.items()}
    same = sum(abs((a or 0) - (b or 0)) < 1e-3 for a, b in zip(rewards["ours_4"], rewards["trl"], strict=True))
    ratios = {"ratio": rates["ours_4"] / rates["trl"], "ratio_cpu": work["ours_4_cpu"] / work["trl_cpu"]}
    return {"completions": count, **rates, **work, **ratios, "same": same / count}


def main(shared: Path = SHARED) -> dict[str, dict[str, float]]:
    """Both sets compared; prints the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = {name: compare(make(shared)) for name, make in (("gsm8k", gsm8k), ("math", math))}
    columns = ("completions", "ours_4", "ours_1", "trl", "ratio", "ours_4_cpu", "trl_cpu", "ratio_cpu", "same")
    print(f"{'set':<8}" + "".join(f"{c:>11}" for c in columns))
    for name, row in found.items():
        print(f"{name:<8}" + "".join(f"{row[c]:>11.4g}" for c in columns))
    print(
        f"completions a second, ours with {WORKERS} workers and with 1; cpu: a CPU second; same: share of equal rewards"
    )
    return found


if __name__ == "__main__":
    main(*(Path(a) for a in sys.argv[1:]))
