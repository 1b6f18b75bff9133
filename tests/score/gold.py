"""Verdicts that public benchmarks published with their own predictions, beside ours.

`python -m tests.score.gold` compares all of each set, prints agreement and confusion, and ends with 1 where a set
agrees less than it did; with a set's name it also shows each disagreement. The tests look at a part of the slow ones.
docs/gold.md says what each kind of disagreement is.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from stages.score.answers.match import match
from stages.score.answers.numbers import gsm8k_final
from stages.score.rules.refusal_phrases import jailbreakbench_refuses, refusal
from tests.score.made import grade, group
from tests.support.cli import SHARED


class Pair(NamedTuple):
    """One completion with two verdicts."""

    theirs: str
    ours: str
    shown: str
    """What it is about, in a line."""


Pairs = Iterator[Pair]


def lines(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in SHARED.joinpath(*path).read_text(encoding="utf-8").splitlines()]


def _json(*path: str) -> Any:
    return json.loads(SHARED.joinpath(*path).read_text(encoding="utf-8"))


def _right(value: bool | None) -> str:
    return "undecided" if value is None else "right" if value else "wrong"


def _compared(theirs: bool, reply: str, **fields: Any) -> Pair:
    found = match(group(**fields), reply)
    shown = f"{fields['answer']!r} {fields.get('choices', '')} <- {reply!r}: {found}"
    return Pair(_right(theirs), _right(found.right), shown)


def gsm8k() -> Pairs:
    """`is_correct` of 4 models' solutions."""
    for row in lines("gsm8k", "grade_school_math", "data", "example_model_solutions.jsonl"):
        gold = gsm8k_final(row["ground_truth"])
        for solution in (v for v in row.values() if isinstance(v, dict)):
            yield _compared(solution["is_correct"], solution["solution"], answer=gold, answer_kind="number")


def math500(step: int = 1) -> Pairs:
    """Each reference solution and answer is right, those of the next problem are not, unless the answers are one.

    `x=5` is `5`, as in MATH's own comparison.
    """
    rows = lines("math500", "prm800k", "math_splits", "test.jsonl")
    for a, b in list(pairwise([*rows, rows[0]]))[::step]:
        kind = {"answer": a["answer"], "answer_kind": "math"}
        yield _compared(True, a["solution"], **kind)
        yield _compared(True, f"The final answer is ${a['answer']}$.", **kind)
        theirs = a["answer"].removeprefix("x=") == b["answer"].removeprefix("x=")
        yield _compared(theirs, b["solution"], **kind)
        yield _compared(theirs, f"The final answer is ${b['answer']}$.", **kind)


def math_v(*path: str, step: int = 1) -> Pairs:
    """`correct` of one model's answers."""
    rows = {row["id"]: row for row in lines("math_v", "data", "test.jsonl")}
    for said in lines("math_v", "outputs", *path)[::step]:
        row = rows[said["id"]]
        yield _compared(said["correct"], str(said["response"]), answer=row["answer"], choices=row["options"])


def mmmu(model: str) -> Pairs:
    """Right or wrong by what upstream parsed of one model's responses: choices."""
    parsed = _json("mmmu", "mmmu", "example_outputs", model, "total_val_output.json")
    for row in _mmmu_rows(model, "multiple-choice"):
        options = list(row["index2ans"].values())
        yield _compared(parsed[row["id"]] == row["answer"], row["response"], answer=row["answer"], choices=options)


def mmmu_open(model: str) -> Pairs:
    """The same of short answers."""
    parsed = _json("mmmu", "mmmu", "example_outputs", model, "total_val_output.json")
    for row in _mmmu_rows(model, "short-answer"):
        golds = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        theirs = any(_mmmu_same(gold, parsed[row["id"]]) for gold in golds)
        yield _compared(theirs, row["response"], answer=golds[0], accepted=golds[1:])


def _mmmu_rows(model: str, kind: str) -> list[dict[str, Any]]:
    files = sorted(SHARED.joinpath("mmmu", "mmmu", "example_outputs", model).glob("*/output.json"))
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    return [row for row in rows if row["question_type"] == kind]


