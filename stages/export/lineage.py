"""Every run behind a policy: the rows it learned from, and the policies it and its rollouts started from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.runs.lineage import earliest_first, policy_run

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

# `org/name`, as the hub writes it.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(slots=True)
class Lineage:
    """What a policy came from."""

    runs: list[RunFolder] = field(default_factory=list)
    """Earliest first; the exported train run last."""
    base: str | None = None
    """The model that training started from, as it was named; None where the trail is lost."""

    @property
    def hub_base(self) -> str | None:
        """The base as a hub name, where it is one."""
        # A relative folder is spelled just like a name on the hub, so it must not be there.
        if self.base and _HUB_NAME.fullmatch(self.base) and not Path(self.base).exists():
            return self.base
        return None


def lineage_of(run: RunFolder) -> Lineage:
    """Walk inputs and start policies back as far as the runs are still there."""
    found = Lineage()

    def parents(folder: RunFolder) -> list[RunFolder]:
        behind = folder.upstream()
        spec = folder.config.get("policy") if folder.stage in ("train", "rollout") else None
        if spec:
            if (parent := policy_run(folder)) is not None:
                behind.append(parent)
            else:
                # The walk goes back in time, so the last one found is where it all began.
                found.base = spec
        return behind

    found.runs = earliest_first([run], parents)
    return found


def settings(runs: list[RunFolder]) -> list[tuple[str, list[str], int]]:
    """(stage, lines of `key = value`, number of runs) for every kind of run, in order of first use.

    A setting that differs between runs of a kind is told by its values, not repeated run by run.
    """
    kinds: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        config = _flat(run.config)
        kind = f"{run.stage} ({config['objective']})" if "objective" in config else run.stage
        kinds.setdefault(kind, []).append(config)
    return [(kind, _merged(configs), len(configs)) for kind, configs in kinds.items() if any(configs)]


def _merged(configs: list[dict[str, Any]]) -> list[str]:
    lines = []
    for key in dict.fromkeys(k for c in configs for k in c):
        values = list(dict.fromkeys(json.dumps(c.get(key), ensure_ascii=False) for c in configs))
        if len(values) == 1:
            lines.append(f"{key} = {values[0]}")
        else:
            shown = ", ".join(values[:3]) + (f", ... ({len(values)} values)" if len(values) > 3 else "")
            lines.append(f"{key} varies: {shown}")
    return lines


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; unset keys left out; places on this machine cut to their last name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        elif value not in (None, "", [], {}):
            flat[f"{prefix}{key}"] = public(value)
    return flat


def public(value: Any) -> Any:
    """The value without this machine's paths or anybody's bucket."""
    if isinstance(value, list):
        return [public(v) for v in value]
    # Cards are published: absolute paths tell of a machine and its user, and a bucket's name of its owner.
    if isinstance(value, str) and (os.path.isabs(value) or value.startswith(("~", "../", "s3:"))):
        return f".../{Path(value).name}"
    return value
