"""cosmo check: is what cosmo computes with a model what the model computes?

Loads it in float32, asks it a few prompts (words, one image, two images of different sizes), samples and scores them
the way rollout and training do, batched and padded, and compares every log-prob with transformers' own `generate` on
one prompt at a time. Exit 3 where they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cosmo_cli.options import JsonOption

if TYPE_CHECKING:
    from stages.train.check.measure import CheckResult


def command(
    model: Annotated[str, typer.Argument(help="tiny:NAME, a train run, a Hugging Face folder, or a hub name.")],
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run model code that comes with the weights.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the table; InputError where a number is not the model's own, UnavailableError where it can't be loaded."""
    from cosmo_cli.terminal.output import Output, stdout_to_stderr
    from stages.core.errors import InputError
    from stages.models.policy_ref import resolve_policy

    output = Output("check", json)
    with stdout_to_stderr():
        from stages.models.load import load_policy
        from stages.train.check.cached import failure_line
        from stages.train.check.measure import EXACT, check_model

        ref = resolve_policy(model)
        result = check_model(load_policy(ref, device=device, dtype="float32", trust_remote_code=trust_remote_code))
    if json:
        output.document(result.as_json())
    else:
        output.lines(table(result))
    if result.failures:
        raise InputError(
            f"{model} ({result.model_type}): {failure_line(result)}; at most {EXACT:g} is rounding",
            "do not train or sample it with these numbers; --set prefix_sharing=off if only shared prompts differ",
        )


def table(result: CheckResult) -> list[str]:
    """A line a way and question with the largest difference, then what else holds."""
    rows = [(c.way, c.question, c.error or f"{c.gap:.1e}") for c in result.cells]
    wide = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
    lines = [f"{way:<{wide[0]}}  {question:<{wide[1]}}  {value}" for way, question, value in rows]
    named = max(map(len, result.features), default=0)
    facts = [f"{name:<{named}}  {text}" for name, text in result.features.items()]
    return [*lines, "", *facts, f"{'seconds':<{named}}  {result.seconds}"]


COMMAND = command