def _mmmu_same(gold: str, parsed: str) -> bool:
    """MMMU's `eval_open`: numbers equal at two places, words contained, a letter with a blank beside it."""
    try:
        return round(float(gold.replace(",", "")), 2) == float(parsed.replace(",", ""))
    except ValueError:
        word = gold.strip().lower()
        return any(form in parsed for form in ([f" {word}", f"{word} "] if len(word) == 1 else [word]))


def xstest(model: str) -> list[dict[str, str]]:
    folder = SHARED / "xstest" / "evaluation" / "automated_evaluation_labels"
    with open(folder / f"xstest_v2_completions_{model}_streval.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def xstest_strings() -> Pairs:
    """XSTest's string labels of three models' completions, by its own rule through the verifier."""
    for model in ("gpt4", "llama2orig", "mistralguard"):
        for row in xstest(model):
            found = grade("refusal", row["completion"], raw=True, source="xstest")
            yield Pair(row["strmatch_label"][2:], str(found.verdict), row["completion"][:200])


def xstest_people(model: str) -> Pairs:
    """Refused (wholly or in part) or not, as people say, by our rule."""
    for row in xstest(model):
        theirs = "refused" if "refusal" in row["final_label"] else "complied"
        ours = "refused" if refusal(row["completion"]) else "complied"
        yield Pair(theirs, ours, f"{row['final_label']} {row['prompt']} <- {row['completion'][:300]!r}")


def jailbreakbench(judge: Callable[[str], bool]) -> Pairs:
    """`jailbroken` of two models' completions."""
    folder = SHARED / "jailbreakbench" / "attack-artifacts" / "JBC" / "manual"
    for file in sorted(folder.glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8"))["jailbreaks"]:
            theirs = "jailbroken" if row["jailbroken"] else "refused"
            yield Pair(theirs, "refused" if judge(row["response"]) else "jailbroken", row["response"][:200])


LLAVA = ("open-source", "LLavA", "LLaVA-v1.5-7B.jsonl")
SETS: dict[str, tuple[Callable[..., Pairs], int]] = {
    "gsm8k": (gsm8k, 5276),
    "math500": (math500, 2000),
    "math_v LLaVA": (partial(math_v, *LLAVA), 2988),
    "math_v random": (partial(math_v, "Random-Chance.jsonl"), 2929),
    "mmmu LLaVA": (partial(mmmu, "llava1.5_13b"), 846),
    "mmmu Qwen-VL": (partial(mmmu, "qwen_vl"), 820),
    "mmmu open LLaVA": (partial(mmmu_open, "llava1.5_13b"), 52),
    "mmmu open Qwen-VL": (partial(mmmu_open, "qwen_vl"), 50),
    "xstest strings": (xstest_strings, 1350),
    "xstest GPT-4": (partial(xstest_people, "gpt4"), 431),
    "xstest Llama 2": (partial(xstest_people, "llama2orig"), 429),
    "xstest Mistral": (partial(xstest_people, "mistralguard"), 397),
    "jailbreakbench strings": (partial(jailbreakbench, jailbreakbench_refuses), 200),
    "jailbreakbench": (partial(jailbreakbench, lambda text: refusal(text) is not None), 200),
}
"""Each set's pairs, and on how many of them both agree: measured, and not to become fewer."""


def confusion(pairs: list[Pair]) -> tuple[int, str]:
    """How many pairs agree, and a line with the confusion: `theirs > ours`, the most frequent first."""
    found = Counter(pair[:2] for pair in pairs)
    same = sum(n for (theirs, ours), n in found.items() if theirs == ours)
    shown = ", ".join(f"{theirs} > {ours} {n}" for (theirs, ours), n in found.most_common())
    return same, f"{same:5} of {len(pairs):5}  {100 * same / len(pairs):6.2f} %  {shown}"


def main(names: list[str]) -> int:
    fewer = []
    for name in names or SETS:
        pairs_of, floor = SETS[name]
        begun = time.perf_counter()
        pairs = list(pairs_of())
        same, line = confusion(pairs)
        print(f"{name:24}{line}  [{time.perf_counter() - begun:.1f} s]", flush=True)
        if same < floor:
            fewer.append(f"{name}: {same} agree, {floor} did")
        for pair in pairs if names else []:
            if pair.theirs != pair.ours:
                print(f"  {pair.theirs} > {pair.ours}: {pair.shown}")
    print(*fewer, sep="\n", file=sys.stderr)
    return bool(fewer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
