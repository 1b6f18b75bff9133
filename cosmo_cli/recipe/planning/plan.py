"""What a recipe takes of a machine, step by step, and what to change where it does not fit: `cosmo plan`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.planning.demands import Problem, Question, StepPlan
from cosmo_cli.recipe.planning.disk_estimate import MORE_ROOM, estimate
from cosmo_cli.recipe.planning.sampling import sampling_step
from cosmo_cli.recipe.planning.training import training_step, waiting_ranks
from cosmo_cli.recipe.schema import Recipe
from stages.capacity.units import BYTES, Parts, size
from stages.core.errors import UnavailableError, first_line


@dataclass(frozen=True, slots=True)
class RecipePlan:
    """All that a recipe takes."""

    question: Question
    steps: list[StepPlan]
    disk: int
    """Bytes of models and rollouts at the peak."""
    disk_problem: Problem | None

    @property
    def problems(self) -> list[Problem]:
        """Why it can't be done, in order of the steps, each reason once."""
        found = [p for s in self.steps for p in s.problems] + ([self.disk_problem] if self.disk_problem else [])
        return list({p.text: p for p in found}.values())

    @property
    def notes(self) -> list[str]:
        """What is slower than it could be, each once."""
        return list(dict.fromkeys(note for s in self.steps for note in s.notes))


def plan_recipe(question: Question) -> RecipePlan:
    """Every kind of step of a recipe once: turns of a phase are alike."""
    recipe = question.recipe
    steps: list[StepPlan] = []
    for phase in recipe.phases:
        if phase.needs_rollouts:
            step = sampling_step(question, f"{phase.name} rollout", phase.rollout, phase)
            if phase.iterations > 1 and (held := waiting_ranks(question, phase)):
                _add_host(step, held, question.machine.host_bytes)
            steps.append(step)
        steps.append(training_step(question, phase))
    if recipe.evaluate.after:
        steps.append(sampling_step(question, "evaluate rollout", recipe.evaluate.rollout, None))
    disk = estimate(recipe, _weights_written(question))
    return RecipePlan(question, steps, disk, _disk_problem(disk, question.machine.disk_bytes))


def _add_host(step: StepPlan, held: Parts, limit: int) -> None:
    """What others hold of the host's memory meanwhile."""
    fitted = step.host_bytes <= limit
    step.host |= held
    if fitted and step.host_bytes > limit:
        what = f"{size(step.host_bytes)} of memory beside the ranks that wait, and there are {size(limit)}"
        step.problems.append(Problem(f"{step.name} needs {what}", "no setting of cosmo makes it fit", certain=False))


def _weights_written(question: Question) -> int:
    """Bytes of a policy's weights as training writes them: in its own dtype, whatever it was started from."""
    dtypes = [question.config("train", p.train).dtype for p in question.recipe.phases]
    return question.shape.parameters * max((BYTES[d] for d in dtypes), default=0)


def _disk_problem(need: int, free: int) -> Problem | None:
    if need <= free:
        return None
    return Problem(
        f"the run needs about {size(need)} of disk, and {size(free)} are free",
        MORE_ROOM,
    )


def config_folder(policy: str) -> Path:
    """The folder with a policy's config.json, its weights there or not; UnavailableError where there is none.

    Of a name on the hub the config alone is fetched, and only where no earlier one is in the cache.
    """
    path = Path(policy).expanduser()
    for folder in (path, path / "policy"):
        if (folder / "config.json").is_file() and not (folder / "manifest.json").is_file():
            return folder
    if policy.startswith("tiny:") or path.exists() or policy.count("/") != 1:
        from stages.models.policy_ref import resolve_policy

        return resolve_policy(policy).path
    return _from_hub(policy)


def _from_hub(policy: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = policy.partition("@")
    asked: dict[str, Any] = {"repo_id": repo, "filename": "config.json", "revision": revision or None}
    try:
        try:
            return Path(hf_hub_download(**asked, local_files_only=True)).parent
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(**asked, etag_timeout=10)).parent
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UnavailableError(
            f"the config of {policy} can't be had: {first_line(error)}",
            f"put its config.json into a folder: --set policy=FOLDER, or hf download {repo} config.json",
        ) from None


HEADER = ["", "a GPU", "host", ""]


def table(plan: RecipePlan) -> list[tuple[str, list[list[str]]]]:
    """For each step a line that names it, and its parts with what they come to, in the columns of HEADER."""
    found = [(f"{step.name}: {step.how}", _rows(step)) for step in plan.steps]
    free = f"of {size(plan.question.machine.disk_bytes)}"
    return [*found, ("disk, at the fullest", [["models and rollouts", "", size(plan.disk), free]])]


def _rows(step: StepPlan) -> list[list[str]]:
    rows = [[name, size(number), "", ""] for name, number in step.gpu.get("step", {}).items()]
    for name, parts in step.gpu.items():
        if name != "step":
            rows.append([name, size(sum(parts.values())), "", "not at the same time"])
    rows += [[name, "", size(number), ""] for name, number in step.host.items()]
    if step.gpu or step.host:
        gpu = [size(step.gpu_bytes), f"of {size(step.gpu_limit)} a GPU"] if step.gpu else ["", ""]
        rows.append(["at its fullest", gpu[0], size(step.host_bytes) if step.host else "", gpu[1]])
    return rows


def as_json(plan: RecipePlan) -> dict[str, Any]:
    """The same for programs: bytes, not words."""
    question = plan.question
    return {
        "recipe": question.recipe.name,
        "policy": question.recipe.policy,
        "machine": asdict(question.machine),
        "model": asdict(question.shape),
        "prompt_tokens": question.prompt_tokens,
        "steps": [{**asdict(step), "gpu_bytes": step.gpu_bytes, "host_bytes": step.host_bytes} for step in plan.steps],
        "disk_bytes": plan.disk,
        "problems": [asdict(problem) for problem in plan.problems],
        "notes": plan.notes,
        "fits": not plan.problems,
    }


def headline(recipe: Recipe, question: Question) -> str:
    """What is asked: the model, the machine, the longest prompt that is reckoned with."""
    machine, shape = question.machine, question.shape
    gpus = f"{machine.gpus} GPUs of {size(machine.gpu_bytes)}" if machine.gpus else "no GPU"
    return (
        f"{recipe.policy}: {_count(shape.parameters)} parameters, {_count(shape.vision)} in its vision tower; "
        f"{gpus}, {size(machine.host_bytes)} of memory; prompts of up to {question.prompt_tokens} tokens"
    )


def _count(parameters: int) -> str:
    """As people say it: `8.29 billion`, `3.93 million`."""
    return f"{parameters / 1e9:.3g} billion" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"
