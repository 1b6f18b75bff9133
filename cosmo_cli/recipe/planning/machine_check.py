"""`cosmo run` asks before it starts: does the recipe fit this machine? The same lines as `cosmo plan`."""

from __future__ import annotations

from pathlib import Path

from cosmo_cli.recipe.planning.disk_estimate import check_room
from cosmo_cli.recipe.schema import Recipe
from cosmo_cli.terminal.output import Output
from stages.capacity.machine import Machine, this_machine
from stages.core.errors import UnavailableError

# Training takes 16 to 26 bytes a parameter in each process, and activations: with weights of a hundredth of the memory
# there is nothing to ask, and a small recipe is not kept waiting for torch.
_SMALL = 0.01


def check_machine(recipe: Recipe, runs: Path, output: Output, executor: str) -> None:
    """Say what the disk needs; CosmoError where it has less, UnavailableError where memory or GPUs can't be enough.

    What only might not fit, because it depends on how long prompts and completions get, is a warning.
    """
    weights, machine = check_room(recipe, runs, output), this_machine(runs)
    if weights is None or (machine.gpus < 2 and _is_small(weights, machine)):
        return
    from cosmo_cli.recipe.planning.demands import Question
    from cosmo_cli.recipe.planning.plan import config_folder, plan_recipe
    from stages.capacity.shape import read_shape

    trusted = bool(recipe.table("train").get("trust_remote_code"))
    shape = read_shape(config_folder(recipe.policy), trusted)
    plan = plan_recipe(Question(recipe, machine, shape, executor=executor))
    # The disk has had its own line.
    problems = [p for p in plan.problems if p is not plan.disk_problem]
    for problem in problems:
        if problem.certain:
            raise UnavailableError(f"it does not fit this machine: {problem.text}", problem.hint)
        output.warn(problem.text, problem.hint)


def _is_small(weights: int, machine: Machine) -> bool:
    memory = min(machine.host_bytes, machine.gpu_bytes) if machine.gpus else machine.host_bytes
    return weights < _SMALL * memory
