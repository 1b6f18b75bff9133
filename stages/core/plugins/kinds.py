"""The kinds of plugins: where the files of each lie, and under which group installed packages offer more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds `stages`: the repository, or site-packages."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One family of plugins and the package its files live in."""

    name: str
    package: str
    needs: tuple[str, ...] = ()
    """Attributes that an object from outside must have, once it was adapted."""
    adapter: str = ""
    """The module whose `adapt(name, object)` makes a plugin of what comes from outside, a plain function for one."""
    shared: tuple[str, ...] = ()
    """Packages beside its stage's that belong to a built-in plugin's identity as far as it imports them."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return ROOT / Path(*self.package.split("."))

    @property
    def own_package(self) -> str:
        """What belongs to a built-in plugin's identity as far as it imports it: `stages.score` for a verifier."""
        return ".".join(self.package.split(".")[:2])

    @property
    def group(self) -> str:
        """The entry-point group of installed packages: `cosmo.verifiers`."""
        return f"cosmo.{self.name}{'es' if self.name.endswith('s') else 's'}"


KINDS = {
    k.name: k
    for k in (
        Kind(
            "dataset",
            "stages.prepare.datasets",
            ("options", "digest", "records", "row"),
            "stages.prepare.datasets.functions",
            ("stages.reading",),
        ),
        Kind("augmentation", "stages.prepare.augmentations", ("works_on", "pairs", "fits", "apply")),
        Kind("engine", "stages.engines", ("needs_policy", "open", "gpus")),
        Kind("environment", "stages.rollout.environments", ("settings", "identity", "open"), "", ("stages.corpus",)),
        Kind("backbone", "stages.models.tiny", ("build",)),
        Kind("verifier", "stages.score.verifiers", (), "stages.score.verifiers.functions"),
        Kind(
            "instruction",
            "stages.judging.instructions",
            ("checks", "version", "members"),
            "stages.judging.instructions.functions",
        ),
        Kind("loss", "stages.train.losses", ("loss", "settings", "aggregation"), "stages.train.losses.functions"),
        Kind("advantage", "stages.train.advantages", ("advantages", "settings"), "stages.train.advantages.functions"),
        Kind("objective", "stages.train.objectives"),
        Kind("metric", "stages.eval.metrics", ("observe", "title"), "stages.eval.metrics.functions"),
        Kind("export", "stages.export.targets", ("write",)),
        Kind("executor", "stages.core.executors", ("config", "do", "shared")),
    )
}
