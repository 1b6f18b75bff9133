"""cosmo edit: beside what every stage's command does, `$EDITOR` on one completion, and what edits changed."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmo_cli.stage_command import stage_command
from stages.core.errors import InputError, UnavailableError, UsageError
from stages.edit.config import Change, EditConfig

IdOption = Annotated[
    str | None, typer.Option("--id", help="Open $EDITOR on a completion of this row (a prefix will do).")
]
IndexOption = Annotated[int, typer.Option("--index", help="Which completion of the row.", min=0)]
StepOption = Annotated[
    int, typer.Option("--step", help="Only this step, from 1; saved as it is, sampling goes on behind it.", min=0)
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept with the edit.", show_default=False)]
TableOption = Annotated[
    bool, typer.Option("--table", help="Only say what each edit changed: give the scored runs before and after.")
]
SimilarOption = Annotated[
    int,
    typer.Option(
        "--similar",
        help="Only print the edits as lines, each with at most so many more for completions that have the same steps: "
        "look at them, then --from takes them.",
        min=0,
    ),
]
_SHOWN = 40


def act(config: EditConfig, inputs: list[Path], given: dict[str, Any]) -> bool:
    """With --table, --id or --similar: what they ask for, in place of the stage with the config as it is."""
    if given["table"]:
        print_table(inputs, given)
        return True
    if given["id"] is not None:
        change = ask(inputs, given["id"], given["index"], given["step"], given["why"])
        config = dataclasses.replace(config, changes=[*config.changes, change])
    if given["similar"]:
        print_similar(config, inputs, given)
    elif given["id"] is not None:
        from cosmo_cli.stage_run import run_command

        run_command("edit", config, inputs, given, None)
    return bool(given["similar"]) or given["id"] is not None


def ask(inputs: list[Path], ident: str, index: int, step: int, why: str) -> Change:
    """What a person makes of one completion in their editor."""
    from schemas.tables import ROLLOUTS
    from stages.core.runner import check_inputs
    from stages.core.runs.folder import RunFolder
    from stages.edit.document import document, text_of
    from stages.edit.rows import Groups
    from stages.edit.stage import STAGE
    from stages.judging.steps import split_steps

    editor = _editor()
    folders = [RunFolder.open(path) for path in inputs]
    check_inputs(STAGE, folders, partial=True)
    groups = Groups(folders, ROLLOUTS)
    whole = groups.find(ident)
    if whole is None:
        raise InputError(f"no row {ident!r}, or more than one", "cosmo show RUN lists ids")
    group = groups.read([whole])[whole]
    completion = next((c for c in group.completions if c.index == index and c.error is None), None)
    if completion is None:
        raise InputError(f"{whole} has no completion {index}", f"it has {len(group.completions)}: --index from 0")
    shown = document(completion.text, whole, index, completion.policy_id, step)
    after = text_of(_edited(editor, shown), completion.text, step)
    if not step and after == completion.text:
        raise InputError("the completion was saved as it was: nothing is edited", "--step N goes on behind step N")
    start = len("".join(split_steps(completion.text)[: step - 1])) if step else 0
    return Change(id=whole, index=index, step=step, after=after[start:], why=why)


def _editor() -> list[str]:
    """The person's editor; UsageError where none is named."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not named:
        raise UsageError("no editor is named: EDITOR is not set", "EDITOR=nano cosmo edit ..., or --from edits.jsonl")
    return shlex.split(named)


def _edited(editor: list[str], shown: str) -> str:
    """The file as the editor left it. Where that fails the file stays, with the person's words in it."""
    descriptor, path = tempfile.mkstemp(prefix="cosmo-edit-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(shown)
    try:
        code = subprocess.run([*editor, path], check=False).returncode
    except OSError as error:
        os.unlink(path)
        raise UnavailableError(
            f"the editor {editor[0]!r} can't be started: {error.strerror}", "EDITOR=nano cosmo edit ..."
        ) from None
    if code:
        raise InputError(
            f"the editor {editor[0]!r} ended with exit code {code}: nothing is edited", f"your words are in {path}"
        )
    text = Path(path).read_text(encoding="utf-8")
    os.unlink(path)
    return text


def print_similar(config: EditConfig, inputs: list[Path], given: dict[str, Any]) -> None:
    """The edits, each as it was checked, and what is proposed beside them, as lines that --from reads."""
    import json

    from cosmo_cli.terminal.output import Output
    from schemas.tables import ROLLOUTS
    from stages.core.runner import check_inputs
    from stages.core.runs.folder import RunFolder
    from stages.edit.changes import changes_of
    from stages.edit.rows import Groups
    from stages.edit.similar import proposals
    from stages.edit.stage import STAGE, checked

    output = Output("edit", given["json"], given["quiet"])
    folders = [RunFolder.open(path) for path in inputs]
    check_inputs(STAGE, folders, partial=True)
    edits, groups = checked(Groups(folders, ROLLOUTS), changes_of(config))
    more = proposals(folders, [(change, groups[change.id]) for change in edits], given["similar"])
    lines = [{k: v for k, v in dataclasses.asdict(one).items() if v or k == "after"} for one in (*edits, *more)]
    output.lines(json.dumps(line, ensure_ascii=False) for line in lines)
    output.say(f"edits: {len(edits)}, proposed beside them: {len(more)}; look at them, then cosmo edit RUN --from FILE")


def print_table(inputs: list[Path], given: dict[str, Any]) -> None:
    """What each edit changed: a table for the person, or one JSON document."""
    from cosmo_cli.terminal.output import Output
    from schemas.tables import SCORED
    from stages.core.runner import accepts
    from stages.core.runs.folder import RunFolder
    from stages.edit.pairs import changes, record

    output = Output("edit", given["json"], given["quiet"])
    folders = [RunFolder.open(path) for path in inputs]
    for folder in folders:
        if accepts((SCORED,), folder) is None:
            raise InputError(f"{folder.where} holds {folder.table}, and grades are compared", "cosmo score it first")
    found = [record(changed) for changed in changes(folders)]
    if given["json"]:
        output.document(found)
        return
    output.lines(table_lines(found))


def table_lines(found: list[dict[str, Any]]) -> list[str]:
    """A line an edit, and one for all of them."""
    lines = [
        f"{one['id']}  {one['parent_id']}#{one['index']}  {one['by']}: {_cut(one['before'])} -> {_cut(one['after'])}"
        f"  reward {_pair(one['reward'])}  task {_pair(one['task'])}"
        for one in found
    ]
    for name in ("task", "reward"):
        both = [one[name] for one in found if None not in one[name]]
        if both:
            before, after = (sum(values) / len(both) for values in zip(*both, strict=True))
            better, worse = sum(b > a for a, b in both), sum(b < a for a, b in both)
            lines.append(
                f"{len(both)} edits: mean {name} {before:.3f} -> {after:.3f}; {better} better, {worse} worse,"
                f" {len(both) - better - worse} as before"
            )
    return lines


def _pair(values: list[float | None]) -> str:
    return " -> ".join("-" if value is None else f"{value:.3g}" for value in values)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


COMMAND = stage_command(
    "edit",
    more={
        "id": (IdOption, None),
        "index": (IndexOption, 0),
        "step": (StepOption, 0),
        "why": (WhyOption, ""),
        "table": (TableOption, False),
        "similar": (SimilarOption, 0),
    },
    instead=act,
)
