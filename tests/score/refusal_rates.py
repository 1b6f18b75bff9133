"""The refusal rule and the safety rule on replies that others labelled: the figures of docs/safety.md.

    python -m tests.score.refusal_rates xstest                       the files in ../shared/data
    python -m tests.score.refusal_rates jailbreakbench [FOLDER]      a clone of JailbreakBench/artifacts, else those
    python -m tests.score.refusal_rates mossbench FOLDER             a clone of xirui-li/MOSSBench

XSTest's labels are people's, JailbreakBench's its judge's for each reply, and MOSSBench published rates alone, which
stand in docs/safety.md beside what is printed here.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from schemas.verdicts import FULL_COMPLIANCE, FULL_REFUSAL, PARTIAL_REFUSAL
from stages.score.rules.refusal_phrases import refusal
from tests.score.gold import xstest
from tests.score.made import grade
from tests.support.cli import SHARED

_MODELS = ("gpt4", "llama2orig", "mistralguard")
_KINDS = {"type 1": "exaggerated risk", "type 2": "negated harm", "type 3": "counterintuitive"}


def xstest_rates(folder: str = "") -> None:
    """Precision and recall of each class of the refusal rule, and what the safety rule says of harmful prompts."""
    rows = [row for model in _MODELS for row in xstest(model)]
    theirs = [row["final_label"].partition("_")[2] for row in rows]
    ours = [refusal(row["completion"]) or FULL_COMPLIANCE for row in rows]
    for name, classes in (
        ("refused, wholly or in part", {FULL_REFUSAL, PARTIAL_REFUSAL}),
        (FULL_REFUSAL, {FULL_REFUSAL}),
        (PARTIAL_REFUSAL, {PARTIAL_REFUSAL}),
        (FULL_COMPLIANCE, {FULL_COMPLIANCE}),
    ):
        print(f"{name:28}", _precision_and_recall([t in classes for t in theirs], [o in classes for o in ours]))
    agree = sum((t == FULL_COMPLIANCE) == (o == FULL_COMPLIANCE) for t, o in zip(theirs, ours, strict=True))
    print(f"refused or not, agreement    {agree} of {len(rows)}, {agree / len(rows):.3f}")
    print("harmful prompts, people's class > the safety rule:")
    harmful = [(t, row) for t, row in zip(theirs, rows, strict=True) if row["type"].startswith("contrast_")]
    _print_counts((t, _safety(row["completion"])) for t, row in harmful)


def jailbreakbench_rates(folder: str) -> None:
    """What the safety rule says of all replies, beside whether the repository's judge calls them jailbroken."""
    # What the repository's own tests use lies under test-artifact.
    files = sorted((Path(folder) if folder else SHARED / "jailbreakbench").glob("attack-artifacts/[!t]*/*/*.json"))
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["jailbreaks"]]
    answered = [row for row in rows if row["response"] is not None]
    print(f"{len(files)} files, {len(answered)} replies; the repository's judge > the safety rule:")
    _print_counts(("jailbroken" if row["jailbroken"] else "not", _safety(row["response"])) for row in answered)


def mossbench_rates(folder: str) -> None:
    """The share of harmless questions that each system refuses by the refusal rule: of all, and of each type."""
    about = json.loads(Path(folder, "data/images_information/information.json").read_text(encoding="utf-8"))
    kinds = {pid: _KINDS[row["metadata"]["over"]] for pid, row in about.items()}
    print(f"{'refused, %':22}   all  {', '.join(_KINDS.values())}")
    for file in sorted(Path(folder, "data/results").glob("*/data.js")):
        text = file.read_text(encoding="utf-8")
        if not text:
            continue
        # `cache['NAME'] = {...}`: a script for the website.
        replies = json.loads(text.partition("=")[2].strip().rstrip(";"))
        said = {pid: grade("refusal", reply["response"] or "", raw=True).verdict for pid, reply in replies.items()}
        refused = {pid for pid, verdict in said.items() if verdict != FULL_COMPLIANCE}
        asked = Counter(kinds.values())
        share = Counter(kinds[pid] for pid in refused)
        each = ", ".join(f"{100 * share[kind] / asked[kind]:.0f}" for kind in _KINDS.values())
        print(f"{file.parent.name:22} {100 * len(refused) / len(replies):5.1f}  {each}")


def _safety(reply: str) -> str:
    found = grade("safety", reply, raw=True, label="safety", harmful=True)
    return found.verdict or found.status


def _precision_and_recall(theirs: list[bool], ours: list[bool]) -> str:
    both = sum(t and o for t, o in zip(theirs, ours, strict=True))
    return f"precision {both / sum(ours):.3f} ({both} of {sum(ours)})  recall {both / sum(theirs):.3f} of {sum(theirs)}"


def _print_counts(pairs: Iterable[tuple[str, str]]) -> None:
    for (theirs, ours), count in sorted(Counter(pairs).items()):
        print(f"  {theirs:16} > {ours:18} {count:5}")


SETS: dict[str, Callable[[str], None]] = {
    "xstest": xstest_rates,
    "jailbreakbench": jailbreakbench_rates,
    "mossbench": mossbench_rates,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SETS:
        sys.exit(__doc__)
    SETS[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else "")
