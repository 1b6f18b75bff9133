"""The model card: what the model is, where it came from, what was measured, and what it is not for."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError
from stages.core.registry import find
from stages.export.lineage import Lineage, public, settings

if TYPE_CHECKING:
    from schemas.evals import EvalRow
    from stages.core.runs.folder import RunFolder

_OPEN_RUNS = 24
_TITLES = {
    "capability": "Capability (right answers)",
    "unsafe_compliance": "Unsafe compliance, seen attack families",
    "unsafe_compliance_heldout": "Unsafe compliance, held-out attack families",
    "needless_refusal": "Needless refusal of harmless requests",
    "instruction": "Instruction following",
    "format": "Well-formed completions",
    "reward": "Mean reward",
    "completion_length": "Completion length, tokens",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a card tells."""

    name: str
    policy_id: str
    vision: bool
    parameters: int
    dtype: str
    license: str
    lineage: Lineage
    check: dict[str, Any]
    """What the fresh process reported."""
    rounding: tuple[float, float] | None
    """(mean, largest) log-prob change from rounding the weights; None where nothing was rounded."""
    vllm: dict[str, Any] | None
    evals: RunFolder | None


def render(facts: Facts) -> str:
    """The card as the Markdown of README.md, YAML header first."""
    parts = [
        _header(facts),
        f"# {_inline(facts.name)}\n\n{_what(facts)}",
        f"## Use\n\n{_use(facts)}",
        f"## Evaluation\n\n{_evaluation(facts)}",
        f"## Intended use and limits\n\n{_limits(facts)}",
        f"## Lineage\n\n{_lineage(facts)}",
        f"## Settings\n\n{_settings(facts)}",
        f"## Verification\n\n{_verification(facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: Facts) -> str:
    objectives = [find("objective", name) for name in _objectives(facts)]
    tags = list(dict.fromkeys(["cosmo", "safety", "alignment", *(tag for o in objectives if o for tag in o.tags)]))
    task = "image-text-to-text" if facts.vision else "text-generation"
    lines = ["---", "library_name: transformers", f"pipeline_tag: {task}"]
    if facts.lineage.hub_base:
        # JSON strings are YAML strings.
        lines.append(f"base_model: {json.dumps(facts.lineage.hub_base)}")
    if facts.license:
        lines.append(f"license: {json.dumps(facts.license)}")
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _objectives(facts: Facts) -> list[str]:
    """The objective of each training in the lineage, the first one first."""
    return [str(r.config.get("objective")) for r in facts.lineage.runs if r.stage == "train"]


def _what(facts: Facts) -> str:
    kind = "vision-language model" if facts.vision else "language model"
    parts = []
    for name, runs in Counter(_objectives(facts)).items():
        # An objective of a package that is not installed here has no title, and goes by its name.
        title = getattr(find("objective", name), "title", name).lower()
        parts.append(f"{runs} run{'s' * (runs > 1)} of {title}")
    base = f" from `{_code(str(public(facts.lineage.base)))}`" if facts.lineage.base else ""
    how = f", trained{base} by {' and '.join(parts)}" if parts else ""
    return (
        f"A {kind} of {facts.parameters:,} parameters{how} with `cosmo`, which trains for safety and "
        f"capability at once. Policy id `{facts.policy_id}`, weights stored in {facts.dtype}."
    )


def _use(facts: Facts) -> str:
    family = "AutoModelForImageTextToText" if facts.vision else "AutoModelForCausalLM"
    reader = "AutoProcessor" if facts.vision else "AutoTokenizer"
    return (
        f"```python\nfrom transformers import {family}, {reader}\n\n"
        f'model = {family}.from_pretrained("FOLDER")\nreader = {reader}.from_pretrained("FOLDER")\n```\n\n'
        "Completions have the form `<think> ... </think> answer`; what follows the think block is the answer. "
        "The folder holds no code and no pickles."
    )


def _evaluation(facts: Facts) -> str:
    if facts.evals is None:
        return "None was given at export. Nothing is claimed about how capable or how safe this model is."
    table, note = eval_table(facts.evals, facts.policy_id)
    rounded = ""
    if facts.rounding is not None:
        rounded = f" They were measured before the weights were rounded to {facts.dtype}."
    return (
        f"{table}\n\nEach value with its 95 % interval; prompts are the sampling unit. {note} Measured in "
        f"`{_code(facts.evals.path.name)}` (fingerprint `{facts.evals.fingerprint[:12]}`).{rounded}"
    )


def eval_table(run: RunFolder, policy_id: str) -> tuple[str, str]:
    """(Markdown table, what it compares); InputError when the run did not measure this policy."""
    from schemas.tables import EVALS
    from stages.core.atomic import read_json

    rows: list[EvalRow] = [r for r in run.rows(EVALS) if r.slice == "all"]
    policies = list(dict.fromkeys(r.policy for r in rows))
    own = next((r.policy for r in rows if r.policy_id == policy_id), None)
    if own is None:
        raise InputError(
            f"{run.where} did not measure this policy ({policy_id}), but {', '.join(policies)}",
            "give the eval run of this very train run, or leave --evals out",
        )
    compared = [p for p in policies if p != own]
    # Written beside the rows by the same eval run, so that the card's differences are paired ones and no subtraction.
    changes = read_json(run.artifact("summary.json"))["differences"].get(own, {})
    header = ["Metric", "This model", *compared, *(["Change"] if changes else []), "Prompts"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for metric in dict.fromkeys(r.metric for r in rows):
        cells = {r.policy: r for r in rows if r.metric == metric}
        row = cells[own]
        # A metric that applies to no prompt of this comparison would be a line of dashes.
        if row.n:
            change = [_change(changes["metrics"].get(metric), row)] if changes else []
            others = [_value(cells.get(p)) for p in compared]
            lines.append([_TITLES.get(metric, metric), _value(row), *others, *change, f"{row.n:,}"])
    table = "\n".join("| " + " | ".join(_inline(cell) for cell in line) + " |" for line in lines)
    against = f"Change: paired difference from {_inline(changes['against'])} on common prompts." if changes else ""
    return table, against


def _value(row: EvalRow | None) -> str:
    if row is None or row.value is None:
        return "–"
    if row.low is None or row.high is None:
        return _number(row.value)
    return f"{_number(row.value)} [{_number(row.low)}, {_number(row.high)}]"


def _change(entry: dict[str, Any] | None, row: EvalRow) -> str:
    if not entry or entry["value"] is None or row.value is None:
        return "–"
    digits = 3 if abs(row.value) < 10 else 1
    text = f"{entry['value']:+.{digits}f}"
    if entry["low"] is not None:
        text += f" [{entry['low']:+.{digits}f}, {entry['high']:+.{digits}f}]"
    return f"{text} {entry['verdict']}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _limits(facts: Facts) -> str:
    lines = [
        "For research on training that raises safety and capability together. Not for use on people without "
        "further tests of your own.",
        "",
        "- Safety was trained on particular request and attack families; others may succeed.",
        "- Rewards and metrics come from verifiers, which make mistakes; their blind spots are the model's.",
    ]
    if facts.evals is None:
        lines.append("- No evaluation came with this export: how often it complies or refuses is not known.")
    else:
        lines.append("- It refuses too much and complies too much at the rates above, within their intervals.")
    if facts.lineage.base and facts.lineage.base.startswith("tiny:"):
        lines.append(
            "- It started from random weights and knows only the small synthetic world it was trained on: it "
            "can't hold a conversation about anything else."
        )
    return "\n".join(lines)


def _lineage(facts: Facts) -> str:
    rows = [["Stage", "Run", "Fingerprint", "Rows"], ["---", "---", "---", "---:"]]
    for run in facts.lineage.runs:
        count = sum(r.rows for r in run.receipts().values())
        name, mark = _code(run.path.name), run.fingerprint[:12]
        rows.append([run.stage, f"`{name}`", f"`{mark}`", f"{count:,}" if count else "–"])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    base = f"`{_code(str(public(facts.lineage.base)))}`" if facts.lineage.base else "not known any more"
    if len(facts.lineage.runs) > _OPEN_RUNS:
        table = f"<details><summary>{len(facts.lineage.runs)} runs</summary>\n\n{table}\n\n</details>"
    return f"Start: {base}. Earliest run first; runs that were deleted are not listed.\n\n{table}"


def _settings(facts: Facts) -> str:
    blocks = []
    for kind, lines, count in settings(facts.lineage.runs):
        # A setting may hold a fence of its own, which would end the block.
        shown = "\n".join(lines).replace("```", "'''")
        head = f"<summary>{kind}, {count} run{'s' * (count > 1)}</summary>"
        blocks.append(f"<details>{head}\n\n```text\n{shown}\n```\n\n</details>")
    return "\n\n".join(blocks)


def _verification(facts: Facts) -> str:
    check = facts.check
    probes = f"{check['tokens']} probe tokens" + (", with and without an image," if facts.vision else "")
    agree = "are identical" if check["max_gap"] == 0 else f"differ by {check['max_gap']:.1e} at most"
    lines = [
        f"- Reloaded in a fresh process: log-probs of {probes} {agree} "
        f"(allowed: {check['tolerance']:.0e}, in float32).",
        f"- AutoProcessor: {_inline(check['auto_processor'])}.",
    ]
    if facts.rounding is not None:
        mean, largest = facts.rounding
        lines.append(
            f"- Rounding the weights to {facts.dtype} moved the same log-probs by {mean:.1e} on average and "
            f"{largest:.1e} at most, computed in float32."
        )
    unchecked = ["conversion to GGUF (llama.cpp)"]
    if facts.vllm is None:
        unchecked.insert(0, "vLLM (`cosmo export --set vllm_check=true` does)")
    else:
        lines.append(
            f"- Loaded in vLLM {facts.vllm['version']}: log-probs of {facts.vllm['tokens']} probe tokens differ "
            f"by {facts.vllm['max_gap']:.1e} at most."
        )
    lines.append(f"- Not checked: {', '.join(unchecked)}.")
    lines.append("- Check again: `python -m stages.export.verify FOLDER`; probes in `cosmo_export.json`.")
    return "\n".join(lines)


def _inline(text: str) -> str:
    """Text that can't break out of its line, table cell or Markdown."""
    # The separator of a Markdown table is the one cell that has to stay as it is.
    return re.sub(r"([\\`*_<>|#])", r"\\\1", " ".join(text.split())) if text not in ("---", "---:") else text


def _code(text: str) -> str:
    # In a code span nothing can be escaped, so a backtick has to go, and a bar would end the table's cell.
    return " ".join(text.replace("`", "'").replace("|", "/").split())
